"""Slides among all that lies in folders."""

from collections.abc import Iterator
from pathlib import Path

from wsi_maxmin.errors import InputError
from wsi_maxmin.runinfo import command_of

SLIDE_SUFFIXES = (
    ".svs",
    ".tif",
    ".tiff",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".vms",
    ".vmu",
    ".bif",
    ".svslide",
    ".dcm",
)

_MASKS = ("_mask.tif", "_mask.tiff")
_COMMANDS = ("extract-patches", "infer-slide", "stitch")


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder that may be looked at."""
    try:
        return path.is_dir()
    except OSError:
        # What may not even be looked at is attempted as a slide, and fails with the reason.
        return False


def search(folder: Path) -> Iterator[Path]:
    """Yield the slides in a folder and in all folders in it.

    Hidden files, masks (``*_mask.tif``, ``*_mask.tiff``), the inside of ``.zarr`` folders and what our own commands
    wrote are passed over: an exported heatmap is a TIFF, and no slide. The ``.dcm`` files of one folder are one slide,
    opened by the first of them.

    Raises
    ------
    InputError
        If a folder cannot be read.
    """
    waiting, seen = [folder], set()
    while waiting:
        here = waiting.pop()
        # A link may lead back to where the search came from.
        if (real := here.resolve()) in seen:
            continue
        seen.add(real)
        if command_of(here) in _COMMANDS:
            continue
        try:
            inside = sorted(path for path in here.iterdir() if not path.name.startswith("."))
            folders = [path for path in inside if path.is_dir()]
        except OSError as error:
            raise InputError("a folder cannot be searched for slides", got=f"{here} ({error.strerror})") from None
        waiting += [path for path in reversed(folders) if path.suffix != ".zarr"]
        files = [path for path in inside if path not in folders and path.suffix.lower() in SLIDE_SUFFIXES]
        dicom = [path for path in files if path.suffix.lower() == ".dcm"]
        yield from dicom[:1]
        yield from (path for path in files if path not in dicom and not path.name.lower().endswith(_MASKS))
