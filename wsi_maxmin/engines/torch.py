"""PyTorch, on any device."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wsi_maxmin.engines._base import Engine, Outputs, Pending, Pixels
from wsi_maxmin.errors import InputError
from wsi_maxmin.slide_model import SlideModel

PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16"), "mps": ("fp32",)}
NEEDS = ("torch", "")

_FORMATS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(Engine):
    """A method as it was trained, under autocast.

    On a CPU tiles go through the model one by one: that is faster there (activations stay in the cache), and the result
    cannot depend on the batch. On a GPU the next batch is under way while the outputs of the last are fetched.

    Parameters
    ----------
    model : SlideModel
    device : torch.device
    precision : {"fp32", "bf16", "fp16"}
    downsample : int

    Raises
    ------
    InputError
        If the model's outputs of different tiles cannot be compared.
    """

    name = "torch"

    def __init__(self, model: SlideModel, device: torch.device, precision: str, downsample: int) -> None:
        self.precision = precision
        self.depth = 1 if device.type == "cpu" else 2
        self._model = model.build().on(device)
        if self._model.refuses_tiles:
            raise InputError("this model cannot be run over slides", remedy=self._model.refuses_tiles)
        self._device, self._downsample = device, downsample

    @torch.inference_mode()
    def submit(self, images: Sequence[Pixels]) -> Pending:
        """Queue the batch on the device; on a CPU it is computed here."""
        batch = torch.from_numpy(np.stack(images))
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        try:
            parts = [self._forward(part) for part in (batch.split(1) if self._device.type == "cpu" else (batch,))]
        except torch.OutOfMemoryError as error:
            raise InputError(
                "the device has too little memory for a batch",
                got=f"{len(images)} tiles on {self._device} ({str(error).partition('.')[0]})",
                remedy=f"--batch-size {max(len(images) // 2, 1)}",
            ) from None
        masks, logits = (torch.cat(outputs) for outputs in zip(*parts, strict=True))
        if self._device.type == "cuda":
            return _fetch(masks, logits)
        outputs = Outputs(masks.cpu().numpy(), logits.cpu().numpy())
        return lambda: outputs

    def _forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        number_format = _FORMATS[self.precision]
        with torch.autocast(self._device.type, dtype=number_format, enabled=number_format is not None):
            output = self._model(image)
        scores = output.logits
        logits = torch.empty(len(image), 0, device=image.device) if scores is None else scores.float()
        return _pool(output.mask.float(), self._downsample).half(), logits


def _pool(mask: Tensor, side: int) -> Tensor:
    """Average soft masks (B, C, H, W) over side² pixels; C is 0 where there is no mask."""
    if not mask.shape[1]:
        return mask.new_empty(len(mask), 0, *(length // side for length in mask.shape[2:]))
    return avg_pool2d(mask, side)


def _fetch(masks: Tensor, logits: Tensor) -> Pending:
    """Copy outputs of a GPU into pinned memory, beside what the GPU does next."""
    kept = [torch.empty(value.shape, dtype=value.dtype, pin_memory=True) for value in (masks, logits)]
    for target, value in zip(kept, (masks, logits), strict=True):
        target.copy_(value, non_blocking=True)
    there = torch.cuda.Event()
    there.record()

    def wait() -> Outputs:
        there.synchronize()
        return Outputs(*(value.numpy() for value in kept))

    return wait


def fast(device: torch.device) -> tuple[str, ...]:
    """Return the formats to choose from; on a CPU bf16 is for those who ask, since torch may emulate it."""
    half = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return ("fp32", "bf16") if half else ("fp32",)


def start_seconds(model: SlideModel) -> float:  # noqa: ARG001 - an engine's form
    """Return about how long it takes to be ready."""
    return 0.5


def open(model: SlideModel, *, device: torch.device, precision: str, downsample: int) -> TorchEngine:
    """Make the engine."""
    return TorchEngine(model, device, precision, downsample)
