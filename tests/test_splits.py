"""Holding out or dealing whole groups, stratified by class; splits from a list."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wsi_maxmin.errors import InputError
from wsi_maxmin.slide_list import ListedSlide
from wsi_maxmin.splits import SplitRow, holdout, kfold, list_splits, read_splits

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


dealt = st.tuples(samples, st.integers(2, 6), st.integers(0, 99))


@given(dealt=dealt, shuffled=st.randoms(use_true_random=False))
def test_every_group_is_in_one_fold_evenly_and_whatever_the_order(
    dealt: tuple[list[tuple[int, str]], int, int], shuffled: Random
) -> None:
    pairs, folds, seed = dealt
    worst = {group: max(label for label, own in pairs if own == group) for _, group in pairs}
    assume(len(worst) >= folds)
    fold_of = deal(pairs, folds, seed)
    assert fold_of.keys() == worst.keys()
    for kinds in ({0}, {1}, {2}, {0, 1, 2}):
        sizes = [sum(fold == index and worst[g] in kinds for g, fold in fold_of.items()) for index in range(folds)]
        assert max(sizes) - min(sizes) <= 1
    again = list(pairs)
    shuffled.shuffle(again)
    assert deal(again, folds, seed) == fold_of


def deal(pairs: list[tuple[int, str]], folds: int, seed: int) -> dict[str, int]:
    return kfold([group for _, group in pairs], [label for label, _ in pairs], folds=folds, seed=seed)


def test_the_seed_decides_the_folds() -> None:
    groups = [f"p{i}" for i in range(30)]
    folds = [kfold(groups, [0] * 30, folds=3, seed=seed) for seed in (1, 1, 2)]
    assert folds[0] == folds[1] != folds[2]


@pytest.mark.parametrize(
    ("groups", "folds", "says"),
    [
        (["a", "b"], 1, "too few folds; got 1; expected at least 2"),
        (["a", "b", "a"], 3, "too few groups for so many folds; got 2 patients or slides, 3 folds"),
        (["a", "", ""], 2, "no group cannot be dealt to folds; got 2 without one"),
    ],
)
def test_folds_that_cannot_be_filled_are_refused(groups: list[str], folds: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        kfold(groups, [0] * len(groups), folds=folds, seed=0)


def listed(slide_id: str, patient_id: str = "") -> ListedSlide:
    return ListedSlide(path=Path(f"x/{slide_id}.svs"), slide_id=slide_id, patient_id=patient_id)


def splits_csv(folder: Path, text: str) -> Path:
    path = folder / "splits.csv"
    path.write_text(text)
    return path


def test_a_list_of_splits_names_slides_by_id_file_name_or_stem(tmp_path: Path) -> None:
    rows = read_splits(splits_csv(tmp_path, "slide,split,patient_id\nx_a,train,p\nb.svs,valid,\nc,test,\nc,test,\n"))
    assert rows["x_a"] == SplitRow(slide="x_a", split="train", patient_id="p")
    slides = [replace(listed("a"), slide_id="x_a"), listed("b"), replace(listed("c"), slide_id="x_c"), listed("d")]
    assert list_splits(slides, rows) == ({"x_a": "train", "b": "valid", "x_c": "test", "d": ""}, ["d"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slide,split\na,training\n", r"line 2: no such split; got 'training'; expected train, valid or test"),
        ("slide,split\na,train\na,test\n", "line 3: another row says otherwise of this slide; got a"),
        ("slide,split,patient_id\na,train,p\nb,test,p\n", "patient p is in two splits; got train and test"),
        ("slide,fold\na,1\n", "unknown column; got 'fold'"),
    ],
)
def test_a_list_of_splits_that_contradicts_itself_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_splits(splits_csv(tmp_path, text))


def test_a_patient_whom_only_the_slide_list_knows_is_not_divided_either(tmp_path: Path) -> None:
    rows = read_splits(splits_csv(tmp_path, "slide,split\na,train\nb,test\n"))
    with pytest.raises(InputError, match="patient p is in two splits"):
        list_splits([listed("a", "p"), listed("b", "p")], rows)
