"""Counts of pixels by value, and the curves that follow from them."""

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tests.test_regions import write_store
from wsi_maxmin.annotations import Annotation
from wsi_maxmin.metrics import dice
from wsi_maxmin.pixel_curves import PixelCounts, add_counts, count_pixels_by_value


def counts_of(values, truth):
    counts = np.zeros((2, 256), np.int64)
    np.add.at(counts, (truth.astype(int), values), 1)
    return PixelCounts(counts=counts, off_tissue=0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 255))
def test_dice_is_that_of_the_pixels_at_every_byte(seed, byte):
    rng = np.random.default_rng(seed)
    values, truth = rng.integers(0, 256, 50), rng.random(50) < rng.random()
    assert counts_of(values, truth).dice(byte) == pytest.approx(dice(values[None] >= byte, truth[None]))


def test_average_precision_follows_by_pencil():
    """From the highest value on: right, wrong, right, so ½·1 + 0 + ½·⅔."""
    found = counts_of(np.array([200, 150, 100]), np.array([True, False, True]))
    assert found.average_precision() == pytest.approx(0.5 + 0.5 * 2 / 3)
    precision, recall = found.precision_recall()
    assert (precision[0], recall[0], recall[101]) == (2 / 3, 1, 0.5)
    assert np.isnan(precision[201])


def test_a_map_that_says_nothing_has_the_share_of_tumour_as_average_precision():
    assert counts_of(np.full(10, 7), np.arange(10) < 3).average_precision() == pytest.approx(0.3)


def test_a_slide_without_tumour_has_neither():
    found = counts_of(np.array([200, 0]), np.array([False, False]))
    assert (found.dice(1), found.average_precision()) == (None, None)


def test_pixels_are_counted_on_tissue_alone_whatever_the_block(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (1, 60, 90)).astype(np.uint8)
    path = tmp_path / "heatmap.ome.zarr"
    store = write_store(path, values, (720, 480))
    labels = zarr.open_group(path, mode="r+")["labels/tumour/0"]
    glass = np.zeros((60, 90), bool)
    glass[:20] = True
    labels[:20] = 0
    ring = np.array([(80, 80), (400, 80), (400, 320), (80, 320)], float)
    truth = np.zeros((60, 90), bool)
    truth[10:40, 10:50] = True
    annotation = Annotation(include=((ring,),), exclude=())
    for block in (7, 64, 2048):
        found = count_pixels_by_value(store, annotation, block_px=block)
        np.testing.assert_array_equal(found.counts, counts_of(values[0][~glass], truth[~glass]).counts)
        assert found.off_tissue == (truth & glass).sum()
    without = count_pixels_by_value(store, None)
    assert (without.counts[1].sum(), without.counts.sum(), without.off_tissue) == (0, 40 * 90, 0)


def test_slides_add_up():
    one, other = counts_of(np.array([3]), np.array([True])), counts_of(np.array([3, 4]), np.array([True, False]))
    both = add_counts([one, other])
    assert (both.counts[1, 3], both.counts[0, 4], both.counts.sum()) == (2, 1, 3)
