"""What a training consists of while it runs, and how it goes on from its last epoch."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_maxmin.assets import find_model
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint, state_of
from wsi_maxmin.config import RunConfig
from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.models import WeakSegmenter, build_model
from wsi_maxmin.training._precision import Precision
from wsi_maxmin.training._ranks import Ranks
from wsi_maxmin.training._record import find_board


@dataclass(slots=True, kw_only=True)
class Best:
    """The best epoch so far.

    Attributes
    ----------
    epoch : int
        Counted from 1; 0 before the first.
    score : float or None
        Its score on validation; None where the method gives none, and the last epoch is the best.
    """

    epoch: int = 0
    score: float | None = -math.inf

    def update(self, epoch: int, score: float | None) -> None:
        """Take an epoch that is as good as the best, or cannot be compared."""
        if score is None or self.score is None or score >= self.score:
            self.epoch, self.score = epoch, score


@dataclass(slots=True, kw_only=True)
class Training:
    """A model and all that changes beside it.

    Attributes
    ----------
    config : RunConfig
    device : torch.device
    ranks : Ranks
    model : WeakSegmenter
    network : Module
        The model, or what averages its gradients over the ranks.
    optimizer : SGD
    precision : Precision
    done : int
        Epochs that are done.
    best : Best
    """

    config: RunConfig
    device: torch.device
    ranks: Ranks
    model: WeakSegmenter
    network: nn.Module
    optimizer: torch.optim.SGD
    precision: Precision
    done: int = 0
    best: Best = field(default_factory=Best)

    @property
    def score_name(self) -> str:
        """What the best epoch is chosen by: masks where the method has learnt from masks, else classes."""
        return "f1" if self.model.SUPERVISION == "pixel" else "accuracy"

    def checkpoint(self, metrics: dict[str, Any], facts: dict[str, Any]) -> Checkpoint:
        """Copy everything that is needed to use the model, or to go on."""
        return Checkpoint(
            config=self.config,
            weights=state_of(self.model),
            epoch=self.done,
            metrics=metrics,
            optimizer=self._momentum() | self.precision.state(),
            facts={**facts, "processes": self.ranks.count},
        )

    def _momentum(self) -> dict[str, Tensor]:
        states = self.optimizer.state
        named = ((name, states.get(value, {}).get("momentum_buffer")) for name, value in self.model.named_parameters())
        return {name: buffer.detach().to("cpu", copy=True) for name, buffer in named if buffer is not None}


def check_method(config: RunConfig, device: torch.device) -> bool:
    """Find what would stop a training at its start, weights that are not there among it, before anything is written.

    Returns
    -------
    bool
        Whether the method learns from masks.

    Raises
    ------
    InputError, MissingExtraError
        If the method cannot be made or has nothing to train, or the device or a package for it is missing.
    """
    Precision(config.training.precision, device)
    if config.training.tensorboard:
        find_board()
    return _build(config).SUPERVISION == "pixel"


def start(config: RunConfig, device: torch.device, ranks: Ranks, last: Path) -> Training:
    """Make a model and its optimiser, as they were at the end of an interrupted run if `last` is there.

    Raises
    ------
    InputError
        If the method has nothing to train, or the device cannot compute as the config says.
    OutputExistsError
        If `last` is of a run of another config, or of another number of processes.
    """
    torch.manual_seed(config.seed)
    model = _build(config).on(device)
    precision = Precision(config.training.precision, device)
    optimizer = _optimizer(model, config)
    found = load_checkpoint(last) if last.is_file() else None
    if found is not None:
        _compare(found, config, ranks, last)
        model.load_state_dict(found.weights)
        precision.load(found.optimizer)
        for name, parameter in model.named_parameters():
            if name in found.optimizer:
                optimizer.state[parameter]["momentum_buffer"] = found.optimizer[name].to(parameter.device)
    training = Training(
        config=config,
        device=device,
        ranks=ranks,
        model=model,
        network=ranks.wrap(model),
        optimizer=optimizer,
        precision=precision,
    )
    if found is not None:
        training.done = found.epoch
        training.best = Best(epoch=found.metrics["best_epoch"], score=found.metrics[f"best_{training.score_name}"])
    return training


def _build(config: RunConfig) -> WeakSegmenter:
    data = config.data
    model = build_model(
        config.model,
        len(data.classes),
        positive=data.classes.index(data.positive),
        load_encoder_weights=config.training.start_from is None,
    )
    if config.training.start_from is not None:
        _load_weights(model, config.training.start_from)
    if not any(value.requires_grad for value in model.parameters()):
        raise InputError(f"{config.model.name} has nothing to train", remedy="evaluate its config instead")
    return model


def _load_weights(model: WeakSegmenter, source: str) -> None:
    """Take another model's weights and statistics, but no pixel values or schedules: those are the config's own."""
    weights = load_checkpoint(find_model(source)).weights
    own = {name for name, _ in model.named_buffers(recurse=False)}
    wanted = {name: value for name, value in model.state_dict().items() if name not in own}
    wrong = [name for name, value in wanted.items() if name not in weights or weights[name].shape != value.shape]
    if wrong or set(weights) - set(wanted) - own:
        raise InputError(
            "training.start_from is a model of another method, encoder or number of classes",
            got=f"{source}, {len(wrong)} of {len(wanted)} tensors missing or of another shape",
            remedy="name a model that was trained with this config's model section",
        )
    model.load_state_dict({name: weights[name].to(value.dtype) for name, value in wanted.items()}, strict=False)


def _optimizer(model: nn.Module, config: RunConfig) -> torch.optim.SGD:
    training = config.training
    return torch.optim.SGD(
        model.parameters(),
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.momentum > 0,
    )


def _compare(found: Checkpoint, config: RunConfig, ranks: Ranks, last: Path) -> None:
    before, now = found.config.identity(), config.identity()
    changed = [key for key in now if before[key] != now[key]]
    processes = found.facts.get("processes", 1)
    if processes != ranks.count:
        changed.append(f"the number of processes, from {processes} to {ranks.count}")
    if changed:
        raise OutputExistsError(
            f"{last.parent} holds a run of another config",
            got=f"a change of {', '.join(changed)}",
            remedy="use another folder",
        )
