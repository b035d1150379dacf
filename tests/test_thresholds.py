import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsi_maxmin.metrics import MaskScores, count_pixels
from wsi_maxmin.pipelines._scoring import count_levels
from wsi_maxmin.thresholds import GRID, ThresholdSweep, best_threshold, confusions

# Values on, just below and just above a threshold, and any others.
VALUES = st.sampled_from(GRID).flatmap(
    lambda value: st.sampled_from(
        [np.float32(value), *(np.nextafter(np.float32(value), np.float32(to)) for to in (0, 1))]
    )
) | st.floats(0, 1, width=32)
SHAPES = st.tuples(st.integers(1, 3), st.just(1), st.integers(1, 5), st.integers(1, 5))


def levels_of(mask, truth, edges):
    return count_levels(torch.from_numpy(mask), torch.from_numpy(truth), edges)


@given(SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(np.float32, shape, elements=VALUES), hnp.arrays(bool, shape))))
def test_one_histogram_gives_the_pixels_at_or_above_every_threshold(images):
    masks, truths = images
    sweep = ThresholdSweep()
    for mask, truth, levels in zip(masks, truths, levels_of(masks, truths, sweep.edges), strict=True):
        for threshold, matrix in zip(GRID, confusions(levels), strict=True):
            assert (matrix == count_pixels(mask >= threshold, truth)).all()
            assert torch.equal(torch.from_numpy(mask) >= threshold, torch.from_numpy(mask >= threshold))


@given(SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(np.float32, shape, elements=VALUES), hnp.arrays(bool, shape))))
def test_a_sweep_scores_each_threshold_as_if_it_were_the_only_one(images):
    masks, truths = images
    sweep, alone = ThresholdSweep([0.8, 0.3]), {0.3: MaskScores(), 0.8: MaskScores()}
    for mask, truth, levels in zip(masks, truths, levels_of(masks, truths, sweep.edges), strict=True):
        sweep.add(confusions(levels))
        for threshold, scores in alone.items():
            scores.update(mask >= threshold, truth)
    for threshold, scores in alone.items():
        assert sweep.at(threshold).summary() == scores.summary()


def test_a_table_has_a_row_a_threshold_in_rising_order():
    sweep = ThresholdSweep([0.75, 0.25])
    mask, truth = np.array([[[[0.9, 0.6, 0.3, 0.1]]]], np.float32), np.array([[[[1, 1, 0, 0]]]], bool)
    sweep.add(confusions(levels_of(mask, truth, sweep.edges)[0]))
    low, high = sweep.table()
    # At 0.25 three pixels are foreground, of which two truly; at 0.75 one is, truly.
    assert low == {"threshold": 0.25, "f1_foreground": pytest.approx(80), "f1_background": pytest.approx(200 / 3),
                   "mean": pytest.approx((80 + 200 / 3) / 2)}  # fmt: skip
    assert (high["threshold"], high["f1_foreground"]) == (0.75, pytest.approx(200 / 3))


def test_of_equally_good_thresholds_the_one_nearest_to_the_middle_is_best():
    rows = [{"threshold": threshold, "mean": 40.0} for threshold in GRID]
    assert best_threshold(rows)["threshold"] == 0.5
    assert best_threshold([*rows, {"threshold": 0.01, "mean": 41.0}])["threshold"] == 0.01


def test_without_foreground_anywhere_no_threshold_is_best():
    sweep = ThresholdSweep()
    mask = np.full((1, 1, 2, 2), 0.3, np.float32)
    sweep.add(confusions(levels_of(mask, np.zeros(mask.shape, bool), sweep.edges)[0]))
    assert best_threshold(sweep.table()) is None
    assert [row["f1_background"] for row in sweep.table()] == [0.0] * 6 + [100.0] * 13
    assert {row["f1_foreground"] for row in sweep.table()} == {None}


def test_the_grid_is_every_twentieth_written_as_people_write_it():
    assert [f"{threshold}" for threshold in GRID[:3]] == ["0.05", "0.1", "0.15"]
    assert (len(GRID), GRID[-1]) == (19, 0.95)
