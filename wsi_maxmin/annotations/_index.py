"""The few points of an outline that matter in a box, found without looking at all the others."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from wsi_maxmin.annotations._rings import Region, Ring
from wsi_maxmin.geometry import Box

_SMALLEST_CELL_PX, _CELL_RATIO = 512, 4
_CELLS = 2048
_FEW_POINTS = 16
_MARGIN_PX = 2.0

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Window = tuple[float, float, float, float]


class RegionIndex:
    """Regions reduced to what the mask of a box depends on.

    Outside a window only the parity of crossings counts: a stretch of outline that stays left of it, or right of it,
    above or below, does the same to the mask as a single corner between its two ends. Windows are the cells of a
    tree, twice as wide as the step between them so that any box of a cell's size lies in one. A cell is cut out of its
    parent when it is first asked for, so a box costs its own points whatever the slide holds.

    The reduction is exact for `fill` and `draw`: both give, bit for bit, what the full rings give.

    Parameters
    ----------
    regions : sequence of Region
    """

    def __init__(self, regions: Sequence[Region]) -> None:
        self.regions = tuple(regions)
        points = np.concatenate([np.zeros((0, 2)), *(ring for region in self.regions for ring in region)])
        self._extent = np.ptp(points, axis=0).max() if len(points) else 0.0
        # A cache of the instance and not of the class: it goes when the slide is done.
        self._cell = lru_cache(maxsize=_CELLS)(self._cut_cell)

    def near(self, box: Box) -> Sequence[Region]:
        """Return regions with the same pixels inside `box`; those that have none may be left out.

        A ring that is left out of a region is empty there, so that the others keep their place.
        """
        return self._near(box.x, box.y, max(box.width, box.height))

    def _near(self, x: int, y: int, side: int) -> Sequence[Region]:
        size = _SMALLEST_CELL_PX
        while size < side:
            size *= _CELL_RATIO
        return self.regions if size >= self._extent else self._cell(size, x // size, y // size)

    def _cut_cell(self, size: int, column: int, row: int) -> Sequence[Region]:
        x, y, side = column * size, row * size, 2 * size
        window = (x - _MARGIN_PX, y - _MARGIN_PX, x + side + _MARGIN_PX, y + side + _MARGIN_PX)
        cut = (tuple(_cut(ring, window) for ring in region) for region in self._near(x, y, side))
        return tuple(region for region in cut if any(map(len, region)))


def _cut(ring: Ring, window: Window) -> Ring:
    """Return a ring with the same crossings inside a window; empty where it cannot touch it."""
    left, top, right, bottom = window
    (x_low, x_high), (y_low, y_high) = _reach(ring)
    sides = (x_high < left, x_low > right, y_high < top, y_low > bottom)
    if any(side.all() for side in sides):
        return ring[:0]
    if len(ring) <= _FEW_POINTS:
        return ring
    ring = _shorten(ring, sides[0], sides[1])
    _, (y_low, y_high) = _reach(ring)
    return _shorten(ring, y_high < top, y_low > bottom)


def _shorten(ring: Ring, before: Flags, behind: Flags) -> Ring:
    """Replace each stretch of edges that stays before, or stays behind, by the corner between its two ends."""
    last = len(ring) - 1
    side = behind.view(np.int8) - before.view(np.int8)
    begins = side[:last] == 0
    begins[1:] |= side[1:last] != side[: last - 1]
    # Pillow treats a polygon's lowest row differently from the others and counts crossings from the first point on:
    # the lowest point and, as ends of the stretches, the first and the last one stay.
    begins[0] = begins[np.argmax(ring[:last, 1])] = True
    start = np.flatnonzero(begins)
    end = np.append(start[1:], last)
    long = end - start > 1
    place = np.arange(len(start)) + np.cumsum(long) - long
    short = np.empty((len(start) + np.count_nonzero(long) + 1, 2))
    short[place] = ring[start]
    # Along the axes, because Pillow extends slanted edges by a row when it joins corners.
    short[place[long] + 1, 0] = ring[start[long], 0]
    short[place[long] + 1, 1] = ring[end[long], 1]
    short[-1] = ring[-1]
    return short


def _reach(ring: Ring) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Return the lowest and highest x and y of each edge, extended by a row at both ends; the last one closes it."""
    (x, y), (x_next, y_next) = ring.T, np.concatenate([ring[1:], ring[:1]]).T
    width, height = np.abs(x_next - x), np.abs(y_next - y)
    with np.errstate(over="ignore"):
        slope = np.divide(width, height, out=np.zeros(len(ring)), where=height > 0)
    return (
        (np.minimum(x, x_next) - slope, np.maximum(x, x_next) + slope),
        (np.minimum(y, y_next) - 1, np.maximum(y, y_next) + 1),
    )
