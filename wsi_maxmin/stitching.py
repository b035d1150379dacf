"""Gather tile maps into a slide-level heatmap: one task an output chunk, weights divided by their own sum."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from wsi_maxmin._resampling import Averaged, resampling_matrix
from wsi_maxmin.blends import plugins as blends
from wsi_maxmin.errors import InputError
from wsi_maxmin.grids import CHUNK_PX, Georef
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.tilemaps import TileMaps, uncertainty

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heatmap:
    """A slide-level map on the display grid, computed when it is written.

    Attributes
    ----------
    data : dask array (C, H, W) float32
        NaN where no tile covers a pixel; ``coverage`` is 1 or 0 there.
    georef : Georef
        Its mpp and origin.
    channels : tuple of str
    """

    data: da.Array
    georef: Georef
    channels: tuple[str, ...]


def stitch(
    maps: TileMaps,
    *,
    blend: str = "hann",
    georef: Georef | None = None,
    chunk_px: int = CHUNK_PX,
    stopwatch: Stopwatch | None = None,
) -> Heatmap:
    """Blend overlapping tiles into one map.

    Each output chunk gathers the tiles that touch it, resamples them from the grid's canvas to the display grid at
    pixel centres, and divides the weighted sum by the sum of the weights; so nothing of the result depends on chunks,
    workers or batches. A grid coarser than the default one gets means of that one's pixels.

    Parameters
    ----------
    maps : TileMaps
    blend : str
        A module of `wsi_maxmin.blends`.
    georef : Georef, optional
        The display grid; by default that of `Georef.for_display`.
    chunk_px : int
        Side of the chunks that tasks compute; the values do not depend on it.
    stopwatch : Stopwatch, optional
        Gets ``stitch``, summed over the threads that compute chunks.

    Returns
    -------
    Heatmap
        Channels ``tumour`` (posterior of the positive class × soft mask), ``probability`` (that posterior),
        ``uncertainty`` (entropy of the posterior / log K) and ``coverage``; a method without classes gives ``tumour``
        (its mask) and ``coverage``, a classifier without masks no ``tumour``. The first is that of the threshold.

    Raises
    ------
    InputError
        If a tile is not done, or there is no such blend.
    """
    if not maps.complete:
        raise InputError(
            "the tile maps are not complete", got=maps.path, remedy="finish them with infer-slide --resume"
        )
    finest = Georef.for_display(maps.grid.slide_size_px, maps.grid.slide_mpp)
    georef = georef or finest
    factor = max(georef.downsample // finest.downsample, 1)
    gather = Gather.of(maps, blend, finest if factor > 1 else georef, stopwatch or Stopwatch())
    rows, columns = georef.shape
    data = da.map_blocks(
        Averaged(gather=gather, factor=factor) if factor > 1 else gather,
        chunks=((len(gather.channels),), _chunks(rows, chunk_px), _chunks(columns, chunk_px)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), dtype=np.float32),
    )
    return Heatmap(data=data, georef=georef, channels=gather.channels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather:
    """Compute one chunk of the heatmap; small and picklable, it opens the tile maps where it runs.

    Attributes
    ----------
    maps : TileMaps
    blend : str
        A module of `wsi_maxmin.blends`.
    georef : Georef
    channels : tuple of str
    scores : (N, 2) float64
        Posterior of the positive class and uncertainty of each tile; (N, 0) for a method without classes.
    lookup : (rows, columns) int32
        Position of each grid cell in ``keep``, −1 where it is not kept.
    stopwatch : Stopwatch
        Gets ``stitch``.
    """

    maps: TileMaps
    blend: str
    georef: Georef
    channels: tuple[str, ...]
    scores: Float
    lookup: npt.NDArray[np.int32]
    stopwatch: Stopwatch

    @classmethod
    def of(cls, maps: TileMaps, blend: str, georef: Georef, stopwatch: Stopwatch) -> "Gather":
        """Plan the gather; nothing is read but the class scores."""
        blends.load(blend)  # an unknown one is an error now, not in a task
        posterior = maps.posterior()
        channels: tuple[str, ...]
        if posterior is None:
            scores, channels = np.empty((len(maps.grid), 0)), ("tumour", "coverage")
        else:
            scores = np.column_stack([posterior[:, maps.positive_index], uncertainty(posterior)]).astype(np.float64)
            masked = ("tumour",) if maps.spec.has_masks else ()
            channels = (*masked, "probability", "uncertainty", "coverage")
        lookup = np.full(maps.grid.shape, -1, dtype=np.int32)
        lookup[maps.grid.keep[:, 0], maps.grid.keep[:, 1]] = np.arange(len(maps.grid))
        return cls(
            maps=maps,
            blend=blend,
            georef=georef,
            channels=channels,
            scores=scores,
            lookup=lookup,
            stopwatch=stopwatch,
        )

    def __call__(self, block_info: Any = None) -> npt.NDArray[np.float32]:
        """Return the chunk that dask asks for, (C, h, w) float32."""
        (_, _), (top, bottom), (left, right) = block_info[None]["array-location"]
        return self.chunk(top, bottom, left, right)

    def chunk(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        """Return display rows top … bottom and columns left … right, (C, h, w) float32."""
        with self.stopwatch.stage("stitch", summed=True):
            return self._gather(top, bottom, left, right)

    def _gather(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        ys, xs = self._centres(top, bottom), self._centres(left, right)
        rows, columns = self._touching(ys, 0), self._touching(xs, 1)
        if (self.lookup[rows.start : rows.stop, columns.start : columns.stop] < 0).all():
            # Most of a slide is glass.
            return self._uncovered(len(ys), len(xs))
        rule = blends.load(self.blend)
        highest = getattr(rule, "HIGHEST", False)
        sums = np.full((len(self.channels) - 1, len(ys), len(xs)), -np.inf if highest else 0.0)
        weights = np.zeros((len(ys), len(xs)))
        for row in rows:
            cells = [column for column in columns if self.lookup[row, column] >= 0]
            if not cells:
                continue
            # Neighbours in a row are neighbours in keep: one read.
            first, last = self.lookup[row, cells[0]], self.lookup[row, cells[-1]]
            masks = np.asarray(self.maps.mask[first : last + 1], dtype=np.float64)
            y_part, y_weight, y_matrix = self._axis(rule, ys, row)
            for column in cells:
                index = self.lookup[row, column]
                x_part, x_weight, x_matrix = self._axis(rule, xs, column)
                weight = y_weight[:, None] * x_weight
                mask = y_matrix @ masks[index - first] @ x_matrix.T
                for total, value in zip(sums[:, y_part, x_part], self._values(index, mask), strict=True):
                    if highest:
                        np.maximum(total, value, out=total)
                    else:
                        total += weight * value
                weights[y_part, x_part] += weight
        covered = weights > 0
        means = np.divide(sums, 1 if highest else weights, where=covered, out=np.full_like(sums, np.nan))
        return np.concatenate([means, covered[None]]).astype(np.float32)

    def _uncovered(self, height: int, width: int) -> npt.NDArray[np.float32]:
        empty = np.full((len(self.channels), height, width), np.nan, dtype=np.float32)
        empty[-1] = 0
        return empty

    def _values(self, index: int, masks: Float) -> tuple[Float | float, ...]:
        """Values of a tile in every channel but coverage, given its soft mask on the display grid, if it has one."""
        if not self.scores.shape[1]:
            return tuple(masks)
        posterior, uncertainty = self.scores[index]
        return *(posterior * mask for mask in masks), posterior, uncertainty

    def _centres(self, start: int, stop: int) -> Float:
        """Centres of display pixels, in pixels of the tile maps' plane (canvas / map downsample)."""
        per_map_px = self.maps.grid.downsample * self.maps.spec.downsample
        centres: Float = (np.arange(start, stop, dtype=np.float64) + 0.5) * self.georef.downsample / per_map_px
        return centres

    @property
    def _side(self) -> int:
        return self.maps.grid.tile_px // self.maps.spec.downsample

    @property
    def _stride(self) -> float:
        return self.maps.grid.stride_px / self.maps.spec.downsample

    def _touching(self, centres: Float, axis: int) -> range:
        """Grid rows (axis 0) or columns (axis 1) whose tiles hold some of the centres."""
        first = max(int(np.floor((centres[0] - self._side) / self._stride)) + 1, 0)
        last = min(int(np.floor(centres[-1] / self._stride)), self.maps.grid.shape[axis] - 1)
        return range(first, last + 1)

    def _axis(self, rule: ModuleType, centres: Float, cell: int) -> tuple[slice, Float, Float]:
        """For one tile along one axis: which display pixels it covers, their weights, and how to resample to them."""
        start = cell * self._stride
        begin, end = np.searchsorted(centres, [start, start + self._side], side="left")
        position = centres[begin:end] - start
        weight = rule.weigh(np.clip(position, 0.5, self._side - 0.5), self._side, self._stride)
        step = self.georef.downsample / (self.maps.grid.downsample * self.maps.spec.downsample)
        return slice(begin, end), weight, resampling_matrix(position, step, self._side)


def _chunks(size: int, chunk: int) -> tuple[int, ...]:
    whole, rest = divmod(size, chunk)
    return (chunk,) * whole + ((rest,) if rest else ())
