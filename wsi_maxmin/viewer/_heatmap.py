"""A stored heatmap as a viewer needs it: where each level lies on the slide, and the values of a tile."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from wsi_maxmin.heatmap_store import main_channel, not_a_heatmap
from wsi_maxmin.sinks._ngff import ome_metadata

TILE_PX = 512
# Of a map pixel: the store's µm are rounded, and over a whole slide that adds up.
_ROUNDED = 1e-3

Values = npt.NDArray[np.uint8]
Seen = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapLevel:
    """One level of a heatmap's pyramid.

    Attributes
    ----------
    size_px : (int, int)
        Width and height.
    origin_l0 : (float, float)
        Top-left corner of its first pixel, level-0 px (x, y).
    step_l0 : (float, float)
        Level-0 px a pixel, in x and y.
    """

    size_px: tuple[int, int]
    origin_l0: tuple[float, float]
    step_l0: tuple[float, float]


class StoredMap:
    """An OME-Zarr heatmap opened for reading; any number of threads may ask.

    Parameters
    ----------
    store : Path

    Raises
    ------
    InputError
        If it is none that `wsi_maxmin.sinks.omezarr` wrote.
    """

    def __init__(self, store: Path) -> None:
        try:
            self._group = zarr.open_group(store, mode="r")
            metadata = ome_metadata(self._group)
            (image,) = metadata["multiscales"]
            described = {str(channel["label"]): channel for channel in metadata["omero"]["channels"]}
            self.channels = tuple(described)
            self.brightest = int(described[self.main_channel].get("window", {}).get("end", 255))
            self._arrays = [self._array(entry["path"]) for entry in image["datasets"]]
            placed = [_placement(entry["coordinateTransformations"]) for entry in image["datasets"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise not_a_heatmap(store, error) from None
        # Pixel-centre convention: the first pixel of level k lies (D·2^k − 1)/2 slide pixels from that of the slide.
        (across, _), (right, _) = placed[0]
        self.mpp = round(across - 2 * right, 9)
        self.levels = tuple(
            MapLevel(
                size_px=(array.shape[2], array.shape[1]),
                origin_l0=(_corner(shift[0], scale[0], self.mpp), _corner(shift[1], scale[1], self.mpp)),
                step_l0=(scale[0] / self.mpp, scale[1] / self.mpp),
            )
            for array, (scale, shift) in zip(self._arrays, placed, strict=True)
        )

    def _array(self, path: str) -> zarr.Array:
        array = self._group[path]
        if not isinstance(array, zarr.Array) or array.ndim != 3 or array.dtype != np.uint8:
            raise ValueError(f"{path} is not (c, y, x) uint8")
        return array

    @property
    def main_channel(self) -> str:
        """The channel that the model's threshold is for."""
        return main_channel(self.channels)

    @property
    def span_l0(self) -> tuple[int, int]:
        """Width and height of the map in level-0 px: those of the slide, rounded up to whole map pixels."""
        level = self.levels[0]
        return round(level.size_px[0] * level.step_l0[0]), round(level.size_px[1] * level.step_l0[1])

    def covers(self, size_px: tuple[int, int]) -> bool:
        """Whether the map may be of a slide of this size."""
        steps = zip(size_px, self.levels[0].step_l0, self.levels[0].size_px, strict=True)
        return all(math.ceil(size / step - _ROUNDED) == pixels for size, step, pixels in steps)

    def finest_within(self, pixels: int) -> int:
        """Return the finest level of at most so many pixels; the coarsest where none is that small."""
        small = [index for index, level in enumerate(self.levels) if math.prod(level.size_px) <= pixels]
        return min(small, default=len(self.levels) - 1)

    def tile(self, channel: str, level: int, column: int, row: int) -> tuple[Values, Seen]:
        """Return one tile with the first row and column of its neighbours, so that contours meet: values and seen.

        Raises
        ------
        KeyError
            If there is no such channel, level or tile.
        """
        if channel not in self.channels or not 0 <= level < len(self.levels):
            raise KeyError((channel, level))
        width, height = self.levels[level].size_px
        left, top = column * TILE_PX, row * TILE_PX
        if not (0 <= left < width and 0 <= top < height):
            raise KeyError((column, row))
        return self._read(channel, level, slice(top, top + TILE_PX + 1), slice(left, left + TILE_PX + 1))

    def whole(self, channel: str, level: int) -> tuple[Values, Seen]:
        """Return a whole level: values and where they were seen."""
        return self._read(channel, level, slice(None), slice(None))

    def shown(self, channel: str, level: int, rows: slice, columns: slice) -> Values:
        """Return a rectangle of a level, 0 where nothing was seen."""
        values, seen = self._read(channel, level, rows, columns)
        return np.where(seen, values, 0).astype(np.uint8)

    def _read(self, channel: str, level: int, rows: slice, columns: slice) -> tuple[Values, Seen]:
        array = self._arrays[level]
        values = np.asarray(array[self.channels.index(channel), rows, columns])
        seen = np.ones(values.shape, dtype=np.bool_)
        if "coverage" in self.channels:
            seen &= np.asarray(array[self.channels.index("coverage"), rows, columns]) > 0
        if self._tissue:
            seen &= np.asarray(self._tissue[level][rows, columns]) > 0
        return values, seen

    @cached_property
    def labels(self) -> list[zarr.Array]:
        """Levels of the label image; none where there is no such image."""
        try:
            return [self._group[f"labels/tumour/{level}"] for level in range(len(self.levels))]
        except KeyError:
            return []

    @cached_property
    def label_about(self) -> dict[str, Any]:
        """What the label image says of its values: ``colors`` and ``properties``."""
        return dict(ome_metadata(self._group["labels/tumour"])["image-label"])

    @cached_property
    def _tissue(self) -> list[zarr.Array]:
        """The labels, where they tell tissue from glass; maps that were written without tissue do not."""
        if not self.labels:
            return []
        (tissue,) = (entry["label-value"] for entry in self.label_about["properties"] if entry["class"] == "tissue")
        return self.labels if (np.asarray(self.labels[-1][:]) == tissue).any() else []


def _placement(transforms: list[dict[str, Any]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return scale and translation in µm, as (x, y)."""
    found = {entry["type"]: entry[entry["type"]] for entry in transforms}
    scale, shift = found["scale"], found.get("translation", [0.0] * 3)
    return (float(scale[2]), float(scale[1])), (float(shift[2]), float(shift[1]))


def _corner(translation_um: float, scale_um: float, mpp: float) -> float:
    return (translation_um - scale_um / 2 + mpp / 2) / mpp
