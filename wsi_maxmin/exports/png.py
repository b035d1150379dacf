"""Coloured pictures of the channels that lie over any picture of the whole slide, with a JSON file that says how."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from wsi_maxmin.exports._source import ExportSource
from wsi_maxmin.runinfo import write_json

FILES = ("png.json", "tumour.png", "probability.png", "uncertainty.png")
LONGEST_PX = 8192
COLOR_MAP = "viridis"


def write(source: ExportSource, folder: Path) -> None:
    """Write a PNG for each channel but coverage, transparent where no tile was, and ``png.json``."""
    store = source.store
    level = next((n for n in range(store.levels) if max(store.level(n).shape) <= LONGEST_PX), store.levels - 1)
    array, georef = store.level(level), store.georef
    covered = np.asarray(array[store.channels.index("coverage")]) > 0
    written = [name for name in store.valued if f"{name}.png" in FILES]
    for name in written:
        values = np.asarray(array[store.channels.index(name)])
        # Byte 0 is what is transparent; a pixel of value 0 that was looked at takes the colour of 1/255.
        picture = Image.fromarray(np.where(covered, np.maximum(values, 1), 0).astype(np.uint8), mode="P")
        picture.putpalette(_palette())
        picture.save(folder / f"{name}.png", transparency=0, optimize=False)
    pixel = georef.downsample * 2**level
    write_json(
        folder / FILES[0],
        {
            "slide_id": source.slide_id,
            "slide_size_px": list(georef.slide_size_px),
            "slide_mpp": georef.slide_mpp,
            "mpp": georef.slide_mpp * pixel,
            "level0_px_per_pixel": pixel,
            "origin_level0_px": [0, 0],
            "origin_is": "the upper left corner of the first pixel",
            "color_map": COLOR_MAP,
            "value": "palette index / 255; index 0 is transparent: no tile there",
            "files": [f"{name}.png" for name in written],
        },
    )


def _palette() -> bytes:
    """Return red, green and blue of each byte."""
    colors = matplotlib.colormaps[COLOR_MAP](np.arange(256) / 255)[:, :3]
    return bytes(np.rint(255 * colors).astype(np.uint8))
