"""Where on a slide to look first: the squares that a heatmap marks most, and those of which it is least certain."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter, uniform_filter

from wsi_maxmin.candidates import GRID_UM, find_peaks, level_for, read_plane
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box
from wsi_maxmin.heatmap_store import HeatmapStore

Reason = Literal["tumour", "uncertainty"]

LEAST_TISSUE = 0.1
_LEAST = 1e-6
_CENTRING = 1e-3

_Plane = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewSettings:
    """How many squares, and how large.

    Attributes
    ----------
    count : int
        At most so many for each reason.
    side_um : float
        Of a square.
    """

    count: int = 6
    side_um: float = 256.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError("no such number of regions", got=self.count, expected="at least 1")
        if not GRID_UM <= self.side_um < math.inf:
            raise InputError("no such side of a region", got=self.side_um, expected=f"µm, at least {GRID_UM:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRegion:
    """A square to look at.

    Attributes
    ----------
    name : str
        ``T1``, ``T2``, … by tumour, ``U1``, ``U2``, … by uncertainty.
    reason : {"tumour", "uncertainty"}
        The channel whose mean chose it.
    box : Box
        It may reach outside the slide.
    tissue : float
        Share of the square.
    means, maxima : dict of str to float
        Of each channel over the square, 0 on glass.
    """

    name: str
    reason: Reason
    box: Box
    tissue: float
    means: dict[str, float]
    maxima: dict[str, float]


def choose_regions(store: HeatmapStore, settings: ReviewSettings, threshold: float) -> list[ReviewRegion]:
    """Return the squares of the highest mean tumour, then those of the highest mean uncertainty apart from them.

    No two overlap. Squares of the first kind have a pixel that reaches the threshold of tumour; those of the second
    have at least `LEAST_TISSUE` of tissue, and there are none where a map has no uncertainty. Means are taken on the
    coarsest level with at most 8 µm a pixel, over the whole square, so one with more tissue comes first. Of means that
    are equal within a thousandth, the one comes first around which they are higher.
    """
    level = level_for(store, GRID_UM)
    pixel_l0 = store.georef.downsample * 2**level
    side = max(round(settings.side_um / (pixel_l0 * store.georef.slide_mpp)), 1)
    planes = {name: read_plane(store, name, level) for name in store.valued}
    tissue = np.asarray(store.labels(level)) > 0
    overlapping = np.ones((2 * side - 1, 2 * side - 1), dtype=np.bool_)
    found: list[ReviewRegion] = []
    taken: list[tuple[int, int]] = []
    reasons: tuple[Reason, ...] = ("tumour", "uncertainty")
    for reason in reasons:
        channel = store.main_channel if reason == "tumour" else reason
        if channel not in planes:
            continue
        means = uniform_filter(planes[channel], side, mode="constant")
        if reason == "tumour":
            means[maximum_filter(planes[channel], side, mode="constant") < threshold] = 0
        else:
            means[uniform_filter(tissue.astype(np.float32), side, mode="constant") < LEAST_TISSUE] = 0
        # Of squares that hold the same small spot, the one in whose middle it lies.
        means += _CENTRING * uniform_filter(means, side, mode="constant") * (means > 0)
        rows, columns = find_peaks(means, threshold=_LEAST, around=overlapping, most=settings.count, taken=taken)
        places = list(zip(rows.tolist(), columns.tolist(), strict=True))
        for number, place in enumerate(places, 1):
            top, left = (at - side // 2 for at in place)
            box = Box(x=left * pixel_l0, y=top * pixel_l0, width=side * pixel_l0, height=side * pixel_l0)
            squares = {name: _square(plane, top, left, side) for name, plane in planes.items()}
            found.append(
                ReviewRegion(
                    name=f"{reason[0].upper()}{number}",
                    reason=reason,
                    box=box,
                    tissue=float(_square(tissue, top, left, side).sum() / side**2),
                    means={name: float(square.sum() / side**2) for name, square in squares.items()},
                    maxima={name: float(square.max()) for name, square in squares.items()},
                )
            )
        taken += places
    return found


def _square(plane: _Plane, top: int, left: int, side: int) -> _Plane:
    """Return what of a square lies on the plane."""
    return plane[max(top, 0) : top + side, max(left, 0) : left + side]
