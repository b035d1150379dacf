"""Large regions of a slide for a dense run, and the cells of their maps that each tile of a grid sees."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box
from wsi_maxmin.grids import TileGrid

CORE_CELLS = 24
CONTEXT_CELLS = 2
"""Cells of a region's side, and around it that are computed and thrown away: with one, ridges show between regions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseGrid:
    """Square regions that cover the kept tiles of a grid without overlap.

    A *cell* is one position of the trunk's features: `cell_px` canvas pixels. A region has `core` × `core` cells; what
    the trunk sees of it is larger by `context` cells on each side.

    Attributes
    ----------
    grid : TileGrid
        Its tiles, the *windows*, start and end on cells.
    cell_px : int
    core, context : int
        In cells.

    Raises
    ------
    InputError
        If tiles do not start and end on cells.
    """

    grid: TileGrid
    cell_px: int
    core: int = CORE_CELLS
    context: int = CONTEXT_CELLS

    def __post_init__(self) -> None:
        check_cells(self.grid.tile_px, self.grid.stride_px, self.cell_px)

    @property
    def window_cells(self) -> int:
        """Side of a window."""
        return self.grid.tile_px // self.cell_px

    @property
    def stride_cells(self) -> int:
        """Step between windows."""
        return self.grid.stride_px // self.cell_px

    @property
    def region_px(self) -> int:
        """Side of what the trunk sees, canvas pixels."""
        return (self.core + 2 * self.context) * self.cell_px

    @cached_property
    def keep(self) -> npt.NDArray[np.int64]:
        """Row and column of the first cell of each region, (R, 2), in row-major order.

        Regions lie in bands of `core` rows from the first kept window's on; in a band each begins at the next column
        that a kept window needs.
        """
        first = self.grid.keep.astype(np.int64) * self.stride_cells
        if not len(first):
            return np.empty((0, 2), dtype=np.int64)
        starts = []
        for top in range(int(first[0, 0]), int(first[-1, 0]) + self.window_cells, self.core):
            columns = np.unique(first[self._rows(first, top, top + self.core), 1])
            needed = np.unique(columns[:, None] + np.arange(self.window_cells))
            while len(needed):
                starts.append((top, int(needed[0])))
                needed = needed[np.searchsorted(needed, needed[0] + self.core) :]
        return np.array(starts, dtype=np.int64)

    def _rows(self, first: npt.NDArray[np.int64], start: int, stop: int) -> slice:
        """Which windows, of those first cells, touch rows start … stop."""
        low, high = np.searchsorted(first[:, 0], [start - self.window_cells + 1, stop])
        return slice(int(low), int(high))

    def box(self, region: int) -> Box:
        """Return the level-0 box of what the trunk sees of a region."""
        top, left = (int(cell) - self.context for cell in self.keep[region])
        return self.grid.canvas_box(left * self.cell_px, top * self.cell_px, self.region_px)

    def gather(
        self, maps: npt.NDArray[np.float32], top: int, left: int, height: int, width: int
    ) -> npt.NDArray[np.float32]:
        """Put the cells of a rectangle together from maps of regions; 0 where there is no region.

        Parameters
        ----------
        maps : (R, M, core, core) float32
        top, left, height, width : int
            In cells; may reach outside the canvas.

        Returns
        -------
        (M, height, width) float32
        """
        found = np.zeros((maps.shape[1], height, width), dtype=np.float32)
        low, high = np.searchsorted(self.keep[:, 0], [top - self.core + 1, top + height])
        columns = self.keep[low:high, 1]
        for index in low + np.flatnonzero((columns > left - self.core) & (columns < left + width)):
            row, column = (int(cell) for cell in self.keep[index])
            own_y, y = overlap(row - top, self.core, height)
            own_x, x = overlap(column - left, self.core, width)
            found[:, y, x] = maps[index][:, own_y, own_x]
        return found

    def windows(self, maps: npt.NDArray[np.float32], indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return what windows see of the maps of regions, (n, M, side, side) float32.

        Parameters
        ----------
        maps : (R, M, core, core) float32
        indices : (n,) int64
            Of kept windows; those that lie together in the grid are gathered together.
        """
        side, step = self.window_cells, self.stride_cells
        seen = np.empty((len(indices), maps.shape[1], side, side), dtype=np.float32)
        cells = self.grid.keep[indices].astype(np.int64)
        for row in np.unique(cells[:, 0]):
            of_row = np.flatnonzero(cells[:, 0] == row)
            columns = cells[of_row, 1] * step
            left = int(columns.min())
            strip = self.gather(maps, int(row) * step, left, side, int(columns.max()) - left + side)
            for place, column in zip(of_row, columns - left, strict=True):
                seen[place] = strip[:, :, column : column + side]
        return seen

    def windows_near(self, region: int) -> npt.NDArray[np.int64]:
        """Return the kept windows that touch what the trunk sees of a region."""
        top, left = self.keep[region] - self.context
        size = self.core + 2 * self.context
        first = self.grid.keep.astype(np.int64) * self.stride_cells
        rows = self._rows(first, int(top), int(top) + size)
        columns = first[rows, 1]
        near: npt.NDArray[np.int64] = rows.start + np.flatnonzero(
            (columns > left - self.window_cells) & (columns < left + size)
        )
        return near


def check_cells(tile_px: int, stride_px: int, cell_px: int) -> None:
    """See whether tiles start and end on cells.

    Raises
    ------
    InputError
        If they do not.
    """
    if tile_px % cell_px or stride_px % cell_px:
        fitting = ", ".join(
            f"{1 - cell_px * step / tile_px:g}" for step in (1, 2, 4, 8, 16) if cell_px * step <= tile_px
        )
        raise InputError(
            "the overlap does not fit the model's cells",
            got=f"a stride of {stride_px} px, and cells of {cell_px} px",
            expected=f"--overlap {fitting}, or any other whose stride is a multiple of {cell_px} px",
            remedy="choose one, or --mode tile",
        )


def overlap(offset: int, length: int, size: int) -> tuple[slice, slice]:
    """Where a piece of `length` that starts at `offset` lies inside 0 … size: in its own cells, and in the others."""
    start, stop = max(offset, 0), min(offset + length, size)
    return slice(start - offset, stop - offset), slice(start, stop)
