import numpy as np
import pytest

from wsi_maxmin.annotations import Annotation
from wsi_maxmin.grids import Georef
from wsi_maxmin.slide_metrics import score_pixels, truth_on_display


def rectangle(left, top, right, bottom):
    return (np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float),)


def test_the_truth_lies_on_the_display_grid_where_it_was_drawn():
    georef = Georef(slide_size_px=(100, 60), slide_mpp=0.25, downsample=8)
    annotation = Annotation(include=(rectangle(16, 8, 48, 40),), exclude=(rectangle(16, 8, 24, 16),))
    truth = truth_on_display(annotation, georef)
    assert truth.shape == (8, 13)
    expected = np.zeros((8, 13), dtype=bool)
    expected[1:5, 2:6] = True
    expected[1, 2] = False
    np.testing.assert_array_equal(truth, expected)


def test_only_pixels_inside_the_region_are_scored():
    values = np.array([[0.9, 0.8, 0.1, 0.9]], dtype="f4")
    truth = np.array([[True, False, False, False]])
    where = np.array([[True, True, True, False]])
    scores = score_pixels(values, truth, where, 0.5)
    assert scores.dice == pytest.approx(2 / 3)
    assert (scores.auc, scores.called, scores.pixels) == (1.0, pytest.approx(2 / 3), 3)


def test_a_slide_without_tumour_has_no_dice_and_no_auc():
    scores = score_pixels(np.zeros((2, 2), dtype="f4"), np.zeros((2, 2), bool), np.ones((2, 2), bool), 0.5)
    assert (scores.dice, scores.auc, scores.called) == (None, None, 0.0)
