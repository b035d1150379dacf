"""Strips put together are the array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsi_maxmin._strips as module
from wsi_maxmin._strips import strips


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 50), st.integers(0, 2))
def test_strips_hold_every_row_once_and_their_borders_are_their_neighbours(
    height: int, width: int, size: int, border: int
) -> None:
    values = np.arange((height + 2 * border) * width).reshape(-1, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STRIP", size)
        found = list(strips(values, border=border))
    inner = [strip[border : len(strip) - border] for strip in found]
    np.testing.assert_array_equal(np.concatenate(inner), values[border : border + height])
    assert all(strip[border : len(strip) - border].size <= max(size, width) for strip in found)


def test_an_array_without_columns_is_one_strip() -> None:
    assert [strip.shape for strip in strips(np.zeros((3, 0)))] == [(3, 0)]
