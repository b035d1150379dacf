"""The steps of finding tissue, each in little more memory than it is given: overviews of large slides are large."""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_maxmin._strips import strips

BoolArray = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]


@cache
def _saturations() -> Pixels:
    """Saturation of the HSV model, cut to whole numbers of 255, at index ``256 · highest + lowest`` channel."""
    high, low = np.ogrid[:256, :256]
    table: Pixels = (255 * np.maximum(high - low, 0) // np.maximum(high, 1)).astype(np.uint8).ravel()
    return table


def saturation_of(pixels: Pixels) -> Pixels:
    """Return the saturation, (H, W) uint8, of (H, W, 3) uint8 pixels."""
    return np.concatenate([_saturation_of_strip(strip) for strip in strips(pixels)])


def _saturation_of_strip(pixels: Pixels) -> Pixels:
    channels = np.ascontiguousarray(pixels.reshape(-1, 3).T)
    index = channels.max(axis=0).astype(np.uint16)
    index <<= 8
    index |= channels.min(axis=0)
    saturation: Pixels = _saturations().take(index).reshape(pixels.shape[:2])
    return saturation


def _counts(values: npt.NDArray[Any], kinds: int) -> npt.NDArray[np.intp]:
    """Count how often each of the numbers 0 to `kinds` − 1 occurs."""
    return sum((np.bincount(strip.ravel(), minlength=kinds) for strip in strips(values)), np.zeros(kinds, np.intp))


def otsu(values: Pixels) -> float:
    """Return Otsu's threshold of values that are not all the same."""
    # Loaded here: processes that only cut patches start a third faster without SciPy.
    from skimage.filters import threshold_otsu

    counts = _counts(values, 256)
    low, high = np.flatnonzero(counts)[[0, -1]]
    return float(threshold_otsu(hist=(counts[low : high + 1], np.arange(low, high + 1))))


def median_of_neighbours(values: Pixels) -> Pixels:
    """Return the median of each 3×3 neighbourhood, the border replicated."""
    return np.concatenate([_median_inside(strip) for strip in strips(np.pad(values, 1, mode="edge"), border=1)])


def _median_inside(padded: Pixels) -> Pixels:
    """Return the median of each whole 3×3 neighbourhood.

    Of nine values in sorted columns it is the median of three: the greatest of the least, the median of the middle and
    the least of the greatest. Whole rows at a time, that is a hundred times faster than sorting each neighbourhood.
    """
    above, here, below = padded[:-2], padded[1:-1], padded[2:]
    low, high = np.minimum(above, here), np.maximum(above, here)
    middle = np.maximum(low, np.minimum(high, below))
    low, high = np.minimum(low, below), np.maximum(high, below)
    return _median_of(
        np.maximum(np.maximum(low[:, :-2], low[:, 1:-1]), low[:, 2:]),
        _median_of(middle[:, :-2], middle[:, 1:-1], middle[:, 2:]),
        np.minimum(np.minimum(high[:, :-2], high[:, 1:-1]), high[:, 2:]),
    )


def _median_of(one: Pixels, two: Pixels, three: Pixels) -> Pixels:
    median: Pixels = np.maximum(np.minimum(one, two), np.minimum(np.maximum(one, two), three))
    return median


def dilate(mask: BoolArray, radius: int) -> BoolArray:
    """Dilate by a disk (x² + y² ≤ radius²); nothing is set outside. The mask is wider and higher than `radius`."""
    height = len(mask)
    widened, dilated = mask.copy(), np.zeros_like(mask)
    halves = [math.isqrt(radius**2 - row**2) for row in range(radius + 1)]
    for half in range(radius + 1):
        if half:
            widened[:, half:] |= mask[:, :-half]
            widened[:, :-half] |= mask[:, half:]
        for row in (row for row, own in enumerate(halves) if own == half):
            dilated[row:] |= widened[: height - row]
            dilated[: height - row] |= widened[row:]
    return dilated


def without_specks(mask: BoolArray, most_px: int) -> BoolArray:
    """Drop the 4-connected pieces of at most so many pixels."""
    from scipy import ndimage

    pieces, number = ndimage.label(mask)
    keep = _counts(pieces, number + 1) > most_px
    keep[0] = False
    return np.concatenate([keep.take(strip) for strip in strips(pieces)])
