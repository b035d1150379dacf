"""Reduction by area: exact means, whatever the ratio and wherever the part begins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_maxmin.readers._area import reduce_by_area


def plain(pixels: np.ndarray, inner: tuple[float, float, float, float], width: int, height: int) -> np.ndarray:
    """Sum over every pair of output and input pixel the area that they share."""
    left, top, right, bottom = inner
    out = np.zeros((height, width, 3))
    for row, column in np.ndindex(height, width):
        y0, y1 = (top + (bottom - top) * part / height for part in (row, row + 1))
        x0, x1 = (left + (right - left) * part / width for part in (column, column + 1))
        for y in range(int(y0), min(int(np.ceil(y1)), pixels.shape[0])):
            for x in range(int(x0), min(int(np.ceil(x1)), pixels.shape[1])):
                share = (min(y + 1, y1) - max(y, y0)) * (min(x + 1, x1) - max(x, x0))
                out[row, column] += share * pixels[y, x]
    return out / ((right - left) / width * (bottom - top) / height)


@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(2, 14), st.integers(2, 14)),
    share=st.tuples(st.floats(0.3, 1), st.floats(0.3, 1)),
    offset=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
)
@settings(max_examples=60)
def test_each_pixel_is_the_mean_of_the_area_that_it_covers(
    seed: int, size: tuple[int, int], share: tuple[float, float], offset: tuple[float, float]
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    inner = (offset[0], offset[1], float(size[0]), float(size[1]))
    width, height = (max(int(extent * part), 1) for extent, part in zip((size[0] - 1, size[1] - 1), share, strict=True))
    found = reduce_by_area(pixels, inner, width, height)
    assert found.dtype == np.uint8
    assert np.abs(found - plain(pixels, inner, width, height)).max() <= 0.501


def test_a_constant_stays_constant() -> None:
    pixels = np.full((31, 47, 3), 201, dtype=np.uint8)
    assert (reduce_by_area(pixels, (0.4, 0.2, 46.7, 30.9), 29, 17) == 201).all()


@pytest.mark.parametrize("step", [2, 3])
def test_at_whole_steps_it_is_the_mean_of_blocks(step: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 18, 3), dtype=np.uint8)
    blocks = pixels.reshape(12 // step, step, 18 // step, step, 3).mean(axis=(1, 3))
    found = reduce_by_area(pixels, (0, 0, 18, 12), 18 // step, 12 // step)
    assert np.abs(found - blocks).max() <= 0.5
