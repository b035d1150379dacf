"""Time one reader, in one thread, on 512² regions of level 0; run by `extract.py` in the reader's environment.

read_tiles.py READER SLIDE PLACES.json COUNT

PLACES.json holds [x, y] pairs, level-0 px. The rate is COUNT over the seconds that all of them take; where regions lie
off the tile grid, COUNT is the number of tiles they touch. Opening the slide is not timed, and 16 reads come before.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 512
Read = Callable[[int, int], Any]


def ours(slide: str, reader: str) -> Read:
    """Read with the package."""
    from wsi_maxmin.readers import open_slide

    opened = open_slide(slide, reader=reader)
    return lambda x, y: opened.read_level(0, x, y, SIDE, SIDE)


def openslide(slide: str) -> Read:
    """Read with openslide-python, and drop the alpha channel."""
    from openslide import OpenSlide

    opened = OpenSlide(slide)
    return lambda x, y: np.asarray(opened.read_region((x, y), 0, (SIDE, SIDE)).convert("RGB"))


def tifffile_zarr(slide: str) -> Read:
    """Read with tifffile through zarr."""
    import tifffile
    import zarr

    opened = zarr.open(tifffile.imread(slide, aszarr=True, level=0), mode="r")
    return lambda x, y: opened[y : y + SIDE, x : x + SIDE]


def pyvips(slide: str) -> Read:
    """Read with libvips in one thread."""
    import pyvips

    opened = pyvips.Region.new(pyvips.Image.new_from_file(slide, page=0))
    return lambda x, y: np.ndarray((SIDE, SIDE, 3), np.uint8, opened.fetch(x, y, SIDE, SIDE))


def tiffslide(slide: str) -> Read:
    """Read with tiffslide, as an array."""
    from tiffslide import TiffSlide

    opened = TiffSlide(slide)
    return lambda x, y: opened.read_region((x, y), 0, (SIDE, SIDE), as_array=True)


def cucim(slide: str) -> Read:
    """Read with cuCIM on the CPU, with its cache of tiles per process."""
    from cucim import CuImage

    CuImage.cache("per_process", memory_capacity=1024)
    opened = CuImage(slide)
    return lambda x, y: np.asarray(opened.read_region((x, y), (SIDE, SIDE), level=0, num_workers=1))


def fastslide(slide: str) -> Read:
    """Read with fastslide."""
    from fastslide import FastSlide

    opened = FastSlide.from_file_path(slide)
    return lambda x, y: opened.read_region((x, y), 0, (SIDE, SIDE)).numpy()


READERS: dict[str, tuple[Callable[[str], Read], str | None]] = {
    "ours-tiff": (lambda slide: ours(slide, "tiff"), None),
    "ours-openslide": (lambda slide: ours(slide, "openslide"), "openslide-python"),
    "openslide": (openslide, "openslide-python"),
    "tifffile-zarr": (tifffile_zarr, "tifffile"),
    "pyvips": (pyvips, "pyvips"),
    "tiffslide": (tiffslide, "tiffslide"),
    "cucim": (cucim, "cucim-cu12"),
    "fastslide": (fastslide, "fastslide"),
}


def main() -> None:
    """Read all places and print one line of JSON."""
    name, slide, places, count = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    opening, package = READERS[name]
    read, corners = opening(slide), json.loads(places.read_text())
    # From the end: what a cache keeps of these is long gone when the timed reads come there.
    for x, y in corners[-16:]:
        pixels = read(x, y)
    if pixels.shape != (SIDE, SIDE, 3):
        raise SystemExit(f"got {pixels.shape}, expected {(SIDE, SIDE, 3)}")
    start = time.perf_counter()
    for x, y in corners:
        read(x, y)
    seconds = time.perf_counter() - start
    what = f"{package} {version(package)}" if package else ""
    print(json.dumps({"tiles": count, "seconds": seconds, "what": what, "sum": int(pixels.sum(dtype=np.int64))}))


if __name__ == "__main__":
    main()
