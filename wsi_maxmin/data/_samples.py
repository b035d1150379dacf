"""What a labelled sample is, and how its files are found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi_maxmin.csvs import read_csv_rows as read_csv_rows
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box
from wsi_maxmin.slide_list import ListedSlide

Split = Literal["train", "valid", "test"]

_SAME_PIXELS = (".bmp", ".png")


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file that is an image file itself, such as a member of a tar shard.

    Attributes
    ----------
    path : Path
    offset, count : int
        First byte, and number of bytes; a count of -1 is all up to the end.
    """

    path: Path
    offset: int
    count: int = -1


@dataclass(frozen=True, slots=True)
class SlidePart:
    """A patch whose pixels are still in its slide.

    Attributes
    ----------
    slide : ListedSlide
    box : Box
        Level-0 px.
    side_px : int
        Side of the patch, in its own pixels.
    """

    slide: ListedSlide
    box: Box
    side_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with its image-level label.

    Attributes
    ----------
    image : Path, FilePart or SlidePart
        Where the image is; a path is a file of its own.
    mask : Path, FilePart or None
        Where its ground truth is, nonzero = foreground; evaluation alone opens it, and it may be absent in training.
    background_only : bool
        Known to have no foreground, so that it needs no file of ground truth.
    label : int
        Index into the config's ``data.classes``.
    group : str
        Patient or slide; empty where unknown.
    patch_id : str
        Its row in a table of patches; empty for an image that is none.
    """

    image: Path | FilePart | SlidePart
    mask: Path | FilePart | None
    label: int
    group: str
    background_only: bool = False
    patch_id: str = ""

    @property
    def name(self) -> str:
        """What results call it: the patch's id, else the name of the image's file."""
        return self.patch_id or (self.image.name if isinstance(self.image, Path) else str(self.image))

    @property
    def mask_path(self) -> Path | None:
        """The file that holds the ground truth."""
        return self.mask.path if isinstance(self.mask, FilePart) else self.mask


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
