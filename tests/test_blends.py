import numpy as np
import pytest

from wsi_maxmin.blends import plugins

SIDES = (1, 2, 8, 64)


@pytest.mark.parametrize("name", plugins.names())
@pytest.mark.parametrize("side", SIDES)
def test_every_blend_weighs_every_point_of_a_tile_above_zero_and_symmetrically(name, side):
    position = np.arange(side) + 0.5
    weights = plugins.load(name).weigh(position, side)
    assert weights.shape == position.shape
    assert (weights > 0).all()
    np.testing.assert_allclose(weights, weights[::-1])


def test_hann_windows_of_half_overlapping_tiles_add_up_to_one():
    weights = plugins.load("hann").weigh(np.arange(64) + 0.5, 64)
    np.testing.assert_allclose(weights[:32] + weights[32:], 1)
