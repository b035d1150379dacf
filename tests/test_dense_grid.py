"""Regions for a dense run, against counting cell by cell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.dense_grid import DenseGrid
from wsi_maxmin.errors import InputError
from wsi_maxmin.grids import TileGrid, grid_shape

CELL = 8


def make_grid(keep, *, tile=32, stride=8, side=400, mpp=0.25):
    cells = np.array(sorted(keep), dtype=np.int32).reshape(-1, 2)
    shape = grid_shape((side, side), mpp / 0.25, tile, stride)
    return TileGrid(
        slide_id="s",
        slide_size_px=(side, side),
        slide_mpp=0.25,
        mpp=mpp,
        tile_px=tile,
        stride_px=stride,
        shape=shape,
        keep=cells,
    )


@st.composite
def grids(draw):
    stride = draw(st.sampled_from((8, 16, 24, 32)))
    rows, columns = grid_shape((400, 400), 1, 32, stride)
    keep = draw(st.sets(st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)), min_size=1, max_size=40))
    return DenseGrid(
        grid=make_grid(keep, stride=stride),
        cell_px=CELL,
        core=draw(st.integers(1, 9)),
        context=draw(st.integers(0, 3)),
    )


def canvas_of(dense, maps, size=80):
    """Lay the maps of regions on a canvas, cell by cell; NaN where there is none."""
    canvas = np.full((maps.shape[1], size, size), np.nan, dtype=np.float32)
    for (top, left), values in zip(dense.keep, maps, strict=True):
        place = canvas[:, top : top + dense.core, left : left + dense.core]
        assert np.isnan(place).all(), "regions overlap"
        place[:] = values
    return canvas


def random_maps(dense, count=2):
    shape = (len(dense.keep), count, dense.core, dense.core)
    return np.random.default_rng(0).random(shape).astype(np.float32)


@given(grids())
def test_regions_cover_what_windows_need_without_overlap_and_windows_read_their_own_cells(dense):
    maps = random_maps(dense)
    canvas = canvas_of(dense, maps)
    seen = dense.windows(maps, np.arange(len(dense.grid)))
    for (row, column), window in zip(dense.grid.keep, seen, strict=True):
        top, left = row * dense.stride_cells, column * dense.stride_cells
        own = canvas[:, top : top + dense.window_cells, left : left + dense.window_cells]
        np.testing.assert_array_equal(window, own)  # and so nowhere NaN


@given(grids(), st.integers(-4, 60), st.integers(-4, 60), st.integers(1, 20), st.integers(1, 20))
def test_any_rectangle_is_gathered_with_0_where_there_is_no_region(dense, top, left, height, width):
    maps = random_maps(dense)
    canvas = np.pad(np.nan_to_num(canvas_of(dense, maps)), ((0, 0), (4, 0), (4, 0)))
    expected = canvas[:, top + 4 : top + 4 + height, left + 4 : left + 4 + width]
    np.testing.assert_array_equal(dense.gather(maps, top, left, height, width), expected)


@given(grids())
def test_the_windows_near_a_region_are_those_that_touch_what_the_trunk_sees_of_it(dense):
    for region, (top, left) in enumerate(dense.keep):
        rows = range(top - dense.context, top + dense.core + dense.context)
        columns = range(left - dense.context, left + dense.core + dense.context)
        expected = [
            index
            for index, (row, column) in enumerate(dense.grid.keep * dense.stride_cells)
            if row < rows.stop
            and row + dense.window_cells > rows.start
            and column < columns.stop
            and column + dense.window_cells > columns.start
        ]
        assert dense.windows_near(region).tolist() == expected


def test_a_region_s_box_holds_its_context_and_does_not_drift():
    dense = DenseGrid(grid=make_grid({(0, 0), (10, 30)}, mpp=0.5, side=800), cell_px=CELL, core=4, context=1)
    assert dense.region_px == 48
    assert dense.keep.tolist() == [[0, 0], [8, 30], [12, 30]]
    first, last = dense.box(0), dense.box(2)
    assert (first.x, first.y, first.width) == (-16, -16, 96)
    assert (last.x, last.y) == (29 * 16, 11 * 16)


def test_without_windows_there_are_no_regions():
    assert DenseGrid(grid=make_grid(set()), cell_px=CELL).keep.shape == (0, 2)


def test_windows_that_do_not_fall_on_cells_are_refused_with_overlaps_that_do():
    with pytest.raises(
        InputError, match=r"stride of 12 px.*--overlap 0.75, 0.5, 0, or any other whose stride is a multiple of 8 px"
    ):
        DenseGrid(grid=make_grid({(0, 0)}, stride=12), cell_px=CELL)
