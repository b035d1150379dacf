"""Resampling: weights that are averages, and means of what is covered."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_maxmin._resampling import mean_covered, resampling_matrix


@given(side=st.integers(1, 40), step=st.floats(0.1, 6), shift=st.floats(-0.5, 1))
@settings(max_examples=100, deadline=None)
def test_resampling_weights_are_an_average(side, step, shift):
    position = np.arange(shift * step + step / 2, side, step)
    position = position[(position >= 0) & (position < side)]
    matrix = resampling_matrix(position, step, side)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_resampling_at_equal_steps_is_the_identity_and_at_twice_the_mean_of_two():
    np.testing.assert_array_equal(resampling_matrix(np.arange(5) + 0.5, 1.0, 5), np.eye(5))
    np.testing.assert_allclose(resampling_matrix(np.array([1.0, 3.0]), 2.0, 4), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])


def test_means_are_over_what_is_covered_and_the_last_block_may_be_smaller():
    values = np.full((2, 3, 4), 9, dtype="f4")
    values[1] = [[1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]]
    values[0, :, :2] = [[1, 2], [np.nan, 6], [0, 1]]
    values[0, :, 2:] = np.nan
    averaged = mean_covered(values, 2)
    np.testing.assert_array_equal(averaged[0], [[3, np.nan], [0.5, np.nan]])
    np.testing.assert_array_equal(averaged[1], [[1, 0], [1, 0]])


@given(height=st.integers(1, 9), width=st.integers(1, 9), factor=st.sampled_from([1, 2, 4]))
@settings(max_examples=30, deadline=None)
def test_a_constant_stays_constant(height, width, factor):
    averaged = mean_covered(np.stack([np.full((height, width), 0.3, "f4"), np.ones((height, width), "f4")]), factor)
    np.testing.assert_allclose(averaged[0], 0.3, atol=1e-7)
    assert averaged.shape[1:] == (-(-height // factor), -(-width // factor))
