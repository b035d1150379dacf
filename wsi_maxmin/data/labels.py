"""Samples from CSV lists ``image,mask,label[,group]``, with or without a header."""

from pathlib import Path

from wsi_maxmin.config import DataConfig
from wsi_maxmin.data._samples import Sample, Split, class_index, find_image, find_mask, read_csv_rows
from wsi_maxmin.errors import InputError


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
    """Read one list of samples."""
    folders = (path.parent, root)
    rows = read_csv_rows(path)
    if rows and rows[0][:3] == ["image", "mask", "label"]:
        rows = rows[1:]
    return [_sample(row, f"{path}, sample {number}", folders, config) for number, row in enumerate(rows, start=1)]


def _sample(row: list[str], where: str, folders: tuple[Path, Path], config: DataConfig) -> Sample:
    if len(row) not in (3, 4):
        raise InputError(f"{where}: malformed row", got=",".join(row), expected="image,mask,label[,group]")
    image, mask, label, *group = row
    return Sample(
        image=find_image(image, folders),
        mask=find_mask(mask, folders),
        label=class_index(label, config.classes, where),
        group="".join(group),
    )
