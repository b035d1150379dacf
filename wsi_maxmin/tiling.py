"""Lay a grid of tiles over a slide and keep those that hold tissue."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_maxmin._strips import strips
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box, SlideInfo, TissueMask, effective_mpp
from wsi_maxmin.grids import TileGrid, grid_shape

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def make_grid(
    info: SlideInfo,
    tissue: TissueMask,
    *,
    mpp: float | None,
    tile_px: int = 512,
    stride_px: int | None = None,
    min_tissue: float = 0.1,
) -> TileGrid:
    """Return the grid over a whole slide, keeping the tiles with enough tissue.

    Parameters
    ----------
    info : SlideInfo
    tissue : TissueMask
    mpp : float or None
        µm per pixel of the tiles; None takes level 0. See `effective_mpp` for what a slide makes of it.
    tile_px : int
    stride_px : int, optional
        Step between tiles; `tile_px`, so no overlap, by default.
    min_tissue : float
        Least share of tissue of a tile to keep, in (0, 1]; 0 keeps every tile that touches tissue at all.

    Raises
    ------
    SlideError
        If the slide's µm per pixel is missing or too coarse.
    InputError
        If a number is out of range.
    """
    return lay_grid(info, tissue, mpp=mpp, tile_px=tile_px, stride_px=stride_px, min_tissue=min_tissue)[0]


def lay_grid(
    info: SlideInfo,
    tissue: TissueMask,
    *,
    mpp: float | None,
    tile_px: int,
    stride_px: int | None,
    min_tissue: float,
) -> tuple[TileGrid, FloatArray]:
    """Do what `make_grid` does; return the share of tissue of each kept tile as well, (N,) float."""
    if not 0 <= min_tissue <= 1:
        raise InputError("the least share of tissue is out of range", got=min_tissue, expected="0 to 1")
    slide_mpp = info.require_mpp()
    grid_mpp = slide_mpp if mpp is None else effective_mpp(mpp, info)
    stride_px = tile_px if stride_px is None else stride_px
    if stride_px <= 0:
        raise InputError("the stride is not positive", got=stride_px)
    shape = grid_shape(info.size_px, grid_mpp / slide_mpp, tile_px, stride_px)
    grid = TileGrid(
        slide_id=info.slide_id,
        slide_size_px=info.size_px,
        slide_mpp=slide_mpp,
        mpp=grid_mpp,
        tile_px=tile_px,
        stride_px=stride_px,
        shape=shape,
        keep=np.zeros((0, 2), dtype=np.int32),
    )
    fractions = tissue_fractions(grid, tissue)
    enough = (fractions >= min_tissue) & (fractions > 0)
    return replace(grid, keep=np.argwhere(enough).astype(np.int32)), fractions[enough]


def touching(grid: TileGrid, region: Box) -> TileGrid:
    """Return the grid with only those of its tiles of which some part lies in a region.

    So inside the region a map blended from these tiles is that of all tiles.
    """
    rows, columns = grid.shape
    y_spans = [grid.box(row, 0) for row in range(rows)]
    x_spans = [grid.box(0, column) for column in range(columns)]
    in_rows = np.array([box.y < region.bottom and box.bottom > region.y for box in y_spans])
    in_columns = np.array([box.x < region.right and box.right > region.x for box in x_spans])
    return replace(grid, keep=grid.keep[in_rows[grid.keep[:, 0]] & in_columns[grid.keep[:, 1]]])


def tissue_fractions(grid: TileGrid, tissue: TissueMask) -> FloatArray:
    """Return the share of tissue of every tile of the grid, (rows, columns) float; outside the slide is glass."""
    rows, columns = grid.shape
    x_spans = [grid.box(0, column) for column in range(columns)]
    y_spans = [grid.box(row, 0) for row in range(rows)]
    x0, x1 = _edges([(box.x, box.right) for box in x_spans], tissue.downsample[0], tissue.mask.shape[1])
    y0, y1 = _edges([(box.y, box.bottom) for box in y_spans], tissue.downsample[1], tissue.mask.shape[0])
    # The sum over any rectangle from look-ups in running sums: along each row of the mask, then down the columns of
    # tiles. Of the whole mask the running sums would take many times its own memory.
    across = np.concatenate([_sums_between(strip, x0, x1) for strip in strips(tissue.mask)])
    sums = _sums_between(across.T, y0, y1).T
    widths = np.array([box.width for box in x_spans]) / tissue.downsample[0]
    heights = np.array([box.height for box in y_spans]) / tissue.downsample[1]
    fractions: FloatArray = np.minimum(sums / (heights[:, None] * widths), 1.0)
    return fractions


def _sums_between(values: npt.NDArray[Any], start: IntArray, stop: IntArray) -> IntArray:
    """Return the sums of ``values[:, start:stop]``, (N, M), for each pair of (M,) starts and stops."""
    running = np.zeros((len(values), values.shape[1] + 1), dtype=np.int32)
    np.cumsum(values, axis=1, out=running[:, 1:])
    sums: IntArray = (running[:, stop] - running[:, start]).astype(np.int64)
    return sums


def _edges(spans: list[tuple[int, int]], downsample: float, size: int) -> tuple[IntArray, IntArray]:
    """First and last mask index of each level-0 span; a span that touches the mask covers at least one pixel of it."""
    edges = (np.array(spans, dtype=np.float64) / downsample).clip(0, size)
    start, stop = np.floor(edges + 0.5).astype(np.int64).T
    narrow = (start == stop) & (edges[:, 0] < edges[:, 1])
    start = np.where(narrow, np.floor(edges.mean(axis=1)).astype(np.int64), start)
    return start, np.where(narrow, start + 1, stop)
