"""Samples from CSV lists of images and labels: ``image,label``, ``image,mask,label`` or ``image,mask,label,group``.

A header may name the columns, in any order.
"""

from collections.abc import Sequence
from pathlib import Path

from wsi_maxmin.config import DataConfig
from wsi_maxmin.data._samples import Sample, Split, class_index, find_image, find_mask, read_csv_rows
from wsi_maxmin.errors import InputError

_WITHOUT_HEADER = {
    2: ("image", "label"),
    3: ("image", "mask", "label"),
    4: ("image", "mask", "label", "group"),
}


def has_split(root: Path, config: DataConfig, split: Split) -> bool:  # noqa: ARG001 - a source's form
    """Say whether the config names a list for the split."""
    return getattr(config, split) is not None


def read(root: Path, config: DataConfig, split: Split) -> list[Sample]:
    """Read the list of one split; its paths are relative to the list's own folder or to `root`.

    Raises
    ------
    InputError
        If the config names no list for the split, a row is malformed, a label is unknown or an image is missing.
    """
    name: str | None = getattr(config, split)
    if name is None:
        raise InputError(f"the config names no {split} list", remedy=f"--set data.{split}=FILE.csv")
    return read_list(root / name, root, config)


def read_list(path: Path, root: Path, config: DataConfig) -> list[Sample]:
    """Read one list of samples, gzipped or not."""
    folders = (path.parent, root)
    rows = read_csv_rows(path)
    columns = _header(rows[0], path) if rows else None
    samples = rows[1:] if columns else rows
    return [
        _sample(_cells(row, columns, f"{path}, sample {number}"), f"{path}, sample {number}", folders, config)
        for number, row in enumerate(samples, start=1)
    ]


def _header(row: list[str], path: Path) -> list[str] | None:
    """Return the columns that the first row names; None if it is a sample."""
    if not {"image", "label"} <= set(row):
        return None
    known = _WITHOUT_HEADER[4]
    if wrong := [name for name in row if name not in known or row.count(name) > 1]:
        raise InputError(
            f"{path}: a column is unknown or there twice",
            got=repr(wrong[0]),
            expected="image and label, and mask or group if you have them",
            remedy="drop or rename the column",
        )
    # A list without groups may still give them at the end of some rows, and one with groups may leave them out there.
    return row if "group" in row else [*row, "group"]


def _cells(row: list[str], columns: Sequence[str] | None, where: str) -> dict[str, str]:
    named = columns or _WITHOUT_HEADER.get(len(row), ())
    shortest = len(named) - (bool(columns) and named[-1] == "group")
    if not named or not shortest <= len(row) <= len(named):
        expected = f"{','.join(columns[:shortest])}[,group]" if columns else "image[,mask],label[,group]"
        raise InputError(f"{where}: malformed row", got=",".join(row), expected=expected)
    return dict(zip(named, row, strict=False))


def _sample(cells: dict[str, str], where: str, folders: tuple[Path, Path], config: DataConfig) -> Sample:
    return Sample(
        image=find_image(cells["image"], folders),
        mask=find_mask(cells.get("mask", ""), folders),
        label=class_index(cells["label"], config.classes, where),
        group=cells.get("group", ""),
    )
