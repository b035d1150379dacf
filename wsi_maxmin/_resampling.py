"""From pixels of tile maps to those of the display grid, and from a display grid to a coarser one."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wsi_maxmin.grids import CHUNK_PX, Georef

Float = npt.NDArray[np.float64]


class Gathering(Protocol):
    """Gives any part of a map on its display grid, (C, h, w) float32, coverage last."""

    @property
    def georef(self) -> Georef:
        """Its display grid."""

    def chunk(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        """Return rows top … bottom and columns left … right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaged:
    """Compute one chunk of a coarser map.

    Attributes
    ----------
    gather : Gathering
    factor : int
        Pixels of its grid along a pixel of the coarser one.
    """

    gather: Gathering
    factor: int

    def __call__(self, block_info: Any = None) -> npt.NDArray[np.float32]:
        """Return the chunk that dask asks for, gathered in pieces no larger than a chunk."""
        (_, channels), (top, bottom), (left, right) = block_info[None]["array-location"]
        averaged = np.empty((channels, bottom - top, right - left), dtype=np.float32)
        step = max(CHUNK_PX // self.factor, 1)
        for row in range(top, bottom, step):
            for column in range(left, right, step):
                end_row, end_column = min(row + step, bottom), min(column + step, right)
                piece = averaged[:, row - top : end_row - top, column - left : end_column - left]
                piece[:] = mean_covered(self._finer(row, end_row, column, end_column), self.factor)
        return averaged

    def _finer(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        rows, columns = self.gather.georef.shape
        top, bottom, left, right = (edge * self.factor for edge in (top, bottom, left, right))
        return self.gather.chunk(top, min(bottom, rows), left, min(right, columns))


def mean_covered(values: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """Average blocks of `factor`² pixels over what is covered of them; the last ones may be smaller.

    Parameters
    ----------
    values : (C, h, w) float32
        The last channel is coverage, 1 or 0.
    factor : int

    Returns
    -------
    (C, ceil(h / factor), ceil(w / factor)) float32
        NaN where nothing is covered; coverage is 1 where anything is.
    """
    after = [(0, -side % factor) for side in values.shape[1:]]
    padded = np.pad(values, [(0, 0), *after])
    channels, height, width = padded.shape
    blocks = padded.reshape(channels, height // factor, factor, width // factor, factor)
    covered = blocks[-1] > 0
    count = covered.sum(axis=(1, 3))
    sums = np.where(covered, blocks[:-1], 0).sum(axis=(2, 4), dtype=np.float64)
    means = np.divide(sums, count, where=count > 0, out=np.full_like(sums, np.nan))
    return np.concatenate([means, (count > 0)[None]]).astype(np.float32)


def resampling_matrix(position: Float, step: float, side: int) -> Float:
    """Return (len(position), side) weights that resample a row of pixels; each row sums to 1.

    An output pixel that spans `step` > 1 input pixels is their mean by area; a finer one is interpolated linearly
    between pixel centres; at equal steps on the centres the matrix is the identity.

    Parameters
    ----------
    position : (n,) float
        Centres of the outputs; input pixel i spans i to i + 1.
    step : float
        Distance between outputs in input pixels.
    side : int
        Number of input pixels.
    """
    if step <= 1:
        position = np.clip(position, 0.5, side - 0.5)
    distance = np.abs(position[:, None] - (np.arange(side) + 0.5))
    matrix: Float = np.maximum(1 - distance, 0) if step <= 1 else np.clip((step + 1) / 2 - distance, 0, 1)
    normalised: Float = matrix / matrix.sum(axis=1, keepdims=True)
    return normalised
