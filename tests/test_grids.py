"""Tile grids and display grids against exact arithmetic."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box
from wsi_maxmin.grids import Georef, TileGrid, grid_shape, overlap_to_stride

NO_TILES = np.zeros((0, 2), dtype=np.int32)


def grid(**changes: object) -> TileGrid:
    values = {
        "slide_id": "s",
        "slide_size_px": (1000, 800),
        "slide_mpp": 0.25,
        "mpp": 0.5,
        "tile_px": 64,
        "stride_px": 32,
        "shape": (12, 15),
        "keep": np.array([[0, 1], [3, 2]], dtype=np.int32),
    }
    return TileGrid(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("stride_px", [0, -1, 65])
def test_a_grid_whose_stride_leaves_gaps_is_refused(stride_px: int) -> None:
    with pytest.raises(InputError, match=r"stride.*1 to 64"):
        grid(stride_px=stride_px)


@pytest.mark.parametrize("keep", [np.zeros((2, 2), dtype=np.int64), np.zeros((2, 3), dtype=np.int32)])
def test_a_grid_refuses_indices_of_another_shape_or_type(keep: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\) int32"):
        grid(keep=keep)


@pytest.mark.parametrize("keep", [np.array([[0, 1], [3, 2]], dtype=np.int32), NO_TILES])
def test_a_grid_survives_json(keep: np.ndarray) -> None:
    before = grid(keep=keep)
    after = TileGrid.from_json(json.loads(json.dumps(before.to_json())))
    assert after.to_json() == before.to_json()
    assert list(after.boxes()) == list(before.boxes())
    assert len(after) == len(keep)


def test_boxes_are_those_of_the_kept_tiles_in_order() -> None:
    assert list(grid().boxes()) == [Box(x=64, y=0, width=128, height=128), Box(x=128, y=192, width=128, height=128)]


def test_the_kept_box_holds_the_kept_tiles_and_ends_with_the_slide() -> None:
    assert grid().kept_box() == Box(x=64, y=0, width=192, height=320)
    edge = grid(keep=np.array([[4, 14], [11, 3]], dtype=np.int32))
    assert edge.kept_box() == Box(x=192, y=256, width=1000 - 192, height=800 - 256)
    assert grid(keep=NO_TILES).kept_box() == Box(x=0, y=0, width=1000, height=800)


def test_tiles_do_not_drift_at_the_far_corner() -> None:
    """512 px at 0.5 µm are 1053.93 px of a 0.2429 µm slide: adding up 1054 would be 14 px off after 200 tiles."""
    plane = grid(slide_mpp=0.2429, mpp=0.5, tile_px=512, stride_px=512, keep=NO_TILES)
    exact = Fraction(512) * Fraction("0.5") / Fraction("0.2429")
    for row, column in [(0, 0), (1, 1), (209, 94), (199, 400)]:
        box = plane.box(row, column)
        assert abs(box.x - column * exact) <= Fraction(1, 2)
        assert abs(box.y - row * exact) <= Fraction(1, 2)
        assert abs(box.bottom - (row + 1) * exact) <= Fraction(1, 2)
        assert {box.width, box.height} <= {1053, 1054}


@given(
    slide_mpp=st.floats(0.1, 2.0),
    mpp=st.floats(0.1, 4.0),
    tile_px=st.integers(16, 1024),
    index=st.integers(0, 5000),
)
def test_neighbours_without_overlap_share_an_edge_and_no_box_accumulates(
    slide_mpp: float, mpp: float, tile_px: int, index: int
) -> None:
    plane = grid(slide_mpp=slide_mpp, mpp=mpp, tile_px=tile_px, stride_px=tile_px, keep=NO_TILES)
    here, there = plane.box(index, 0), plane.box(index + 1, 0)
    assert here.bottom == there.y
    exact = index * tile_px * Fraction(mpp) / Fraction(slide_mpp)
    assert abs(here.y - exact) <= Fraction(1, 2) + Fraction(1, 10**6)


@pytest.mark.parametrize(("mpp", "downsample"), [(0.243, 8), (0.25, 8), (0.2501, 4), (0.5, 4), (2.0, 1), (3.0, 1)])
def test_the_display_grid_is_the_coarsest_power_of_two_of_at_most_2_um(mpp: float, downsample: int) -> None:
    display = Georef.for_display((1001, 800), mpp)
    assert display.downsample == downsample
    assert display.mpp == pytest.approx(mpp * downsample)
    assert display.scale_um(3) == pytest.approx(mpp * downsample * 8)


def test_the_display_grid_covers_the_slide_as_rows_and_columns() -> None:
    assert Georef(slide_size_px=(1001, 800), slide_mpp=0.25, downsample=8).shape == (100, 126)


@pytest.mark.parametrize("level", [0, 2])
def test_a_level_is_translated_by_the_distance_of_the_first_pixels_centres(level: int) -> None:
    display = Georef(slide_size_px=(64, 64), slide_mpp=0.25, downsample=4)
    side = 4 * 2**level
    centres_of_level_0 = np.arange(side) + 0.5
    assert display.translation_um(level) == pytest.approx((centres_of_level_0.mean() - 0.5) * 0.25)


def test_display_points_go_back_to_where_they_came_from() -> None:
    display = Georef(slide_size_px=(64, 64), slide_mpp=0.25, downsample=4)
    assert display.to_display(10, 6) == (2.5, 1.5)
    assert display.to_level0(*display.to_display(10, 6)) == (10, 6)


@pytest.mark.parametrize(("overlap", "stride"), [(0, 512), (0.5, 256), (0.25, 384), (0.9999, 1)])
def test_an_overlap_becomes_a_stride(overlap: float, stride: int) -> None:
    assert overlap_to_stride(512, overlap) == stride


@pytest.mark.parametrize("overlap", [-0.1, 1.0])
def test_an_overlap_that_never_advances_is_refused(overlap: float) -> None:
    with pytest.raises(InputError, match="overlap is out of range"):
        overlap_to_stride(512, overlap)


@pytest.mark.parametrize(("side", "tiles"), [(1, 1), (128, 1), (129, 2), (192, 2), (193, 3)])
def test_the_last_tile_is_the_first_that_reaches_the_edge(side: int, tiles: int) -> None:
    """Tiles of 64 px, 32 px apart, at a downsample of 2: they end at 128, 192, 256 level-0 px."""
    assert grid_shape((side, 128), 2.0, 64, 32) == (1, tiles)


@pytest.mark.parametrize(("slide_mpp", "warned"), [(0.5, True), (0.25, False), (0.1, False)])
def test_a_grid_says_at_which_mpp_it_reads_and_warns_where_it_enlarges(slide_mpp: float, warned: bool) -> None:
    grid = TileGrid(
        slide_id="s",
        slide_size_px=(100, 100),
        slide_mpp=slide_mpp,
        mpp=0.25,
        tile_px=64,
        stride_px=64,
        shape=(1, 1),
        keep=np.zeros((1, 2), dtype=np.int32),
    )
    text = grid.describe_mpp(0.25)
    assert f"at 0.25 µm a pixel (asked 0.25 µm, slide {slide_mpp} µm)" in text
    assert ("enlarged 2.00 times" in text) is warned


@pytest.mark.parametrize(
    ("mpp", "wanted", "downsample"),
    [(0.25, 8, 32), (0.243, 8, 32), (0.25, 0.1, 1), (0.25, 0.7, 2), (4, 1, 1), (0.5, 3, 8)],
)
def test_a_wanted_resolution_is_taken_to_the_nearest_power_of_two(mpp, wanted, downsample):
    assert Georef.for_display((1001, 800), mpp, wanted).downsample == downsample


@pytest.mark.parametrize("wanted", [0, -1.0, 257.0])
def test_a_resolution_that_is_none_is_refused(wanted):
    with pytest.raises(InputError, match="no such resolution of a heatmap"):
        Georef.for_display((1001, 800), 0.25, wanted)
