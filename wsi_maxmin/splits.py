"""Hold out samples for validation: by patient or slide where it is known, stratified by label."""

from collections.abc import Sequence

import numpy as np

from wsi_maxmin.errors import InputError


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
    group_class: dict[str, int] = {}
    for name, label in zip(names, labels, strict=True):
        group_class[name] = max(label, group_class.get(name, label))
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
