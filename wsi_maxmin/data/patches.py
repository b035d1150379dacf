"""Samples from a folder that ``extract-patches`` made: its ``patches.parquet``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from wsi_maxmin.config import DataConfig
from wsi_maxmin.data._samples import FilePart, Sample, SlidePart, Split, class_index
from wsi_maxmin.data._slides import read_slides
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box
from wsi_maxmin.patches import TABLE_NAME, read_patch_table
from wsi_maxmin.slide_list import ListedSlide

_FOLD_NAME = r"^fold_(\d+)$"
_NAMED = 5


def has_split(root: Path, config: DataConfig, split: Split) -> bool:
    """Say whether the table's own ``split`` column names the split, or the config a fold."""
    if config.fold is not None:
        return split != "test"
    return bool((read_patch_table(root / TABLE_NAME).rows["split"] == split).any())


def read(root: Path, config: DataConfig, split: Split) -> list[Sample]:
    """Read the patches whose label is one of the config's classes; others (mixed, unlabelled) are left out.

    A table whose ``split`` is empty everywhere belongs to the training split. Of a table with folds, `config.fold` is
    the validation split and the other folds are the training split. No image, mask or slide is opened.

    Raises
    ------
    InputError
        If rows of the config's classes are in no split beside others that are, the fold and the table do not fit, or a
        slide that patches are to be read from is missing.
    """
    path = root / TABLE_NAME
    table = read_patch_table(path).rows
    table = table.assign(split=_without_folds(table["split"], config.fold, path))
    table = table[table["label"].isin(config.classes) & ~table["patient_id"].isin(config.exclude_groups)]
    table = table[_splits(table, path) == split]
    unstored = table.loc[table["image_format"] == "none", "slide_id"].unique()
    moved_to = root / config.slides if config.slides is not None else None
    slides = read_slides(root, unstored, moved_to) if len(unstored) else {}
    return [
        Sample(
            image=_image(row, root, slides),
            mask=_place(root / row.mask_path, row.mask_offset, row.mask_bytes) if row.mask_path else None,
            label=class_index(row.label, config.classes, row.patch_id),
            group=row.patient_id,
            background_only=not row.mask_path and row.tumour_fraction == 0,
            patch_id=row.patch_id,
        )
        for row in table.itertuples()
    ]


def _image(row: Any, root: Path, slides: Mapping[str, ListedSlide]) -> Path | FilePart | SlidePart:
    if row.image_format != "none":
        return _place(root / row.image_path, row.image_offset, row.image_bytes)
    box = Box(x=row.x, y=row.y, width=row.width, height=row.height)
    return SlidePart(slides[row.slide_id], box, row.patch_px)


def _place(path: Path, offset: float, count: float) -> Path | FilePart:
    # In a shard a header goes before every image. A file of its own is read to its end, in case someone has edited it.
    return FilePart(path, int(offset), int(count)) if offset else path


def _without_folds(splits: pd.Series, fold: int | None, path: Path) -> pd.Series:
    """Return splits with the fold as validation and all other folds as training."""
    numbers = splits.str.extract(_FOLD_NAME, expand=False)
    folds = sorted(map(int, numbers.dropna().unique()))
    if fold is None and folds:
        raise InputError(
            f"{path} is split into folds",
            got=f"fold_{folds[0]} to fold_{folds[-1]}",
            expected="one of them to validate on",
            remedy="--set data.fold=0",
        )
    if fold is not None and fold not in folds:
        raise InputError(
            f"{path} has no such fold",
            got=f"data.fold={fold}",
            expected=f"one of {', '.join(map(str, folds))}" if folds else "a table made with --splits kfold",
            remedy=None if folds else "leave data.fold out",
        )
    return splits.mask(numbers.notna(), "train").mask(splits == f"fold_{fold}", "valid")


def _splits(table: pd.DataFrame, path: Path) -> pd.Series:
    """Return the split of each row, each one of the three."""
    splits = table["split"]
    if (splits == "").all():
        return splits.mask(splits == "", "train")
    if (strays := table[~splits.isin(get_args(Split))]).empty:
        return splits
    slides = strays["slide_id"].unique()
    named = ", ".join(slides[:_NAMED]) + (f" and {len(slides) - _NAMED} more" if len(slides) > _NAMED else "")
    others = sorted(set(strays["split"]))
    raise InputError(
        f"{len(strays)} of {len(table)} patches in {path} are in no split",
        got=f"split {' or '.join(map(repr, others))} on slides {named}",
        expected="train, valid or test in every row, or nothing in any",
        remedy="fill the column in, or name their patients in data.exclude_groups",
    )
