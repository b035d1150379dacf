import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.config import DataConfig
from wsi_maxmin.data import read_samples
from wsi_maxmin.data._pixels import read_mask
from wsi_maxmin.metrics import (
    ErrorRate,
    MaskScores,
    bootstrap_interval,
    bootstrap_intervals,
    count_pixels,
    dice,
    foreground_fractions,
    roc_auc,
)
from wsi_maxmin.protocols.p512_list import read_list

LEFT = np.array([[1, 1, 0, 0]] * 2, dtype=bool)
TOP = np.array([[1] * 4, [0] * 4], dtype=bool)
EMPTY, FULL = np.zeros((2, 4), dtype=bool), np.ones((2, 4), dtype=bool)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (LEFT, LEFT, 1),
        (LEFT, ~LEFT, 0),
        (LEFT, TOP, 0.5),
        (FULL, LEFT, 2 * 4 / (8 + 4)),
        (EMPTY, LEFT, 0),
        (LEFT, EMPTY, None),
        (EMPTY, EMPTY, None),
    ],
)
def test_dice_matches_pencil_and_paper(predicted, truth, expected):
    assert dice(predicted, truth) == expected


def test_mask_scores_average_over_the_images_that_have_the_region():
    scores = MaskScores()
    assert scores.update(FULL, LEFT) == (2 / 3, 0)
    assert scores.update(LEFT, EMPTY) == (None, 2 * 4 / (4 + 8))
    assert scores.update(FULL, FULL) == (1, None)
    summary = scores.summary()
    assert summary["f1_foreground"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert summary["f1_background"] == pytest.approx(100 * (0 + 2 / 3) / 2)


def test_pixel_confusion_pools_all_images_and_normalises_each_true_class():
    scores = MaskScores()
    scores.update(TOP, LEFT)
    scores.update(EMPTY, LEFT)
    # Of 8 background pixels 2 were called foreground, of 8 foreground pixels 2.
    assert scores.summary()["pixel_confusion"] == [[6 / 8, 6 / 8], [2 / 8, 2 / 8]]


def test_a_class_without_pixels_has_no_confusion():
    scores = MaskScores()
    scores.update(LEFT, EMPTY)
    assert scores.summary()["pixel_confusion"] == [[0.5, None], [0.5, None]]
    assert scores.summary()["f1_foreground"] is None


def test_pixels_are_counted_by_prediction_and_truth():
    # Top left: both; top right: predicted alone; bottom left: true alone; bottom right: neither.
    assert count_pixels(TOP, LEFT).tolist() == [[2, 2], [2, 2]]
    assert count_pixels(FULL, LEFT).tolist() == [[0, 0], [4, 4]]


def test_region_sizes_are_shares_of_an_image_and_their_means_those_of_images():
    assert foreground_fractions(count_pixels(FULL, LEFT)) == (1, 0.5)
    scores = MaskScores()
    scores.update(FULL, LEFT)
    scores.update(EMPTY, EMPTY)
    assert (scores.summary()["predicted_fraction"], scores.summary()["true_fraction"]) == (0.5, 0.25)


@given(st.lists(st.tuples(st.integers(0, 2**8 - 1), st.integers(0, 2**8 - 1)), min_size=1, max_size=5))
def test_f1_of_the_background_is_f1_of_the_complements(images):
    there, complement = MaskScores(), MaskScores()
    for predicted, truth in (
        [np.array([value >> bit & 1 for bit in range(8)], bool).reshape(2, 4) for value in pair] for pair in images
    ):
        assert there.update(predicted, truth) == complement.update(~predicted, ~truth)[::-1]
    assert there.f1 == complement.f1[::-1]
    assert (there.confusion == complement.confusion[::-1, ::-1]).all()


def test_scores_of_nothing_are_undefined_rather_than_zero():
    summary = MaskScores().summary()
    assert (summary["f1_foreground"], summary["f1_background"]) == (None, None)
    assert ErrorRate().summary() == {"error": None, "samples": 0}


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"predicted \(2, 4\), truth \(4, 2\)"):
        MaskScores().update(LEFT, LEFT.T)


def test_error_rate_counts_over_batches():
    error = ErrorRate()
    error.update(np.array([0, 1, 1]), np.array([0, 0, 1]))
    error.update(np.array([1]), np.array([1]))
    assert error.summary() == {"error": 25, "samples": 4}


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(items):
    score, truth = (np.array([item[i] for item in items]) for i in (0, 1))
    pairs = [(p > n) + (p == n) / 2 for p, pt in items if pt for n, nt in items if not nt]
    auc = roc_auc(score.astype(float), truth.astype(bool))
    assert auc == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_bootstrap_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = bootstrap_interval(lambda chosen: float(values[chosen].mean()), 400)
    assert low < values.mean() < high
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert bootstrap_interval(lambda chosen: float(values[chosen].mean()), 400) == (low, high)


def test_bootstrap_leaves_out_resamples_without_the_statistic():
    assert bootstrap_interval(lambda chosen: 3.0 if 0 in chosen else None, 2, repeats=50) == (3, 3)
    assert bootstrap_interval(lambda _: None, 2, repeats=5) is None


@pytest.mark.data
@pytest.mark.parametrize(("split", "expected"), [("train", 65.66), ("valid", 63.98)])
def test_all_ones_scores_the_known_values_on_glas(data_dir, split, expected):
    lists = DataConfig(
        format="glas",
        train="folds/train.csv",
        valid="folds/valid.csv",
        classes=("benign", "malignant"),
        positive="malignant",
    )
    scores = MaskScores()
    for sample in read_samples(data_dir / "glas", lists, split, seed=0):
        truth = read_mask(sample.mask)[0].numpy() == 1
        scores.update(np.ones_like(truth), truth)
    assert scores.summary()["f1_foreground"] == pytest.approx(expected, abs=0.005)
    assert scores.summary()["f1_background"] == 0


@pytest.mark.data
@pytest.mark.parametrize(("split", "patches", "expected"), [("train", 12_174, 59.55), ("valid", 4_429, 61.31)])
def test_all_ones_scores_the_values_that_follow_from_the_names_of_the_p512_lists(data_dir, split, patches, expected):
    """The mean of 2f / (1 + f) over the patches that have tumour, f their fraction; normal ones have no F1+."""
    lists = read_list(data_dir / "camelyon16" / "lists" / f"p512_split0_fold0_{split}.csv.gz")
    tumour = np.array([patch.tumour_fraction for found in lists.values() for patch in found if patch.label == "tumor"])
    scores = MaskScores()
    for count in np.rint(tumour * 512**2).astype(np.int64):
        scores.add(np.array([[0, 0], [512**2 - count, count]]))
    assert scores.images == patches
    assert scores.summary()["f1_foreground"] == pytest.approx(expected, abs=0.005)
    assert scores.summary()["f1_foreground"] == pytest.approx(100 * np.mean(2 * tumour / (1 + tumour)), abs=1e-6)


def test_intervals_of_several_statistics_are_those_of_each_alone():
    values = np.random.default_rng(0).normal(size=30)

    def mean(chosen):
        return float(values[chosen].mean())

    def mean_of_some(chosen):
        return float(values[chosen].mean()) if 0 in chosen else None

    found = bootstrap_intervals(
        lambda chosen: {"mean": mean(chosen), "some": mean_of_some(chosen), "none": None}, 30, repeats=200
    )
    assert found == {
        "mean": bootstrap_interval(mean, 30, repeats=200),
        "some": bootstrap_interval(mean_of_some, 30, repeats=200),
    }
    assert bootstrap_intervals(lambda _: {}, 30, repeats=0) == {}
