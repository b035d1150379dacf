from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.config import TrainingConfig
from wsi_maxmin.data._dataset import Draw
from wsi_maxmin.errors import InputError
from wsi_maxmin.training import epoch_order, learning_rate
from wsi_maxmin.training._order import as_draws, deal

LABELS = st.lists(st.integers(0, 2), min_size=1, max_size=40)


def draws_of(count):
    return [Draw(index) for index in range(count)]


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 1e-3), (9, 1e-3), (10, 9e-4), (79, 1e-3 * 0.9**7), (870, 1e-3 * 0.9**87), (880, 1e-7)]
)
def test_the_learning_rate_falls_in_steps_to_its_floor(epoch, expected):
    assert learning_rate(TrainingConfig(), epoch) == pytest.approx(expected, rel=1e-9)


@given(LABELS, st.integers(0, 5), st.integers(1, 3))
def test_an_unbalanced_epoch_shows_all_samples_before_any_comes_round_again(labels, epoch, repeat):
    order = epoch_order(labels, balance=False, seed=0, epoch=epoch, repeat=repeat)
    rounds = [order[start : start + len(labels)] for start in range(0, len(order), len(labels))]
    assert len(rounds) == repeat
    assert all(sorted(shown) == list(range(len(labels))) for shown in rounds)


@given(LABELS, st.integers(0, 5), st.integers(1, 3))
def test_a_balanced_epoch_shows_every_class_equally_often_and_takes_turns_within_a_class(labels, epoch, repeat):
    order = epoch_order(labels, balance=True, seed=0, epoch=epoch, repeat=repeat)
    shown = Counter(labels[index] for index in order)
    assert set(shown) == set(labels)
    assert len(set(shown.values())) == 1
    assert len(labels) * repeat <= len(order) < (len(labels) + len(shown)) * repeat
    turns = Counter(order)
    for label in shown:
        times = [turns[index] for index, own in enumerate(labels) if own == label]
        assert max(times) - min(times) <= repeat


def test_the_order_depends_on_seed_and_epoch():
    orders = {tuple(epoch_order([0] * 20, balance=False, seed=seed, epoch=e)) for seed in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def test_a_sample_that_comes_round_again_is_another_draw():
    assert as_draws([3, 1, 3, 3], epoch=7) == [Draw(3, 7, 0), Draw(1, 7, 0), Draw(3, 7, 1), Draw(3, 7, 2)]


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_every_sample_is_dealt_to_one_process_once_and_counts_the_same_within_its_step(count, size, accumulate, ranks):
    """Weights times shares: each sample's part in the averaged gradient of its step is one over the step's samples."""
    if count < ranks:
        with pytest.raises(InputError, match=f"fewer training samples than processes; got {count} for {ranks}"):
            deal(draws_of(count), batch_size=size, accumulate=accumulate, ranks=ranks)
        return
    dealt = [
        deal(draws_of(count), batch_size=size, accumulate=accumulate, rank=rank, ranks=ranks) for rank in range(ranks)
    ]
    assert sorted(draw.position for shares in dealt for share in shares for draw in share.draws) == list(range(count))
    step = []
    for batch in zip(*dealt, strict=True):
        assert len({share.ends_step for share in batch}) == 1
        assert {share.of for share in batch} == {sum(len(share.draws) for share in batch)}
        assert all(share.draws for share in batch)
        step += batch
        if batch[0].ends_step:
            total = sum(len(share.draws) for share in step)
            assert len(step) <= accumulate * ranks
            assert all(share.weight / len(share.draws) / ranks == pytest.approx(1 / total) for share in step)
            step = []
    assert step == []


def test_batches_are_full_but_for_the_last_and_too_small_a_rest_joins_the_one_before():
    def sizes(count, **options):
        return [(len(share.draws), share.ends_step) for share in deal(draws_of(count), **options)]

    assert sizes(10, batch_size=4, accumulate=1) == [(4, True), (4, True), (2, True)]
    assert sizes(10, batch_size=4, accumulate=2) == [(4, False), (4, True), (2, True)]
    assert sizes(17, batch_size=4, accumulate=1, ranks=2, rank=1) == [(4, True), (5, True)]
    assert sizes(17, batch_size=4, accumulate=1, ranks=2, rank=0) == [(4, True), (4, True)]
    assert sizes(18, batch_size=4, accumulate=1, ranks=2) == [(4, True), (4, True), (1, True)]


def test_two_processes_share_the_batches_that_one_has_whole():
    whole = deal(draws_of(16), batch_size=8, accumulate=1)
    halves = [deal(draws_of(16), batch_size=4, accumulate=1, rank=rank, ranks=2) for rank in (0, 1)]
    assert [share.draws for share in whole] == [a.draws + b.draws for a, b in zip(*halves, strict=True)]
