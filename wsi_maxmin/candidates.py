"""The points that a heatmap marks most, a distance apart: what a detection score counts and a person looks at first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from wsi_maxmin.csvs import read_csv_rows
from wsi_maxmin.errors import InputError
from wsi_maxmin.heatmap_store import HeatmapStore

GRID_UM = 8.0
_BLOCK = 1024
_WIDEST_UM = 1000.0
_LEAST = 1e-6
_COLUMNS = ("probability", "x", "y")

_Float = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSettings:
    """How candidates are read off a heatmap.

    Attributes
    ----------
    threshold : float or None
        Lowest probability of a candidate; by default half of the threshold of tumour pixels, so that a curve goes on
        behind the point at which the model would be used.
    radius_um : float
        Of two points that lie no farther apart, the less probable is none.
    smooth_um : float
        Standard deviation of the Gaussian that the map is smoothed with, at most 1 mm; 0 for none.
    """

    threshold: float | None = None
    radius_um: float = 200.0
    smooth_um: float = 16.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError("no such threshold of candidates", got=self.threshold, expected="above 0, at most 1")
        if not 0 <= self.radius_um < math.inf:
            raise InputError("no such radius of candidates", got=self.radius_um, expected="µm, at least 0")
        if not 0 <= self.smooth_um <= _WIDEST_UM:
            raise InputError("no such smoothing of candidates", got=self.smooth_um, expected=f"0 to {_WIDEST_UM:g} µm")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Points of one slide.

    Attributes
    ----------
    probability : (N,) float32 in [0, 1]
    x, y : (N,) int64
        Level-0 px.
    highest : float
        The highest value of the slide, be it a candidate's or below their threshold; 0 where there is nothing.
    """

    probability: npt.NDArray[np.float32]
    x: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    highest: float

    def __len__(self) -> int:
        return len(self.probability)

    @classmethod
    def none(cls) -> Self:
        """Return those of a slide on which nothing was found."""
        nowhere = np.empty(0, dtype=np.int64)
        return cls(probability=np.empty(0, dtype=np.float32), x=nowhere, y=nowhere, highest=0.0)


def find_candidates(store: HeatmapStore, settings: CandidateSettings, tumour_from: float) -> Candidates:
    """Return the candidates of a heatmap's main channel, the most probable first.

    The coarsest level with at most `GRID_UM` µm a pixel is smoothed. Its highest pixel is a candidate; those within the
    radius are none; and so on with the highest of the others, down to the threshold. Of equal pixels the upper, then
    the left one comes first. Glass has none, however tiles at its edge and the smoothing spread.

    Parameters
    ----------
    store : HeatmapStore
    settings : CandidateSettings
    tumour_from : float
        The threshold of tumour pixels.
    """
    level = level_for(store, GRID_UM)
    pixel_l0 = store.georef.downsample * 2**level
    pixel_um = pixel_l0 * store.georef.slide_mpp
    values = read_plane(store, store.main_channel, level)
    smooth = gaussian_filter(values, settings.smooth_um / pixel_um, mode="constant") if settings.smooth_um else values
    smooth = np.where(values > 0, smooth, 0)
    least = tumour_from / 2 if settings.threshold is None else settings.threshold
    radius_px = min(settings.radius_um / pixel_um, math.hypot(*values.shape))
    rows, columns = find_peaks(smooth, threshold=max(least, _LEAST), around=disk(radius_px))
    width, height = store.georef.slide_size_px
    return Candidates(
        probability=smooth[rows, columns],
        x=np.minimum(columns * pixel_l0 + pixel_l0 // 2, width - 1),
        y=np.minimum(rows * pixel_l0 + pixel_l0 // 2, height - 1),
        highest=float(smooth.max(initial=0)),
    )


def level_for(store: HeatmapStore, pixel_um: float) -> int:
    """Return the coarsest level of a heatmap with at most `pixel_um` µm a pixel; 0 where none is so fine."""
    fine = [level for level in range(store.levels) if store.georef.scale_um(level) <= pixel_um]
    return fine[-1] if fine else 0


def read_plane(store: HeatmapStore, channel: str, level: int) -> npt.NDArray[np.float32]:
    """Return one channel at a level, (H, W) float32 in [0, 1]; 0 on glass, whatever tiles at its edge say there."""
    values: npt.NDArray[np.float32] = np.divide(store.level(level)[store.channels.index(channel)], 255, dtype="f4")
    values[np.asarray(store.labels(level)) == 0] = 0
    return values


def find_peaks(
    values: _Float,
    *,
    threshold: float,
    around: npt.NDArray[np.bool_],
    most: int | None = None,
    taken: Sequence[tuple[int, int]] = (),
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of the highest values that do not lie around higher ones, highest first.

    Parameters
    ----------
    values : (H, W) float
    threshold : float
        Lowest value of a peak.
    around : (2R + 1, 2R + 1) bool
        What a peak, in the middle of it, keeps free of others.
    most : int, optional
        Peaks to find; by default all.
    taken : sequence of (row, column)
        Places whose surroundings have no peak.
    """
    free = np.ones(values.shape, dtype=np.bool_)
    for place in taken:
        _clear(free, place, around)
    rows, columns = np.nonzero(values >= threshold)
    order = np.argsort(-values[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), _BLOCK):
        some_rows, some_columns = rows[start : start + _BLOCK], columns[start : start + _BLOCK]
        while (left := free[some_rows, some_columns]).any():
            if most is not None and len(found) >= most:
                return _as_arrays(found)
            first = int(np.argmax(left))
            found.append((int(some_rows[first]), int(some_columns[first])))
            _clear(free, found[-1], around)
    return _as_arrays(found)


def _as_arrays(places: list[tuple[int, int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
    return rows, columns


def disk(radius_px: float) -> npt.NDArray[np.bool_]:
    """Return what lies no farther than a radius from the middle, (2R + 1, 2R + 1) bool."""
    reach = math.floor(radius_px)
    steps = np.arange(-reach, reach + 1)
    near: npt.NDArray[np.bool_] = np.hypot(steps[:, None], steps) <= radius_px
    return near


def _clear(free: npt.NDArray[np.bool_], place: tuple[int, int], around: npt.NDArray[np.bool_]) -> None:
    """Set what lies around a place to False."""
    reach = len(around) // 2
    into, of = zip(*(_overlap(at, reach, side) for at, side in zip(place, free.shape, strict=True)), strict=True)
    free[into] &= ~around[of]


def _overlap(at: int, reach: int, side: int) -> tuple[slice, slice]:
    start, stop = max(at - reach, 0), min(at + reach + 1, side)
    return slice(start, stop), slice(start - at + reach, stop - at + reach)


def read_candidates(path: Path, size_px: tuple[int, int]) -> Candidates:
    """Read the candidates of one slide from a CSV ``probability,x,y``, as the organisers of Camelyon16 want it.

    Parameters
    ----------
    path : Path
        Coordinates are level-0 px; a first line that names the columns is passed over. A file without rows is a slide
        without candidates.
    size_px : (int, int)
        Width and height of the slide's level 0.

    Raises
    ------
    InputError
        If there is no such file, a row is malformed, a probability is not within 0 to 1, or a point is not on the
        slide.
    """
    rows = read_csv_rows(path, "file of candidates")
    if rows and tuple(rows[0]) == _COLUMNS:
        del rows[0]
    table = np.array([_numbers(path, row, size_px) for row in rows], dtype=np.float64).reshape(-1, 3)
    table = table[np.argsort(-table[:, 0], kind="stable")]
    return Candidates(
        probability=table[:, 0].astype(np.float32),
        x=np.floor(table[:, 1]).astype(np.int64),
        y=np.floor(table[:, 2]).astype(np.int64),
        highest=float(table[:, 0].max(initial=0)),
    )


def _numbers(path: Path, row: list[str], size_px: tuple[int, int]) -> tuple[float, float, float]:
    try:
        probability, x, y = map(float, row)
    except ValueError:
        raise InputError(f"{path}: malformed row", got=",".join(row), expected="probability,x,y") from None
    if not 0 <= probability <= 1:
        raise InputError(f"{path}: not a probability", got=probability, expected="0 to 1")
    if not (0 <= x < size_px[0] and 0 <= y < size_px[1]):
        raise InputError(
            f"{path}: a point is not on the slide",
            got=f"x {x:g}, y {y:g}",
            expected=f"level-0 px within {size_px[0]} × {size_px[1]}",
        )
    return probability, x, y
