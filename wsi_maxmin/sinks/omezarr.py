"""Write a heatmap as OME-Zarr: whole slide from its (0, 0), uint8, Blosc, exactly 2× a level.

Version 0.4 on Zarr v2 is what every common viewer opens; 0.5 is for those who need Zarr v3.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr

from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import Georef
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.sinks._ngff import (
    Ngff,
    add_array,
    check_version,
    describe_image,
    describe_labels,
    least_byte,
    list_labels,
    open_new,
)
from wsi_maxmin.sinks._pyramid import Reduce, halve, halve_mean, halve_nearest
from wsi_maxmin.stitching import Heatmap

SMALLEST_PX = 256
TISSUE, TUMOUR = 1, 2
_COLORS = {"tumour": "FF0000", "probability": "FFA500", "uncertainty": "00FFFF", "coverage": "808080"}
_AXES = ("c", "y", "x")
# Viewers show the first channel brightest from so many thresholds on: of a low one the map would be nearly black.
_BRIGHTEST = 3


def write(
    heatmap: Heatmap,
    path: Path,
    *,
    threshold: float,
    tissue: TissueMask | None = None,
    name: str = "",
    ngff: Ngff = "0.4",
    stopwatch: Stopwatch | None = None,
) -> None:
    """Write channels, pyramid, labels and metadata; `path` is replaced.

    The store is built beside `path` and takes its name when it is whole.

    Parameters
    ----------
    heatmap : Heatmap
        Of any chunks: it is rechunked to the store's first, since blocks across chunk borders would be lost.
    path : Path
        Folder, such as ``heatmap.ome.zarr``.
    threshold : float
        Of the first channel, from which on ``labels/tumour`` is tumour.
    tissue : TissueMask, optional
        Adds tissue to the labels; glass is then never tumour.
    name : str
        Shown by viewers.
    ngff : {"0.4", "0.5"}
        Version of OME-Zarr.
    stopwatch : Stopwatch, optional
        Gets ``write``: storing channels and labels and halving them, summed over threads.

    Raises
    ------
    InputError
        If there is no such version.
    """
    check_version(ngff)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    stopwatch = stopwatch or Stopwatch()
    try:
        group = open_new(partial, ngff)
        _write_image(group, heatmap, threshold, name, stopwatch)
        _write_labels(group, heatmap, threshold, tissue, stopwatch)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except BaseException:
        # On a full disk it would take the room of what comes next.
        shutil.rmtree(partial, ignore_errors=True)
        raise


def level_count(shape: tuple[int, int]) -> int:
    """Return how many levels it takes until the longer side has at most `SMALLEST_PX` pixels."""
    return 1 + max(math.ceil(math.log2(max(shape) / SMALLEST_PX)), 0)


def to_uint8(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return round(255·value); NaN becomes 0."""
    return np.rint(255 * np.nan_to_num(values, nan=0.0)).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Timed:
    """An array whose writes are timed."""

    array: zarr.Array
    stopwatch: Stopwatch

    def __setitem__(self, where: Any, values: npt.NDArray[np.uint8]) -> None:
        with self.stopwatch.stage("write", summed=True):
            self.array[where] = values


def _write_image(group: zarr.Group, heatmap: Heatmap, threshold: float, name: str, stopwatch: Stopwatch) -> None:
    levels = level_count(heatmap.georef.shape)
    image = add_array(group, "0", (len(heatmap.channels), *heatmap.georef.shape), _AXES)
    # Blocks are whole chunks of the store, of all channels: one task instead of one a channel.
    blocks = (len(heatmap.channels), *image.chunks[1:])
    values = heatmap.data.rechunk(blocks).map_blocks(to_uint8, dtype=np.uint8)
    da.store(values, _Timed(image, stopwatch), lock=False)
    _pyramid(group, image, levels, halve_mean, _AXES, stopwatch)
    first, *others = heatmap.channels
    brightest = min(max(math.ceil(255 * _BRIGHTEST * threshold), 1), 255)
    channels = [_channel(first, active=True, brightest=brightest)]
    channels += [_channel(other, active=False, brightest=255) for other in others]
    describe_image(group, _multiscales(heatmap.georef, levels, _AXES, name), {"name": name, "channels": channels})


def _write_labels(
    group: zarr.Group, heatmap: Heatmap, threshold: float, tissue: TissueMask | None, stopwatch: Stopwatch
) -> None:
    levels = level_count(heatmap.georef.shape)
    labels = group.create_group("labels")
    list_labels(labels, ["tumour"])
    tumour = labels.create_group("tumour")
    image = add_array(tumour, "0", heatmap.georef.shape, _AXES[1:])
    values = da.map_blocks(
        _label_block,
        da.from_zarr(group["0"])[0].rechunk(image.chunks),
        threshold=threshold,
        tissue=tissue,
        downsample=heatmap.georef.downsample,
        dtype=np.uint8,
    )
    da.store(values, _Timed(image, stopwatch), lock=False)
    _pyramid(tumour, image, levels, halve_nearest, _AXES[1:], stopwatch)
    describe_labels(
        tumour,
        _multiscales(heatmap.georef, levels, _AXES[1:], "tumour"),
        {
            "colors": [
                {"label-value": TISSUE, "rgba": [160, 160, 160, 64]},
                {"label-value": TUMOUR, "rgba": [200, 0, 0, 160]},
            ],
            "properties": [
                {"label-value": TISSUE, "class": "tissue"},
                {"label-value": TUMOUR, "class": "tumour"},
            ],
            "source": {"image": "../../"},
        },
    )


def _label_block(
    tumour: npt.NDArray[np.uint8],
    *,
    threshold: float,
    tissue: TissueMask | None,
    downsample: int,
    block_info: Any = None,
) -> npt.NDArray[np.uint8]:
    (top, bottom), (left, right) = block_info[None]["array-location"]
    labels = np.where(tumour >= least_byte(threshold), TUMOUR, TISSUE).astype(np.uint8)
    if tissue is None:
        return np.where(labels == TUMOUR, labels, 0).astype(np.uint8)
    x_l0 = (np.arange(left, right) + 0.5) * downsample
    y_l0 = (np.arange(top, bottom) + 0.5) * downsample
    return np.where(tissue.at(x_l0, y_l0), labels, 0).astype(np.uint8)


def _pyramid(
    group: zarr.Group, image: zarr.Array, levels: int, reduce: Reduce, axes: Sequence[str], stopwatch: Stopwatch
) -> None:
    for level in range(1, levels):
        shape = (*image.shape[:-2], *(math.ceil(side / 2) for side in image.shape[-2:]))
        smaller = add_array(group, str(level), shape, axes)
        halve(image, smaller, reduce, stopwatch)
        image = smaller


def _multiscales(georef: Georef, levels: int, axes: Sequence[str], name: str) -> dict[str, Any]:
    def transform(level: int) -> list[dict[str, Any]]:
        scale, shift = georef.scale_um(level), georef.translation_um(level)
        return [
            {"type": "scale", "scale": [1.0 if axis == "c" else scale for axis in axes]},
            {"type": "translation", "translation": [0.0 if axis == "c" else shift for axis in axes]},
        ]

    return {
        "name": name,
        "axes": [
            {"name": axis, "type": "channel"} if axis == "c" else {"name": axis, "type": "space", "unit": "micrometer"}
            for axis in axes
        ],
        "datasets": [{"path": str(level), "coordinateTransformations": transform(level)} for level in range(levels)],
        "type": "mean" if "c" in axes else "nearest",
    }


def _channel(name: str, *, active: bool, brightest: int) -> dict[str, Any]:
    return {
        "label": name,
        "color": _COLORS.get(name, "FFFFFF"),
        "active": active,
        "window": {"min": 0, "max": 255, "start": 0, "end": brightest},
    }
