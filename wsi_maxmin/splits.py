"""Who trains, validates and tests: held out or dealt to folds by whole patients, or as a list says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from wsi_maxmin.csvs import Row, read_table
from wsi_maxmin.errors import InputError
from wsi_maxmin.slide_list import ListedSlide, lookup

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """What a list of splits says of one slide.

    Attributes
    ----------
    slide : str
        Slide id, file name or stem.
    split : {"train", "valid", "test"}
    patient_id : str
        Empty where the list does not say.
    """

    slide: str
    split: Split
    patient_id: str = ""

    def facts(self) -> tuple[str, str]:
        """Return what it says, whatever it calls the slide."""
        return self.split, self.patient_id


def holdout(
    labels: Sequence[int], groups: Sequence[str] | None, *, fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split sample indices into training and validation.

    Parameters
    ----------
    labels : sequence of int
        Class index of each sample.
    groups : sequence of str or None
        Patient or slide of each sample: a group is never divided. None treats every sample as its own group.
    fraction : float
        Share of each class's groups to hold out; a class with two groups or more keeps one on either side.
        A group counts for the highest class index in it, so a slide with tumour counts as tumour.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    train, valid : list of int
        Sorted indices.

    Raises
    ------
    InputError
        If groups are asked for and some sample has none.
    """
    if groups is not None and any(not group for group in groups):
        raise InputError(
            "samples without a group cannot be split by group",
            got=f"{sum(not group for group in groups)} of {len(groups)} without one",
            remedy="add the column or --set data.split_by=sample",
        )
    names = list(groups) if groups is not None else [str(index) for index in range(len(labels))]
    group_class = _group_classes(names, labels)
    rng = np.random.default_rng(seed)
    held_out: set[str] = set()
    for label in sorted(set(group_class.values())):
        members = sorted(name for name, kind in group_class.items() if kind == label)
        count = round(fraction * len(members))
        if 0 < fraction < 1 and len(members) > 1:
            count = min(max(count, 1), len(members) - 1)
        held_out.update(rng.permutation(members)[:count].tolist())
    train = [index for index, name in enumerate(names) if name not in held_out]
    valid = [index for index, name in enumerate(names) if name in held_out]
    return train, valid


def kfold(groups: Sequence[str], labels: Sequence[int], *, folds: int, seed: int) -> dict[str, int]:
    """Deal whole groups to the folds of a cross-validation, each class as evenly as its number of groups allows.

    Parameters
    ----------
    groups : sequence of str
        Patient of each sample or slide: a group is never divided.
    labels : sequence of int
        Class index of each; a group counts for the highest one in it, so a patient with tumour counts as tumour.
    folds : int
        At least 2.
    seed : int
        The same seed gives the same folds, whatever the order of `groups`.

    Returns
    -------
    dict of str to int
        Group to fold, 0 ≤ fold < `folds`. The numbers of groups in two folds differ by at most one, in each class and
        in all.

    Raises
    ------
    InputError
        If there are fewer than 2 folds, fewer groups than folds, or a group without a name.
    """
    if folds < 2:
        raise InputError("too few folds", got=folds, expected="at least 2")
    if not all(groups):
        raise InputError("what has no group cannot be dealt to folds", got=f"{list(groups).count('')} without one")
    group_class = _group_classes(groups, labels)
    if len(group_class) < folds:
        raise InputError(
            "too few groups for so many folds",
            got=f"{len(group_class)} patients or slides, {folds} folds",
            expected="at least one a fold",
        )
    rng = np.random.default_rng(seed)
    dealt: dict[str, int] = {}
    for label in sorted(set(group_class.values())):
        members = sorted(name for name, kind in group_class.items() if kind == label)
        for index in rng.permutation(len(members)):
            # Each class begins where the last one ended, so that rests do not add up in the first folds.
            dealt[members[index]] = len(dealt) % folds
    return dealt


def read_splits(path: Path) -> dict[str, SplitRow]:
    """Read a CSV ``slide,split[,patient_id]``; return its rows by slide.

    Raises
    ------
    InputError
        If the CSV has a mistake, a split is none of train, valid and test, a slide is there twice with different facts,
        or a patient is in two splits.
    """
    rows: dict[str, SplitRow] = {}
    for row in read_table(path, required=("slide", "split"), optional=("patient_id",)):
        new = _split_row(row)
        if rows.setdefault(new.slide, new) != new:
            raise InputError(f"{row.where}: another row says otherwise of this slide", got=new.slide)
    _check_patients((row.patient_id, row.split) for row in rows.values())
    return rows


def list_splits(slides: Sequence[ListedSlide], rows: Mapping[str, SplitRow]) -> tuple[dict[str, str], list[str]]:
    """Look slides up in a list of splits.

    Returns
    -------
    splits : dict of str to str
        slide_id to split; empty for a slide that the list does not name.
    missing : list of str
        slide_id of each of these, to be reported: they are part of no split.

    Raises
    ------
    InputError
        If a patient, by the list or by `ListedSlide.patient_id`, is in two splits.
    """
    found = {slide.slide_id: lookup(slide.path, slide.slide_id, rows, key=SplitRow.facts) for slide in slides}
    told = [(slide.patient_id, row) for slide in slides if (row := found[slide.slide_id])]
    _check_patients((patient or row.patient_id, row.split) for patient, row in told)
    splits = {slide_id: row.split if row else "" for slide_id, row in found.items()}
    return splits, [slide_id for slide_id, split in splits.items() if not split]


def _group_classes(groups: Sequence[str], labels: Sequence[int]) -> dict[str, int]:
    classes: dict[str, int] = {}
    for name, label in zip(groups, labels, strict=True):
        classes[name] = max(label, classes.get(name, label))
    return classes


def _split_row(row: Row) -> SplitRow:
    split = next((known for known in get_args(Split) if known == row["split"]), None)
    if split is None:
        raise InputError(f"{row.where}: no such split", got=repr(row["split"]), expected="train, valid or test")
    return SplitRow(slide=row["slide"], split=split, patient_id=row["patient_id"])


def _check_patients(told: Iterable[tuple[str, str]]) -> None:
    splits: dict[str, str] = {}
    for patient, split in told:
        if patient and splits.setdefault(patient, split) != split:
            raise InputError(
                f"patient {patient} is in two splits",
                got=f"{splits[patient]} and {split}",
                expected="all slides of a patient in one",
            )
