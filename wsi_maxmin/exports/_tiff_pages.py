"""Levels of a heatmap as tiles of a TIFF, read from the store one by one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

TILE_PX = 512
_UM_PER_CM = 1e4


def tiles(array: zarr.Array, channels: range) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the tiles of some channels of a level, (512, 512) uint8, 0 beyond its edges."""
    height, width = array.shape[-2:]
    for channel in channels:
        for top in range(0, height, TILE_PX):
            for left in range(0, width, TILE_PX):
                block = np.asarray(array[channel, top : top + TILE_PX, left : left + TILE_PX])
                rows, columns = block.shape
                yield np.pad(block, ((0, TILE_PX - rows), (0, TILE_PX - columns)))


def page_options(mpp: float) -> dict[str, Any]:
    """Return how pages of `mpp` µm a pixel are written."""
    return {
        "dtype": np.uint8,
        "tile": (TILE_PX, TILE_PX),
        "compression": "zlib",
        "photometric": "minisblack",
        "resolution": (_UM_PER_CM / mpp, _UM_PER_CM / mpp),
        "resolutionunit": "CENTIMETER",
        "maxworkers": 1,
    }
