"""A trained model in one safetensors file: weights, config, classes, threshold and run facts. Nothing is unpickled."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wsi_maxmin.config import RunConfig, SlideConfig, parse
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import WeakSegmenter, build_model

FORMAT = "wsi-maxmin/1"
_WEIGHTS = "model."
_RECORD = "wsi_maxmin"
_RECORDED = ("config", "epoch", "metrics", "facts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything that is needed to use a model, or to go on training it.

    Attributes
    ----------
    config : RunConfig
        Resolved: it names the method, its parameters, classes, positive class, mpp, tile size and threshold.
    weights : dict of str to Tensor
        The model's state, running statistics, σ and t included.
    epoch : int
        Epochs done.
    metrics : dict
        Of this epoch.
    optimizer : dict of str to Tensor
        Momentum buffers by name; empty in a model made for use.
    facts : dict
        How it was trained: versions, seed, data.
    """

    config: RunConfig
    weights: dict[str, Tensor]
    epoch: int
    metrics: dict[str, Any]
    optimizer: dict[str, Tensor]
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the run that made it."""
        return self.config.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the scores."""
        return self.config.data.classes

    @property
    def positive(self) -> str:
        """The class that is mapped."""
        return self.config.data.positive

    @property
    def slide(self) -> SlideConfig:
        """How it is to be run over slides."""
        return self.config.slide

    @property
    def has_masks(self) -> bool:
        """Always: methods of this package give soft masks."""
        return True

    @property
    def about(self) -> dict[str, str]:
        """Architecture, method, summary and notes."""
        config = self.config
        return {
            "architecture": config.model.encoder.name,
            "method": config.model.name,
            "summary": config.summary,
            "notes": config.notes,
        }

    def fingerprint(self) -> str:
        """Return a short digest of weights and config: the same model always has the same."""
        digest = hashlib.sha256(self.config.model_dump_json().encode())
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(self.weights[name].contiguous().numpy().tobytes())
        return f"{self.config.name}:{digest.hexdigest()[:16]}"

    def build(self) -> WeakSegmenter:
        """Make the model, in eval mode on the CPU, in single precision."""
        data = self.config.data
        positive = data.classes.index(data.positive)
        model = build_model(self.config.model, len(data.classes), positive=positive, load_encoder_weights=False)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise InputError("the checkpoint's weights do not fit its own config", got=str(error)) from None
        return model.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a file of that name is replaced only once the new one is whole."""
    tensors = {_WEIGHTS + name: value.contiguous() for name, value in checkpoint.weights.items()}
    tensors |= {f"optimizer.{name}": value.contiguous() for name, value in checkpoint.optimizer.items()}
    record = {
        "format": FORMAT,
        "config": checkpoint.config.model_dump(mode="json"),
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "facts": checkpoint.facts,
    }
    partial = path.with_name(f".{path.name}.partial")
    # One entry: safetensors writes several in random order, and the same model must be the same file.
    save_file(tensors, partial, metadata={_RECORD: json.dumps(record, sort_keys=True)})
    partial.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    InputError
        If the file is missing, is not a safetensors file, was not written by `save_checkpoint`, or has no good config.
    """
    expected = "a .safetensors file that `wsi-maxmin train` wrote"
    if not path.is_file():
        raise InputError("no such model", got=path, expected=expected)
    try:
        with safe_open(path, framework="pt") as file:
            record: Any = json.loads((file.metadata() or {}).get(_RECORD, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError("the model cannot be read", got=f"{path} ({error})", expected=expected) from None
    made_by = record.get("format") if isinstance(record, dict) else None
    if made_by != FORMAT:
        raise InputError("not a model of wsi-maxmin", got=f"{path}, format {made_by}", expected=FORMAT)
    if missing := [name for name in _RECORDED if name not in record]:
        raise InputError(f"the record of {path} is not whole", got=f"no {', '.join(missing)}", expected=expected)
    return Checkpoint(
        config=parse(RunConfig, record["config"], source=str(path)),
        weights={name.removeprefix(_WEIGHTS): value for name, value in tensors.items() if name.startswith(_WEIGHTS)},
        epoch=record["epoch"],
        metrics=record["metrics"],
        optimizer={
            name.removeprefix("optimizer."): value for name, value in tensors.items() if name.startswith("optimizer.")
        },
        facts=record["facts"],
    )


def for_use(checkpoint: Checkpoint) -> Checkpoint:
    """Drop what only training needs and store the learned weights in half precision.

    Statistics (buffers of normalisation, σ, t) stay in single precision: they are few, and rounding them shifts masks.
    """
    buffers = {name for name, _ in checkpoint.build().named_buffers()}
    weights = {
        name: value.half() if name not in buffers and value.is_floating_point() else value
        for name, value in checkpoint.weights.items()
    }
    return Checkpoint(
        config=checkpoint.config,
        weights=weights,
        epoch=checkpoint.epoch,
        metrics=checkpoint.metrics,
        optimizer={},
        facts=checkpoint.facts,
    )


def state_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copy a model's state to the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}
