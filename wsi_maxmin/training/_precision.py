"""Mixed precision: the number format of the forward pass, and the scale that keeps fp16 gradients above 0."""

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wsi_maxmin.errors import InputError
from wsi_maxmin.models import SegOutput

_FORMATS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_SCALE, _GROWTH = "precision.scale", "precision.growth"


class Precision:
    """How a training computes. Weights, gradients, momentum and losses are fp32 in every case.

    Parameters
    ----------
    name : {"fp32", "bf16", "fp16"}
    device : torch.device

    Raises
    ------
    InputError
        If the device does not compute in that format.
    """

    def __init__(self, name: Literal["fp32", "bf16", "fp16"], device: torch.device) -> None:
        self._format, self._device = _FORMATS[name], device
        if self._format is not None and not _trains(self._format, device):
            raise InputError(
                "the device cannot train in this precision",
                got=f"training.precision={name} on {device}",
                remedy="--set training.precision=fp32",
            )
        # Only fp16 has so small a range that gradients need a scale; otherwise it does nothing.
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def forward(self, network: nn.Module, image: Tensor) -> SegOutput:
        """Run a network in the format; the output is fp32, since losses add up over all pixels of a mask."""
        with torch.autocast(self._device.type, dtype=self._format, enabled=self._format is not None):
            output: SegOutput = network(image)
        values: dict[str, Any] = {
            field.name: _full(getattr(output, field.name)) for field in dataclasses.fields(output)
        }
        return dataclasses.replace(output, **values)

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs; names that no parameter of a model has."""
        if not self.scaler.is_enabled():
            return {}
        state = self.scaler.state_dict()
        return {_SCALE: torch.tensor(state["scale"]), _GROWTH: torch.tensor(state["_growth_tracker"])}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        if self.scaler.is_enabled() and _SCALE in state:
            kept = {"scale": state[_SCALE].item(), "_growth_tracker": int(state[_GROWTH])}
            self.scaler.load_state_dict(self.scaler.state_dict() | kept)


def _full(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _trains(number_format: torch.dtype, device: torch.device) -> bool:
    """Say whether the device takes a step in the format, without emulating it."""
    if device.type == "cuda" and number_format is torch.bfloat16:
        # The device would emulate it, at a fraction of the speed.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        with torch.autocast(device.type, dtype=number_format):
            weight = torch.ones(1, 1, 1, 1, device=device, requires_grad=True)
            torch.nn.functional.conv2d(torch.ones(1, 1, 2, 2, device=device), weight).sum().backward()
    except (RuntimeError, NotImplementedError):
        return False
    return True
