"""PyTorch, on any device."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wsi_maxmin.engines._base import Engine, Meter, Outputs, Pending, Pixels
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import TileModel
from wsi_maxmin.slide_model import SlideModel

PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16"), "mps": ("fp32",)}
NEEDS = ("torch", "")

_BF16_ON_CPU = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
FORMATS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


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
    compiled : bool
        Use `torch.compile`, for one shape: on a GPU a smaller batch is filled up to the largest so far.

    Raises
    ------
    InputError
        If the model's outputs of different tiles cannot be compared, or it cannot be compiled here.
    """

    name = "torch"

    def __init__(
        self, model: SlideModel, device: torch.device, precision: str, downsample: int, *, compiled: bool = False
    ) -> None:
        self.precision = precision
        self.depth = 1 if device.type == "cpu" else 2
        self._model = model.build().on(device)
        if self._model.refuses_tiles:
            raise InputError("this model cannot be run over slides", remedy=self._model.refuses_tiles)
        self._device, self._downsample = device, downsample
        self._batch = 0
        self._compute: Callable[[Tensor], tuple[Tensor, Tensor]] = self._forward
        if compiled:
            self._compile(model.slide.tile_px)

    @torch.inference_mode()
    def submit(self, images: Sequence[Pixels]) -> Pending:
        """Queue the batch on the device; on a CPU it is computed here."""
        count, batch = len(images), torch.from_numpy(np.stack(self._filled(images)))
        if self._device.type != "cuda":
            with self.meter.computing():
                outputs = Outputs(*(value[:count].cpu().numpy() for value in self._run(batch)))
            return lambda: outputs
        batch = batch.pin_memory()
        marks = [_mark()]
        batch = batch.to(self._device, non_blocking=True)
        marks.append(_mark())
        masks, logits = self._run(batch)
        marks.append(_mark())
        return _fetch(masks[:count], logits[:count], marks, self.meter)

    def _run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return soft masks and class scores of (B, H, W, 3) uint8, on the device."""
        batch = batch.to(self._device).permute(0, 3, 1, 2)
        try:
            parts = [self._compute(part) for part in (batch.split(1) if self._device.type == "cpu" else (batch,))]
        except torch.OutOfMemoryError as error:
            raise InputError(
                "the device has too little memory for a batch",
                got=f"{len(batch)} tiles on {self._device} ({str(error).partition('.')[0]})",
                remedy=f"--batch-size {max(len(batch) // 2, 1)}",
            ) from None
        masks, logits = (torch.cat(outputs) for outputs in zip(*parts, strict=True))
        return masks, logits

    def _filled(self, images: Sequence[Pixels]) -> Sequence[Pixels]:
        """Repeat the last image up to the largest batch so far, where another shape would be compiled anew."""
        if self._device.type == "cpu" or self._compute == self._forward:
            return images
        self._batch = max(self._batch, len(images))
        return [*images, *[images[-1]] * (self._batch - len(images))]

    @torch.inference_mode()
    def _compile(self, side_px: int) -> None:
        """Compile for batches of one shape, and try it on a white tile."""
        check_compiles(self._model)
        self._compute = torch.compile(self._forward, dynamic=False)
        try:
            white = torch.full((1, side_px, side_px, 3), 255, dtype=torch.uint8, device=self._device)
            self._compute(white.permute(0, 3, 1, 2))  # laid out as tiles are, else it would be compiled anew for them
        except Exception as error:  # whatever torch and compilers may raise
            raise InputError(
                "torch.compile fails here",
                got=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
                remedy="install a C++ compiler (g++ or clang++), or leave --compile out",
            ) from error

    def _forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        number_format = FORMATS[self.precision]
        with torch.autocast(self._device.type, dtype=number_format, enabled=number_format is not None):
            output = self._model(image)
        scores = output.logits
        logits = torch.empty(len(image), 0, device=image.device) if scores is None else scores.float()
        return _pool(output.mask.float(), self._downsample).half(), logits


def check_compiles(built: TileModel) -> None:
    """See whether a model is of a kind that can be compiled.

    Raises
    ------
    InputError
        If it is not.
    """
    if refusal := built.refuses_compiling:
        raise InputError(refusal, remedy="leave --compile out")


def _pool(mask: Tensor, side: int) -> Tensor:
    """Average soft masks (B, C, H, W) over side² pixels; C is 0 where there is no mask."""
    if not mask.shape[1]:
        return mask.new_empty(len(mask), 0, *(length // side for length in mask.shape[2:]))
    return avg_pool2d(mask, side)


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
    """Return the formats to choose from: bf16 where the device has it, since torch may emulate it."""
    if device.type == "cuda":
        half = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        half = device.type == "cpu" and any(_cpu_capabilities().get(name) for name in _BF16_ON_CPU)
    return ("fp32", "bf16") if half else ("fp32",)


def _cpu_capabilities() -> Mapping[str, Any]:
    """Return what the processor has; older torch does not say."""
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return found


def start_seconds(model: SlideModel) -> float:  # noqa: ARG001 - an engine's form
    """Return about how long it takes to be ready."""
    return 0.5


def open(
    model: SlideModel, *, device: torch.device, precision: str, downsample: int, compiled: bool = False
) -> TorchEngine:
    """Make the engine; compiling takes up to a minute."""
    return TorchEngine(model, device, precision, downsample, compiled=compiled)
