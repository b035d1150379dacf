"""Where things are: the one place that turns µm per pixel into pixels and back.

Frames. *Level 0* is the slide's largest level; a `Box` and everything ending in ``_l0`` are in its pixels. The
*canvas* is a grid's own pixel plane at `TileGrid.mpp`. The *display grid* is the heatmap's plane, `Georef.downsample`
level-0 pixels a pixel. In all of them the corner of pixel (0, 0) is the slide's top-left corner.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from upath import UPath

from wsi_maxmin.errors import SlideError

MPP_LIMITS = (0.05, 20.0)
MPP_TOLERANCE = 0.1
MPP_ENLARGE_LIMIT = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in level-0 pixels, its top-left corner included and its bottom-right corner not.

    It may reach outside the slide; readers give white there.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"a Box needs a positive size; got {self.width}×{self.height}")

    @property
    def right(self) -> int:
        """First column behind the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """First row below the box."""
        return self.y + self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideInfo:
    """What is known of a slide without reading its pixels.

    Attributes
    ----------
    slide_id : str
    path : Path or UPath
        For messages; of a URL without user and query.
    size_px : (int, int)
        Width and height of level 0.
    mpp : float or None
        µm per pixel of level 0; None where the file does not say.
    level_downsamples : tuple of float
        Level-0 pixels per pixel of each level; see `nominal_downsample`.
    reader : str
        Name of the reader that opened it.
    file_mpp : float or None
        What the file itself says, where `mpp` was given by the user.
    """

    slide_id: str
    path: Path | UPath
    size_px: tuple[int, int]
    mpp: float | None
    level_downsamples: tuple[float, ...]
    reader: str
    file_mpp: float | None = None

    def mpp_note(self) -> str:
        """Return a warning where the user's µm per pixel contradicts the file's, else nothing."""
        if self.mpp is None or self.file_mpp is None or abs(self.file_mpp / self.mpp - 1) <= MPP_TOLERANCE:
            return ""
        return f"; WARNING: the file says {self.file_mpp:.4g} µm, --slide-mpp overrules it"

    def require_mpp(self) -> float:
        """Return the slide's µm per pixel.

        Raises
        ------
        SlideError
            If the file does not say, or says something that no microscope makes.
        """
        low, high = MPP_LIMITS
        if self.mpp is None or not low <= self.mpp <= high:
            raise SlideError(
                f"{self.path.name}: its µm per pixel (mpp) is {'missing' if self.mpp is None else 'not believable'}",
                got=self.mpp,
                expected=f"{low} to {high} µm",
                remedy="pass --slide-mpp, such as --slide-mpp 0.25 for a 40× scan",
            )
        return self.mpp

    @property
    def bounds(self) -> Box:
        """The whole slide."""
        return Box(x=0, y=0, width=self.size_px[0], height=self.size_px[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueMask:
    """Glass against tissue over the whole slide.

    Attributes
    ----------
    mask : (H, W) bool
        True is tissue.
    downsample : (float, float)
        Level-0 pixels a mask pixel, in x and y.
    mpp : float
        µm a mask pixel.
    """

    mask: npt.NDArray[np.bool_]
    downsample: tuple[float, float]
    mpp: float

    def at(self, x_l0: npt.NDArray[np.floating[Any]], y_l0: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
        """Look up the mask at every combination of level-0 rows and columns, as (len(y), len(x)); glass outside."""
        columns = np.floor(x_l0 / self.downsample[0]).astype(np.int64)
        rows = np.floor(y_l0 / self.downsample[1]).astype(np.int64)
        height, width = self.mask.shape
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        found: npt.NDArray[np.bool_] = self.mask[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))] & inside
        return found


def nominal_downsample(
    slide_size_px: tuple[int, int], level_size_px: tuple[int, int], level_tile_px: tuple[int, int] = (1, 1)
) -> float:
    """Return the level-0 pixels per pixel that a pyramid level was made with.

    Level sizes are rounded, or padded to whole tiles (Camelyon16: 97792 → 49152), so their ratio to level 0 is off by
    up to a third at the coarse end. A power of two that explains the level's size in both axes is taken instead.
    """
    ratios = [whole / part for whole, part in zip(slide_size_px, level_size_px, strict=True)]
    nominal = 2 ** max(round(math.log2(max(ratios))), 0)
    explained = all(
        whole // nominal <= part <= math.ceil(math.ceil(whole / nominal) / tile) * tile
        for whole, part, tile in zip(slide_size_px, level_size_px, level_tile_px, strict=True)
    )
    return float(nominal) if explained else sum(ratios) / 2


def effective_mpp(requested: float, slide: SlideInfo) -> float:
    """Return the µm per pixel at which a slide is read when `requested` is asked for.

    Within 10 % of the slide's own it is the slide's own: level 0 is read without resampling. A finer slide is reduced;
    a coarser one is enlarged up to 2.5×.

    Raises
    ------
    SlideError
        If the slide is coarser than that, or its mpp is missing.
    """
    own = slide.require_mpp()
    if abs(own / requested - 1) <= MPP_TOLERANCE:
        return own
    if own / requested > MPP_ENLARGE_LIMIT:
        raise SlideError(
            f"{slide.path.name} is too coarse for what was asked",
            got=f"{own:g} µm per pixel",
            expected=f"at most {MPP_ENLARGE_LIMIT * requested:g} for {requested:g}",
            remedy="use a slide scanned at a higher magnification or a model of a coarser mpp",
        )
    return requested
