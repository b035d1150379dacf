import numpy as np
import pytest

from wsi_maxmin.blends import plugins

SIDES = (1, 2, 8, 64)


@pytest.mark.parametrize("name", plugins.names())
@pytest.mark.parametrize("side", SIDES)
def test_every_blend_weighs_every_point_of_a_tile_above_zero_and_symmetrically(name, side):
    position = np.arange(side) + 0.5
    weights = plugins.load(name).weigh(position, side, side if side % 4 else side / 2)
    assert weights.shape == position.shape
    assert (weights > 0).all()
    np.testing.assert_allclose(weights, weights[::-1])


def test_hann_windows_of_half_overlapping_tiles_add_up_to_one():
    weights = plugins.load("hann").weigh(np.arange(64) + 0.5, 64, 32)
    np.testing.assert_allclose(weights[:32] + weights[32:], 1)


def test_the_gaussian_has_eight_deviations_a_side_and_counts_little_at_the_edge():
    weights = plugins.load("gauss").weigh(np.array([0.5, 24, 32]), 64, 32)
    np.testing.assert_allclose(weights, np.exp(-(np.array([31.5 / 8, 1, 0]) ** 2) / 2))


@pytest.mark.parametrize("stride", [8, 5, 3, 1])
def test_cropped_tiles_share_no_point_and_leave_none_out(stride):
    """Over neighbouring tiles every point of the inner ones has full weight exactly once."""
    weights = np.zeros(20 * stride + 8)
    for tile in range(20):
        weights[tile * stride : tile * stride + 8] += plugins.load("crop").weigh(np.arange(8) + 0.5, 8, stride)
    np.testing.assert_allclose(weights[8:-8], 1, atol=1e-7)
