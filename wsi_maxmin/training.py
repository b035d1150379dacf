"""Train a weakly supervised model from image-level labels: one straight loop over epochs."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, state_of
from wsi_maxmin.config import RunConfig, TrainingConfig
from wsi_maxmin.data import Sample
from wsi_maxmin.data._dataset import Item, SampleDataset, collate
from wsi_maxmin.errors import DivergedError, OutputExistsError
from wsi_maxmin.metrics import ErrorRate
from wsi_maxmin.models import WeakSegmenter, build_model
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import environment

BEST = "model.safetensors"
LAST = "last.safetensors"
METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a finished training leaves.

    Attributes
    ----------
    model : Path
        Checkpoint of the best epoch.
    epoch : int
        That epoch, counted from 1.
    accuracy : float
        Its validation accuracy, per cent.
    """

    model: Path
    epoch: int
    accuracy: float


def train(
    config: RunConfig,
    train_samples: Sequence[Sample],
    valid_samples: Sequence[Sample],
    out: Path,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train, and keep the epoch of the best validation accuracy, ties to the latest.

    Masks are never opened. If `out` holds ``last.safetensors`` of the same config, training goes on after it, with
    the same result (on a CPU to the bit) as if it had never stopped.

    Raises
    ------
    DivergedError
        If the loss is no longer a number.
    OutputExistsError
        If `out` holds a run of another config.
    """
    progress = progress or Quiet()
    torch.manual_seed(config.seed)
    model = build_model(config.model, len(config.data.classes)).on(device)
    optimizer = _optimizer(model, config.training)
    done, best = _resume(model, optimizer, config, out)
    dataset = SampleDataset(
        train_samples, shorter_side_px=config.data.shorter_side_px, augment=config.augment, seed=config.seed
    )
    valid = SampleDataset(valid_samples, shorter_side_px=config.data.shorter_side_px)
    for epoch in range(done, config.training.epochs):
        rate = learning_rate(config.training, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = _train_epoch(model, optimizer, dataset, config, epoch, device, progress)
        model.end_epoch()
        accuracy = validate(model, valid, config.training, device)
        metrics = {"epoch": epoch + 1, "learning_rate": rate, **losses, "valid_accuracy": accuracy}
        if accuracy >= best["accuracy"]:
            best = {"accuracy": accuracy, "epoch": epoch + 1}
        metrics |= {"best_accuracy": best["accuracy"], "best_epoch": best["epoch"]}
        checkpoint = Checkpoint(
            config=config,
            weights=state_of(model),
            epoch=epoch + 1,
            metrics=metrics,
            optimizer=_momentum(model, optimizer),
            facts={"environment": environment(), "train": len(train_samples), "valid": len(valid_samples)},
        )
        if best["epoch"] == epoch + 1:
            save_checkpoint(out / BEST, checkpoint)
        with (out / METRICS).open("a", encoding="utf-8") as log:
            log.write(json.dumps(metrics) + "\n")
        save_checkpoint(out / LAST, checkpoint)
    return TrainingResult(model=out / BEST, epoch=best["epoch"], accuracy=best["accuracy"])


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0."""
    return max(config.learning_rate * config.decay ** (epoch // config.decay_every), config.learning_rate_floor)


def epoch_order(labels: Sequence[int], *, balance: bool, seed: int, epoch: int) -> list[int]:
    """Return the order in which an epoch shows the samples.

    Balanced, an epoch is as long as before but shows every class equally often (to within one): shuffled samples of a
    rare class come round again, those of a frequent class take turns over the epochs' random orders.
    """
    rng = np.random.default_rng([seed, epoch])
    indices = np.arange(len(labels))
    if not balance:
        return [int(index) for index in rng.permutation(indices)]
    classes = [indices[np.asarray(labels) == label] for label in sorted(set(labels))]
    share = math.ceil(len(labels) / len(classes))
    drawn = [
        np.concatenate([rng.permutation(members) for _ in range(math.ceil(share / len(members)))])[:share]
        for members in classes
    ]
    return [int(index) for index in rng.permutation(np.concatenate(drawn))]


@torch.inference_mode()
def validate(model: WeakSegmenter, dataset: SampleDataset, config: TrainingConfig, device: torch.device) -> float:
    """Return the classification accuracy in per cent, image by image: their sizes may differ."""
    model.eval()
    error = ErrorRate()
    for item in DataLoader(dataset, batch_size=1, num_workers=config.workers):
        logits = model(_to(item.image, device)).logits
        error.update(logits.argmax(dim=1).cpu().numpy(), item.label.numpy())
    return 100 * (1 - error.wrong / error.total)


def _train_epoch(
    model: WeakSegmenter,
    optimizer: torch.optim.Optimizer,
    dataset: SampleDataset,
    config: RunConfig,
    epoch: int,
    device: torch.device,
    progress: Progress,
) -> dict[str, float]:
    model.train()
    torch.manual_seed(int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0]))
    dataset.epoch = epoch
    sums: dict[str, float] = {}
    title = f"epoch {epoch + 1}/{config.training.epochs}"
    labels = [sample.label for sample in dataset.samples]
    order = epoch_order(labels, balance=config.training.balance_classes, seed=config.seed, epoch=epoch)
    with progress.track(title, len(order), unit="image") as advance:
        for item in _loader(dataset, order, config.training):
            terms = model.loss(model(_to(item.image, device)), item.label.to(device))
            optimizer.zero_grad()
            terms.total.backward()
            optimizer.step()
            for name, value in {"total": terms.total.detach(), **terms.terms}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(item.label)
            if not math.isfinite(sums["total"]):
                raise DivergedError(
                    f"the loss is not a number in epoch {epoch + 1}",
                    got=str({name: float(value) for name, value in terms.terms.items()}),
                    remedy="lower training.learning_rate",
                )
            advance(len(item.label), note=f"loss {float(terms.total.detach()):.3f}")
    return {f"loss_{name}": value / len(order) for name, value in sums.items()}


def _loader(dataset: SampleDataset, order: list[int], config: TrainingConfig) -> Iterator[Item]:
    loader = DataLoader(
        dataset, batch_size=config.batch_size, sampler=order, num_workers=config.workers, collate_fn=collate
    )
    return iter(loader)


def _to(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    return image.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)


def _optimizer(model: WeakSegmenter, config: TrainingConfig) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )


def _momentum(model: WeakSegmenter, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    named = ((name, optimizer.state.get(value, {}).get("momentum_buffer")) for name, value in model.named_parameters())
    return {name: buffer.detach().to("cpu", copy=True) for name, buffer in named if buffer is not None}


def _resume(
    model: WeakSegmenter, optimizer: torch.optim.Optimizer, config: RunConfig, out: Path
) -> tuple[int, dict[str, Any]]:
    """Load the last epoch of an interrupted run; return the number of epochs done and the best so far."""
    if not (out / LAST).is_file():
        return 0, {"accuracy": -1.0, "epoch": 0}
    last = load_checkpoint(out / LAST)
    before, now = last.config.identity(), config.identity()
    if before != now:
        changed = [key for key in now if before[key] != now[key]]
        raise OutputExistsError(
            f"{out} holds a run of another config",
            got=f"a change of {', '.join(changed)}",
            remedy="use another folder",
        )
    model.load_state_dict(last.weights)
    for name, parameter in model.named_parameters():
        if name in last.optimizer:
            optimizer.state[parameter]["momentum_buffer"] = last.optimizer[name].to(parameter.device)
    # A run that was stopped between the two writes has logged an epoch that its checkpoint lacks.
    log = out / METRICS
    logged = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    log.write_text("".join(logged[: last.epoch]), encoding="utf-8")
    return last.epoch, {"accuracy": last.metrics["best_accuracy"], "epoch": last.metrics["best_epoch"]}
