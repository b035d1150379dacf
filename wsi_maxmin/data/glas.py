"""The GlaS (Warwick-QU) folder as its organisers ship it, or with PNG copies of its BMPs.

``Grade.csv`` gives the labels: it has bare carriage returns as line ends and stray spaces.
"""

import re
from pathlib import Path

from wsi_maxmin.config import DataConfig
from wsi_maxmin.data._samples import Sample, Split, class_index, find_image, find_mask, read_csv_rows
from wsi_maxmin.data.labels import read_list
from wsi_maxmin.errors import InputError

_NAMES: dict[str, str] = {"train": r"train_\d+", "test": r"test[AB]_\d+"}


def has_split(root: Path, config: DataConfig, split: Split) -> bool:  # noqa: ARG001 - a source's form
    """Say whether the config lists the split or the organisers made it."""
    return getattr(config, split) is not None or split in _NAMES


def read(root: Path, config: DataConfig, split: Split) -> list[Sample]:
    """Read one split: a list named in the config, else the organisers' own training or test images.

    Raises
    ------
    InputError
        If ``Grade.csv`` or an image is missing, or a grade is not one of the config's classes.
    """
    listed: str | None = getattr(config, split)
    if listed is not None:
        return read_list(root / listed, root, config)
    if split not in _NAMES:
        raise InputError(
            "GlaS has no validation images of its own", remedy="leave data.valid out: a fraction is split off"
        )
    grades = _grades(root / "Grade.csv")
    return [
        Sample(
            image=find_image(f"{name}.bmp", (root,)),
            mask=find_mask(f"{name}_anno.bmp", (root,)),
            label=class_index(grade, config.classes, f"Grade.csv, {name}"),
            group=patient,
        )
        for name, patient, grade in grades
        if re.fullmatch(_NAMES[split], name)
    ]


def _grades(path: Path) -> list[tuple[str, str, str]]:
    rows = read_csv_rows(path)
    if not rows or rows[0][0] != "name":
        raise InputError(f"{path} is not GlaS's Grade.csv", expected="name,patient ID,grade (GlaS),…")
    return [(row[0], row[1], row[2]) for row in rows[1:]]
