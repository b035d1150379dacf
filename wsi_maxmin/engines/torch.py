"""PyTorch, on any device."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wsi_maxmin.checkpoint import Checkpoint
from wsi_maxmin.engines._base import Engine, Meter, Outputs, Pending, Pixels
from wsi_maxmin.errors import InputError

PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16"), "mps": ("fp32",)}
NEEDS = ("torch", "")

FORMATS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(Engine):
    """A method as it was trained, under autocast.

    On a CPU tiles go through the model one by one: that is faster there (activations stay in the cache), and the result
    cannot depend on the batch. On a GPU the next batch is under way while the outputs of the last are fetched.

    Parameters
    ----------
    checkpoint : Checkpoint
    device : torch.device
    precision : {"fp32", "bf16", "fp16"}
    downsample : int

    Raises
    ------
    InputError
        If the model's outputs of different tiles cannot be compared.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, device: torch.device, precision: str, downsample: int) -> None:
        self.precision = precision
        self.depth = 1 if device.type == "cpu" else 2
        self._model = checkpoint.build().on(device)
        if self._model.refuses_tiles:
            raise InputError("this model cannot be run over slides", remedy=self._model.refuses_tiles)
        self._device, self._downsample = device, downsample

    @torch.inference_mode()
    def submit(self, images: Sequence[Pixels]) -> Pending:
        """Queue the batch on the device; on a CPU it is computed here."""
        batch = torch.from_numpy(np.stack(images))
        if self._device.type != "cuda":
            with self.meter.computing():
                outputs = Outputs(*(value.cpu().numpy() for value in self._run(batch)))
            return lambda: outputs
        batch = batch.pin_memory()
        marks = [_mark()]
        batch = batch.to(self._device, non_blocking=True)
        marks.append(_mark())
        masks, logits = self._run(batch)
        marks.append(_mark())
        return _fetch(masks, logits, marks, self.meter)

    def _run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return soft masks and class scores of (B, H, W, 3) uint8, on the device."""
        batch = batch.to(self._device).permute(0, 3, 1, 2)
        try:
            parts = [self._forward(part) for part in (batch.split(1) if self._device.type == "cpu" else (batch,))]
        except torch.OutOfMemoryError as error:
            raise InputError(
                "the device has too little memory for a batch",
                got=f"{len(batch)} tiles on {self._device} ({str(error).partition('.')[0]})",
                remedy=f"--batch-size {max(len(batch) // 2, 1)}",
            ) from None
        masks, logits = (torch.cat(outputs) for outputs in zip(*parts, strict=True))
        return masks, logits

    def _forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        number_format = FORMATS[self.precision]
        with torch.autocast(self._device.type, dtype=number_format, enabled=number_format is not None):
            output = self._model(image)
        scores = output.logits
        logits = torch.empty(len(image), 0, device=image.device) if scores is None else scores.float()
        return avg_pool2d(output.mask.float(), self._downsample).half(), logits


def _mark() -> torch.cuda.Event:
    """Let the GPU note the time when it comes to this point."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _fetch(masks: Tensor, logits: Tensor, marks: list[torch.cuda.Event], meter: Meter) -> Pending:
    """Copy outputs of a GPU into pinned memory, beside what the GPU does next.

    `marks` are before and after the pixels were copied, and after the model.
    """
    kept = [torch.empty(value.shape, dtype=value.dtype, pin_memory=True) for value in (masks, logits)]
    for target, value in zip(kept, (masks, logits), strict=True):
        target.copy_(value, non_blocking=True)
    marks = [*marks, _mark()]

    def wait() -> Outputs:
        marks[-1].synchronize()
        sent, computed, fetched = (before.elapsed_time(after) / 1000 for before, after in pairwise(marks))
        meter.add(computing=computed, transfer=sent + fetched)
        return Outputs(*(value.numpy() for value in kept))

    return wait


def fast(device: torch.device) -> tuple[str, ...]:
    """Return the formats to choose from; on a CPU bf16 is for those who ask, since torch may emulate it."""
    half = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return ("fp32", "bf16") if half else ("fp32",)


def start_seconds(checkpoint: Checkpoint) -> float:  # noqa: ARG001 - an engine's form
    """Return about how long it takes to be ready."""
    return 0.5


def open(checkpoint: Checkpoint, *, device: torch.device, precision: str, downsample: int) -> TorchEngine:
    """Make the engine."""
    return TorchEngine(checkpoint, device, precision, downsample)
