"""Holding out whole groups, stratified by class."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.errors import InputError
from wsi_maxmin.splits import holdout

samples = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([f"p{i}" for i in range(9)])), min_size=1, max_size=60)


@given(samples=samples, fraction=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_every_sample_is_on_one_side_and_no_group_on_two(
    samples: list[tuple[int, str]], fraction: float, seed: int
) -> None:
    labels, groups = zip(*samples, strict=True)
    train, valid = holdout(labels, groups, fraction=fraction, seed=seed)
    assert sorted(train + valid) == list(range(len(samples)))
    assert (train, valid) == (sorted(train), sorted(valid))
    assert not {groups[i] for i in train} & {groups[i] for i in valid}


@given(samples=samples, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_a_class_with_two_groups_or_more_is_on_either_side(
    samples: list[tuple[int, str]], fraction: float, seed: int
) -> None:
    labels, groups = zip(*samples, strict=True)
    worst = {group: max(label for label, own in samples if own == group) for group in groups}
    sides = [{worst[groups[i]] for i in side} for side in holdout(labels, groups, fraction=fraction, seed=seed)]
    for kind in set(worst.values()):
        if list(worst.values()).count(kind) > 1:
            assert all(kind in side for side in sides)


@pytest.mark.parametrize(("fraction", "held_out"), [(0, [0, 0]), (0.2, [4, 2]), (0.5, [10, 5]), (1, [20, 10])])
def test_the_share_is_taken_of_each_class(fraction: float, held_out: list[int]) -> None:
    labels = [0] * 20 + [1] * 10
    _, valid = holdout(labels, None, fraction=fraction, seed=3)
    assert [sum(labels[i] == kind for i in valid) for kind in (0, 1)] == held_out


def test_a_slide_with_any_tumour_counts_as_tumour() -> None:
    """Both mixed slides are of class 1, so one is held out, and of the two normal ones also one."""
    groups = ["a", "a", "b", "b", "c", "d"]
    _, valid = holdout([0, 1, 1, 0, 0, 0], groups, fraction=0.5, seed=0)
    held_out = {groups[i] for i in valid}
    assert len(held_out & {"a", "b"}) == len(held_out & {"c", "d"}) == 1


def test_the_seed_decides_the_split() -> None:
    splits = [holdout([0] * 50, None, fraction=0.3, seed=seed) for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_the_order_of_samples_does_not_decide_which_groups_are_held_out() -> None:
    groups = [f"p{i}" for i in range(12)]
    forward = holdout([0] * 12, groups, fraction=0.4, seed=5)[1]
    backward = holdout([0] * 12, groups[::-1], fraction=0.4, seed=5)[1]
    assert {groups[i] for i in forward} == {groups[::-1][i] for i in backward}


def test_samples_without_a_group_are_counted_and_refused() -> None:
    with pytest.raises(InputError, match=r"got 2 of 3 without one.*split_by=sample"):
        holdout([0, 1, 0], ["a", "", ""], fraction=0.5, seed=0)
