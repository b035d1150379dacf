"""The most conspicuous regions of a heatmap, for a list to step through."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_maxmin.sinks._ngff import least_byte
from wsi_maxmin.viewer._heatmap import MapLevel, Seen, StoredMap, Values

# 8 µm a pixel on a slide of 100,000² px at 0.25 µm: less than a cell.
_PIXELS = 2**24
_LIST = 100
_HIGH_PERCENT = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A connected piece of a thresholded map.

    Attributes
    ----------
    x, y, width, height : float
        Its bounding box, level-0 px.
    peak_x, peak_y : float
        Centre of its highest pixel, level-0 px.
    highest, mean : float
        Of its values, in [0, 1].
    area_um2 : float
    """

    x: float
    y: float
    width: float
    height: float
    peak_x: float
    peak_y: float
    highest: float
    mean: float
    area_um2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a gallery says of a slide.

    Attributes
    ----------
    highest : float
        Highest value of the channel, in [0, 1].
    above_um2, seen_um2 : float
        Area at or above the threshold, and area that was seen at all.
    """

    highest: float
    above_um2: float
    seen_um2: float


class Regions:
    """Regions of one heatmap; what was read and found last is kept.

    Parameters
    ----------
    stored : StoredMap
    """

    def __init__(self, stored: StoredMap) -> None:
        self._stored = stored
        self._level = stored.finest_within(_PIXELS)
        self._whole = lru_cache(maxsize=1)(self._read)
        self.find = lru_cache(maxsize=64)(self._find)

    @property
    def pixel_um(self) -> float:
        """µm per pixel of the level that is looked at."""
        return self._stored.levels[self._level].step_l0[0] * self._stored.mpp

    def seen(self, channel: str) -> bool:
        """Return whether anything was looked at; a slide of glass, or of little tissue, may have no tile."""
        return bool(self._whole(channel)[1].any())

    def high_threshold(self, channel: str) -> float:
        """Return the threshold that keeps the highest 5 % of what was seen."""
        values, seen = self._whole(channel)
        return float(np.percentile(values[seen], _HIGH_PERCENT)) / 255 if seen.any() else 0.5

    def summary(self, channel: str, threshold: float) -> Summary:
        """Return highest value and areas of a channel."""
        values, seen = self._whole(channel)
        area = self.pixel_um**2
        return Summary(
            highest=float(values[seen].max(initial=0)) / 255,
            above_um2=float((values >= least_byte(threshold))[seen].sum()) * area,
            seen_um2=float(seen.sum()) * area,
        )

    def _read(self, channel: str) -> tuple[Values, Seen]:
        return self._stored.whole(channel, self._level)

    def _find(self, channel: str, threshold: float) -> tuple[Region, ...]:
        """Return the connected pieces at or above a threshold, by their highest value, then by area; at most 100."""
        values, seen = self._whole(channel)
        pieces, count = ndimage.label((values >= least_byte(threshold)) & seen, structure=np.ones((3, 3)))
        if not count:
            return ()
        index = np.arange(1, count + 1)
        highest = ndimage.maximum(values, pieces, index)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        first = np.lexsort((-sizes, -highest))[:_LIST]
        boxes = ndimage.find_objects(pieces)
        level, mpp = self._stored.levels[self._level], self._stored.mpp
        return tuple(_region(values, pieces, int(piece), boxes[piece], level, mpp) for piece in first)


def _region(
    values: Values,
    pieces: npt.NDArray[np.int32],
    piece: int,
    box: tuple[slice, slice],
    level: MapLevel,
    mpp: float,
) -> Region:
    rows, columns = box
    inside = pieces[box] == piece + 1
    part = np.where(inside, values[box], 0)
    row, column = np.unravel_index(int(part.argmax()), part.shape)
    (left, top), (across, down) = level.origin_l0, level.step_l0
    return Region(
        x=left + columns.start * across,
        y=top + rows.start * down,
        width=(columns.stop - columns.start) * across,
        height=(rows.stop - rows.start) * down,
        peak_x=left + (columns.start + column + 0.5) * across,
        peak_y=top + (rows.start + row + 0.5) * down,
        highest=float(part.max()) / 255,
        mean=float(part[inside].mean()) / 255,
        area_um2=float(inside.sum()) * across * down * mpp**2,
    )
