"""Reduce an image by area: each output pixel is the mean of what it covers, parts of input pixels included."""

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def reduce_by_area(pixels: Pixels, inner: tuple[float, float, float, float], width: int, height: int) -> Pixels:
    """Reduce a part of an image.

    Pillow's box filter counts an input pixel wholly or not at all, which at a step of 1.5 is nearest neighbour; its
    other filters look beyond the area.

    Parameters
    ----------
    pixels : (H, W, 3) uint8
    inner : (float, float, float, float)
        Left, top, right and bottom of the part, in pixels.
    width, height : int
        Size of the result, no larger than the part.

    Returns
    -------
    (height, width, 3) uint8
        Rounded to nearest.
    """
    left, top, right, bottom = inner
    rows, first, last = _weights(top, bottom, height, pixels.shape[0])
    part = pixels[first:last].reshape(last - first, -1).astype(np.float32)
    reduced = (rows @ part).reshape(height, -1, 3)
    columns, first, last = _weights(left, right, width, pixels.shape[1])
    # The axis to be reduced comes first, in a row of memory for all others.
    turned = np.ascontiguousarray(reduced[:, first:last].transpose(1, 0, 2)).reshape(last - first, -1)
    turned = (columns @ turned).reshape(width, height, 3)
    turned += 0.5
    return np.ascontiguousarray(turned.astype(np.uint8).transpose(1, 0, 2))


def _weights(start: float, stop: float, count: int, size: int) -> tuple[Any, int, int]:
    """Return the share of each input pixel in each output pixel, (count, last - first), and first and last."""
    # Loaded here: most patches are not resampled, and processes that cut them start a third faster without SciPy.
    from scipy.sparse import csr_array

    edges = np.linspace(start, stop, count + 1).clip(0, size)
    first, last = int(np.floor(edges[0])), int(np.ceil(edges[-1]))
    low, high = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    taps = np.arange(int((high - low).max()))
    index = low[:, None] + taps
    shares = np.minimum(index + 1, edges[1:, None]) - np.maximum(index, edges[:-1, None])
    shares = shares.clip(0) / (edges[1:] - edges[:-1])[:, None]
    used = index < last
    starts = np.concatenate([[0], used.sum(axis=1).cumsum()])
    matrix = csr_array((shares[used].astype(np.float32), (index - first)[used], starts), shape=(count, last - first))
    return matrix, first, last
