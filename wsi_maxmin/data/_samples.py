"""What a labelled sample is, and how its files are found."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi_maxmin.errors import InputError

Split = Literal["train", "valid", "test"]

_SAME_PIXELS = (".bmp", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with its image-level label.

    Attributes
    ----------
    image : Path
        The image's file.
    mask : Path or None
        File of its ground truth, nonzero = foreground; evaluation alone opens it, and it may be absent in training.
    background_only : bool
        Known to have no foreground, so that it needs no file of ground truth.
    label : int
        Index into the config's ``data.classes``.
    group : str
        Patient or slide; empty where unknown.
    """

    image: Path
    mask: Path | None
    label: int
    group: str
    background_only: bool = False


def read_csv_rows(path: Path) -> list[list[str]]:
    """Read a CSV (also gzipped), whatever its line ends, without stray spaces and empty lines."""
    if not path.is_file():
        raise InputError("no such list of samples", got=path)
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError("a list of samples cannot be read", got=f"{path} ({error})", expected="UTF-8 text") from None
    rows = csv.reader(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def class_index(value: str, classes: Sequence[str], where: str) -> int:
    """Return the index of a label in the config's classes, or say which classes there are."""
    if value not in classes:
        raise InputError(
            f"{where}: unknown label",
            got=repr(value),
            expected=f"one of {', '.join(classes)}",
            remedy="see data.classes",
        )
    return list(classes).index(value)


def find_image(name: str, folders: Sequence[Path]) -> Path:
    """Find an image under one of the folders; ``.bmp`` and ``.png`` stand for each other."""
    for folder in folders:
        path = folder / name
        for candidate in (
            path,
            *(path.with_suffix(suffix) for suffix in _SAME_PIXELS if path.suffix in _SAME_PIXELS),
        ):
            if candidate.is_file():
                return candidate
    raise InputError(
        "an image of the list is missing", got=name, expected=f"a file under {' or '.join(map(str, folders))}"
    )


def find_mask(name: str, folders: Sequence[Path]) -> Path | None:
    """Find a mask like an image; an absent one is left to evaluation to complain about."""
    if not name:
        return None
    try:
        return find_image(name, folders)
    except InputError:
        return folders[0] / name
