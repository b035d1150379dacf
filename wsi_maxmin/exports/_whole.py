"""See whether an export beside a heatmap has been cut off since it was written."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from defusedxml.ElementTree import fromstring
from PIL import Image

_PNG_END = b"IEND\xaeB`\x82"


def damage(path: Path) -> str | None:
    """Return what is wrong with an export, a file or a folder of them; None if nothing is.

    Of a TIFF only the last tile is decoded, and of a table only its last row is compared with the first.
    """
    if path.is_dir():
        return next((why for file in sorted(path.iterdir()) if (why := damage(file))), None)
    try:
        _CHECKS.get(path.suffix, _is_not_empty)(path)
    except Exception as error:  # a damaged file may make any library raise anything
        return f"{path.name} is damaged ({error})"
    return None


def _is_not_empty(path: Path) -> None:
    if not path.stat().st_size:
        raise ValueError("empty")


def _is_json(path: Path) -> None:
    json.loads(path.read_bytes())


def _is_table(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    first, last = next(csv.reader(lines)), next(csv.reader(lines[-1:]))
    if len(first) != len(last) or not text.endswith("\n"):
        raise ValueError("its last row is cut off")


def _is_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()
    if not path.read_bytes().endswith(_PNG_END):
        raise ValueError("its end is cut off")


def _is_tiff(path: Path) -> None:
    with tifffile.TiffFile(path) as file:
        if path.name.endswith(".ome.tif"):  # what describes it lies behind the last tile
            fromstring(file.ome_metadata or "")
        pages = [page for top in file.pages for page in (top, *(top.pages or ()))]
        last = max(pages, key=lambda page: max(page.dataoffsets))
        index = int(np.argmax(last.dataoffsets))
        start, count = last.dataoffsets[index], last.databytecounts[index]
        if start + count > path.stat().st_size:
            raise ValueError("its last tile is cut off")
        file.filehandle.seek(start)
        last.decode(file.filehandle.read(count), index)


_CHECKS: dict[str, Callable[[Path], None]] = {
    ".csv": _is_table,
    ".geojson": _is_json,
    ".json": _is_json,
    ".png": _is_picture,
    ".tif": _is_tiff,
}
