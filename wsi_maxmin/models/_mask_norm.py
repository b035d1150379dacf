"""Bring a raw activation map to about [0, 1] before the soft threshold."""

from typing import Literal

import torch
from torch import Tensor, nn

MaskNormMode = Literal["running", "image", "batch", "none"]

_SMALLEST_RANGE = 1e-6


class MaskNorm(nn.Module):
    """Min–max normalisation, (m − low) / (high − low).

    Parameters
    ----------
    mode : {"running", "image", "batch", "none"}
        ``image`` takes each map's own minimum and maximum. ``batch`` takes those of the batch: a map then depends on
        its neighbours in the batch. ``running`` takes the batch's in training and keeps exponential running
        estimates, like batch normalisation, that it uses in eval mode: the only mode in which the values of different
        tiles can be compared. ``none`` leaves the map as it is.
    momentum : float
        Weight of the newest batch in the running estimates.
    """

    low: Tensor
    high: Tensor
    batches: Tensor

    def __init__(self, mode: MaskNormMode, momentum: float = 0.1) -> None:
        super().__init__()
        self.mode: MaskNormMode = mode
        self.momentum = momentum
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(1.0))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, evidence: Tensor) -> Tensor:
        """Normalise maps (B, 1, H, W); a constant map gives 0, never a division by 0."""
        if self.mode == "none":
            return evidence
        if self.mode == "image":
            low, high = evidence.amin(dim=(1, 2, 3), keepdim=True), evidence.amax(dim=(1, 2, 3), keepdim=True)
        elif self.mode == "running" and not self.training:
            low, high = self.low, self.high
        else:
            low, high = evidence.amin(), evidence.amax()
            if self.mode == "running":
                self._update(low.detach(), high.detach())
        return (evidence - low) / (high - low).clamp_min(_SMALLEST_RANGE)

    def _update(self, low: Tensor, high: Tensor) -> None:
        weight = 1.0 if not self.batches else self.momentum
        self.low.lerp_(low.float(), weight)
        self.high.lerp_(high.float(), weight)
        self.batches += 1
