"""The grid over a slide: covers it, keeps what holds tissue."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.geometry import SlideInfo, TissueMask
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.tiling import make_grid, tissue_fractions


def slide(size_px: tuple[int, int], mpp: float | None = 0.25) -> SlideInfo:
    return SlideInfo(
        slide_id="s", path=Path("s.tif"), size_px=size_px, mpp=mpp, level_downsamples=(1.0,), reader="memory"
    )


def tissue_on(info: SlideInfo, mask: np.ndarray) -> TissueMask:
    height, width = mask.shape
    across, down = info.size_px
    return TissueMask(mask=mask, downsample=(across / width, down / height), mpp=0.25 * across / width)


def all_tissue(info: SlideInfo) -> TissueMask:
    return tissue_on(info, np.ones((8, 8), dtype=bool))


@given(
    width=st.integers(1, 9_000),
    height=st.integers(1, 9_000),
    mpp=st.sampled_from([0.11, 0.2429, 0.25, 0.499, 1.0]),
    tile_px=st.integers(200, 700),
    overlap=st.floats(0, 0.75),
)
@settings(max_examples=100)
def test_tiles_cover_the_slide_without_gaps_and_none_is_needless(
    width: int, height: int, mpp: float, tile_px: int, overlap: float
) -> None:
    info = slide((width, height), mpp)
    stride_px = max(int(tile_px * (1 - overlap)), 1)
    grid = make_grid(info, all_tissue(info), mpp=0.5, tile_px=tile_px, stride_px=stride_px, min_tissue=0)
    rows, columns = grid.shape
    for count, side, boxes in [
        (rows, height, [(b.y, b.bottom) for b in (grid.box(row, 0) for row in range(rows))]),
        (columns, width, [(b.x, b.right) for b in (grid.box(0, column) for column in range(columns))]),
    ]:
        assert boxes[0][0] == 0
        assert boxes[-1][1] >= side
        assert all(after[0] <= before[1] for before, after in pairwise(boxes))
        # One canvas pixel may be there for rounding up alone.
        assert count == 1 or boxes[-2][1] <= side + grid.downsample
    # A tile may begin at the very edge, where the slide ends within half a pixel: it holds nothing and is not kept.
    starts = [(row, column, grid.box(row, column)) for row, column in np.ndindex(rows, columns)]
    assert grid.keep.tolist() == [[row, column] for row, column, b in starts if b.x < width and b.y < height]


def test_a_tile_that_begins_where_the_slide_ends_is_not_kept() -> None:
    """128 px at 0.5 µm are 581.8 px of a 0.11 µm slide, so the second tile of a slide of 582 px holds nothing."""
    info = slide((582, 400), 0.11)
    grid = make_grid(info, all_tissue(info), mpp=0.5, tile_px=128, min_tissue=0)
    assert (grid.shape, grid.box(0, 1).x) == ((1, 2), 582)
    assert grid.keep.tolist() == [[0, 0]]


def test_the_far_corner_of_a_large_slide_is_covered_where_exact_arithmetic_says() -> None:
    info = slide((97_792, 221_184), 0.2429)
    grid = make_grid(info, all_tissue(info), mpp=0.5, tile_px=512)
    assert grid.shape == (210, 93)
    assert grid.keep[-1].tolist() == [209, 92]
    corner = grid.box(209, 92)
    assert (corner.x, corner.y) == (round(92 * 512 * 0.5 / 0.2429), round(209 * 512 * 0.5 / 0.2429))
    assert corner.right >= 97_792
    assert corner.bottom >= 221_184


@pytest.mark.parametrize(("min_tissue", "kept"), [(0, 3), (0.25, 2), (0.26, 1), (1, 1)])
def test_tiles_with_enough_tissue_are_kept(min_tissue: float, kept: int) -> None:
    """Four tiles: all tissue, a quarter, a sixteenth, none."""
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4, :4], mask[:2, 4:6], mask[4, 0] = True, True, True
    info = slide((512, 512))
    grid = make_grid(info, tissue_on(info, mask), mpp=None, tile_px=256, min_tissue=min_tissue)
    assert grid.keep.tolist() == [[0, 0], [0, 1], [1, 0]][:kept]


def test_glass_has_no_tiles() -> None:
    info = slide((512, 512))
    grid = make_grid(info, tissue_on(info, np.zeros((8, 8), dtype=bool)), mpp=0.5, tile_px=64, min_tissue=0)
    assert grid.keep.shape == (0, 2)
    assert grid.shape == (4, 4)


@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(40, 90), st.integers(40, 90)),
    tile_px=st.integers(4, 30),
    stride_px=st.integers(2, 30),
)
@settings(max_examples=60)
def test_fractions_are_those_of_counting_pixels(seed: int, size: tuple[int, int], tile_px: int, stride_px: int) -> None:
    """The mask has a pixel for each level-0 pixel here; what lies outside the slide counts as glass."""
    width, height = size
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    info = slide(size)
    tissue = tissue_on(info, mask)
    grid = make_grid(info, tissue, mpp=None, tile_px=tile_px, stride_px=min(stride_px, tile_px))
    padded = np.pad(mask, ((0, tile_px), (0, tile_px)))
    fractions = tissue_fractions(grid, tissue)
    assert fractions.shape == grid.shape
    for row, column in np.ndindex(*grid.shape):
        box = grid.box(row, column)
        expected = padded[box.y : box.bottom, box.x : box.right].mean()
        assert fractions[row, column] == pytest.approx(expected)


def test_a_tile_smaller_than_a_mask_pixel_takes_that_pixels_value() -> None:
    info = slide((100, 100))
    tissue = tissue_on(info, np.array([[True, False], [False, False]]))
    grid = make_grid(info, tissue, mpp=None, tile_px=10)
    expected = np.zeros((10, 10))
    expected[:5, :5] = 1
    np.testing.assert_array_equal(tissue_fractions(grid, tissue), expected)


@pytest.mark.parametrize(("asked", "used"), [(None, 0.25), (0.26, 0.25), (0.5, 0.5)])
def test_tiles_have_the_effective_mpp(asked: float | None, used: float) -> None:
    info = slide((512, 512))
    grid = make_grid(info, all_tissue(info), mpp=asked, tile_px=64)
    assert (grid.mpp, grid.slide_mpp, grid.stride_px) == (used, 0.25, 64)
    assert grid.box(0, 1).x == 64 * used / 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_tissue": 1.1}, "share of tissue is out of range; got 1.1"),
        ({"min_tissue": -0.1}, "share of tissue is out of range"),
        ({"stride_px": 0}, "stride is not positive; got 0"),
        ({"stride_px": 65}, "stride does not cover the slide; got 65"),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    info = slide((512, 512))
    with pytest.raises(InputError, match=message):
        make_grid(info, all_tissue(info), mpp=None, **{"tile_px": 64, **changes})  # type: ignore[arg-type]


def test_a_slide_without_mpp_is_refused_even_at_level_0() -> None:
    info = slide((512, 512), None)
    with pytest.raises(SlideError, match="--slide-mpp"):
        make_grid(info, all_tissue(info), mpp=None)


def test_the_kept_indices_survive_json() -> None:
    info = slide((512, 512))
    grid = make_grid(info, all_tissue(info), mpp=0.5, tile_px=64)
    assert list(TileGrid.from_json(grid.to_json()).boxes()) == list(grid.boxes())
