"""Halve a zarr level block by block, in bounded memory, each block written by one task."""

import math
from collections.abc import Callable

import dask
import numpy as np
import numpy.typing as npt
import zarr

from wsi_maxmin.runinfo import Stopwatch

Reduce = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


def halve_mean(block: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Average 2×2 pixels of the last two axes, rounded; an odd last row or column counts twice."""
    padded = _even(block).astype(np.uint16)
    total = padded[..., ::2, ::2] + padded[..., 1::2, ::2] + padded[..., ::2, 1::2] + padded[..., 1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def halve_nearest(block: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Take the first of each 2×2 pixels: labels must not be mixed."""
    return np.ascontiguousarray(block[..., ::2, ::2])


def halve(source: zarr.Array, target: zarr.Array, reduce: Reduce, stopwatch: Stopwatch) -> None:
    """Fill `target`, half the size of `source` (rounded up), one chunk a task; `stopwatch` gets ``write``.

    Raises
    ------
    ValueError
        If the sizes do not fit.
    """
    expected = (*source.shape[:-2], *(math.ceil(side / 2) for side in source.shape[-2:]))
    if target.shape != expected:
        raise ValueError(f"half of {source.shape} is {expected}; got {target.shape}")
    side_y, side_x = target.chunks[-2:]
    blocks = [
        dask.delayed(_fill)(source, target, reduce, top, left, stopwatch)
        for top in range(0, target.shape[-2], side_y)
        for left in range(0, target.shape[-1], side_x)
    ]
    dask.compute(*blocks)


def _fill(source: zarr.Array, target: zarr.Array, reduce: Reduce, top: int, left: int, stopwatch: Stopwatch) -> None:
    side_y, side_x = target.chunks[-2:]
    bottom, right = min(top + side_y, target.shape[-2]), min(left + side_x, target.shape[-1])
    with stopwatch.stage("write", summed=True):
        block = np.asarray(source[..., 2 * top : 2 * bottom, 2 * left : 2 * right])
        target[..., top:bottom, left:right] = reduce(block)


def _even(block: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    odd = [(0, 0)] * (block.ndim - 2) + [(0, side % 2) for side in block.shape[-2:]]
    return np.pad(block, odd, mode="edge") if any(after for _, after in odd) else block
