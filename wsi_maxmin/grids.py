"""Grids over a slide: the tiles that a model reads, and the display pixels that a heatmap is written on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box

DISPLAY_MPP = 2.0
COARSEST_MPP = 256.0
CHUNK_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileGrid:
    """Square tiles of one size on a regular grid over a slide, and which of them to keep.

    The tile at (row, column) starts at exactly (row·stride, column·stride) on the grid's own canvas. Its level-0 `Box`
    is computed from the index, never accumulated, so that rounding does not drift.

    Attributes
    ----------
    slide_id : str
    slide_size_px : (int, int)
        Width and height of level 0.
    slide_mpp : float
        µm per level-0 pixel.
    mpp : float
        µm per pixel of the canvas and so of the tiles.
    tile_px, stride_px : int
        Tile side and step, canvas pixels.
    shape : (int, int)
        Rows and columns that cover the slide.
    keep : (N, 2) int32
        Rows and columns of the tiles to read, in row-major order.
    """

    slide_id: str
    slide_size_px: tuple[int, int]
    slide_mpp: float
    mpp: float
    tile_px: int
    stride_px: int
    shape: tuple[int, int]
    keep: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if not 0 < self.stride_px <= self.tile_px:
            raise InputError(
                "the stride does not cover the slide",
                got=self.stride_px,
                expected=f"1 to {self.tile_px} (tile size)",
            )
        if self.keep.ndim != 2 or self.keep.shape[1] != 2 or self.keep.dtype != np.int32:
            raise ValueError(f"keep must be (N, 2) int32; got {self.keep.shape} {self.keep.dtype}")

    def __len__(self) -> int:
        return len(self.keep)

    @property
    def downsample(self) -> float:
        """Level-0 pixels a canvas pixel."""
        return self.mpp / self.slide_mpp

    def box(self, row: int, column: int) -> Box:
        """Return the level-0 box of a tile; neighbours at stride = tile share an edge exactly."""
        return self.canvas_box(column * self.stride_px, row * self.stride_px, self.tile_px)

    def canvas_box(self, x: int, y: int, side: int) -> Box:
        """Return the level-0 box of any square of the canvas, in canvas pixels."""
        left, width = self._span(x, side)
        top, height = self._span(y, side)
        return Box(x=left, y=top, width=width, height=height)

    def _span(self, start_px: int, length_px: int) -> tuple[int, int]:
        start = round(start_px * self.downsample)
        stop = round((start_px + length_px) * self.downsample)
        return start, max(stop - start, 1)

    def boxes(self) -> Iterator[Box]:
        """Yield the boxes of the kept tiles, in order."""
        return (self.box(int(row), int(column)) for row, column in self.keep)

    def describe_mpp(self, requested: float | None) -> str:
        """Say at which µm per pixel the tiles are read, beside what was asked for and what the slide has."""
        asked = "level 0" if requested is None else f"{requested:.4g} µm"
        text = f"{self.tile_px} px at {self.mpp:.4g} µm a pixel (asked {asked}, slide {self.slide_mpp:.4g} µm)"
        if self.downsample < 1:
            text += f"; WARNING: the slide is coarser and is enlarged {1 / self.downsample:.2f} times"
        return text

    def kept_box(self) -> Box:
        """Return the smallest box that holds the kept tiles inside the slide; the whole slide where none is kept."""
        width, height = self.slide_size_px
        if not len(self):
            return Box(x=0, y=0, width=width, height=height)
        (top, left), (bottom, right) = self.keep.min(axis=0), self.keep.max(axis=0)
        first, last = self.box(int(top), int(left)), self.box(int(bottom), int(right))
        stop_x, stop_y = min(last.right, width), min(last.bottom, height)
        return Box(x=first.x, y=first.y, width=stop_x - first.x, height=stop_y - first.y)

    def to_json(self) -> dict[str, Any]:
        """Return the grid as JSON values; `from_json` reads them."""
        return {
            "slide_id": self.slide_id,
            "slide_size_px": list(self.slide_size_px),
            "slide_mpp": self.slide_mpp,
            "mpp": self.mpp,
            "tile_px": self.tile_px,
            "stride_px": self.stride_px,
            "shape": list(self.shape),
            "keep": self.keep.tolist(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TileGrid":
        """Make a grid from what `to_json` gave."""
        return cls(
            **{
                **values,
                "slide_size_px": tuple(values["slide_size_px"]),
                "shape": tuple(values["shape"]),
                "keep": np.asarray(values["keep"], dtype=np.int32).reshape(-1, 2),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Georef:
    """The display grid of a slide: the whole slide from its (0, 0), `downsample` level-0 pixels a pixel.

    Attributes
    ----------
    slide_size_px : (int, int)
        Width and height of level 0.
    slide_mpp : float
    downsample : int
        A power of two.
    """

    slide_size_px: tuple[int, int]
    slide_mpp: float
    downsample: int

    @classmethod
    def for_display(cls, slide_size_px: tuple[int, int], slide_mpp: float, wanted_mpp: float | None = None) -> "Georef":
        """Choose the power of two nearest to `wanted_mpp` µm a pixel, 1 for a slide coarser than that.

        By default the largest with at most 2 µm: on such a grid viewers that disagree on pixel centre against corner
        differ by at most 1 µm.

        Raises
        ------
        InputError
            If `wanted_mpp` is not above 0 and at most 256.
        """
        if wanted_mpp is None:
            exponent = math.floor(math.log2(DISPLAY_MPP / slide_mpp))
        elif 0 < wanted_mpp <= COARSEST_MPP:
            exponent = round(math.log2(wanted_mpp / slide_mpp))
        else:
            raise InputError(
                "no such resolution of a heatmap", got=wanted_mpp, expected="µm a pixel, above 0 and at most 256"
            )
        return cls(slide_size_px=slide_size_px, slide_mpp=slide_mpp, downsample=2 ** max(exponent, 0))

    @property
    def mpp(self) -> float:
        """µm per display pixel."""
        return self.slide_mpp * self.downsample

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the display grid."""
        width, height = self.slide_size_px
        return math.ceil(height / self.downsample), math.ceil(width / self.downsample)

    def scale_um(self, level: int = 0) -> float:
        """µm per pixel of a pyramid level."""
        return self.mpp * float(2**level)

    def translation_um(self, level: int = 0) -> float:
        """µm from the centre of level-0 pixel (0, 0) to that of a pyramid level's first pixel, in x and in y."""
        return (self.downsample * float(2**level) - 1) / 2 * self.slide_mpp

    def to_display(self, x_l0: float, y_l0: float) -> tuple[float, float]:
        """Map a level-0 point (x, y; pixel i spans i to i + 1) to display coordinates (x, y) of the same convention."""
        return x_l0 / self.downsample, y_l0 / self.downsample

    def to_level0(self, x: float, y: float) -> tuple[float, float]:
        """Map a display point to level 0; the inverse of `to_display`."""
        return x * self.downsample, y * self.downsample


def grid_shape(slide_size_px: tuple[int, int], downsample: float, tile_px: int, stride_px: int) -> tuple[int, int]:
    """Return how many rows and columns of tiles cover a slide; the last ones may reach outside it."""
    width, height = (math.ceil(side / downsample) for side in slide_size_px)
    overlap = tile_px - stride_px
    rows, columns = (max(math.ceil((side - overlap) / stride_px), 1) for side in (height, width))
    return rows, columns


def overlap_to_stride(tile_px: int, overlap: float) -> int:
    """Return the stride of tiles that overlap by a share of their side, 0 ≤ overlap < 1."""
    if not 0 <= overlap < 1:
        raise InputError("the overlap is out of range", got=overlap, expected="0 ≤ overlap < 1, such as 0.5")
    return max(round(tile_px * (1 - overlap)), 1)
