"""Bring small maps to an image's size, or straight to a fraction of it."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, interpolate


def enlarge(maps: Tensor, size: Sequence[int], *, align_corners: bool, downsample: int = 1) -> Tensor:
    """Interpolate maps bilinearly, and average the result over `downsample`² pixels, without ever making it.

    Parameters
    ----------
    maps : (B, K, h, w) float
    size : two int
        Height and width to interpolate to; multiples of `downsample`.
    align_corners : bool
        As in `torch.nn.functional.interpolate`.
    downsample : int

    Returns
    -------
    (B, K, size / downsample) float
    """
    if downsample == 1:
        return interpolate(maps, list(size), mode="bilinear", align_corners=align_corners)
    down, across = (
        _means(own, wanted, downsample, align_corners).to(maps)
        for own, wanted in zip(maps.shape[-2:], size, strict=True)
    )
    return down @ maps @ across.T


@lru_cache(maxsize=8)
def _means(own: int, wanted: int, downsample: int, align_corners: bool) -> Tensor:
    """Return (wanted / downsample, own) weights: linear interpolation along one axis, then the mean."""
    with torch.inference_mode(mode=False):
        each = torch.eye(own).unsqueeze(1)
        rows = interpolate(each, wanted, mode="linear", align_corners=align_corners)
        return avg_pool1d(rows, downsample).squeeze(1).T.contiguous()
