"""Boxes, slides, tissue masks and the arithmetic of µm per pixel."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.errors import SlideError
from wsi_maxmin.geometry import Box, SlideInfo, TissueMask, effective_mpp, nominal_downsample


def slide(mpp: float | None, size_px: tuple[int, int] = (1000, 800)) -> SlideInfo:
    return SlideInfo(
        slide_id="s", path=Path("folder/s.tif"), size_px=size_px, mpp=mpp, level_downsamples=(1.0,), reader="memory"
    )


def test_a_box_ends_where_its_neighbour_begins() -> None:
    box = Box(x=-3, y=5, width=10, height=20)
    assert (box.right, box.bottom) == (7, 25)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (-1, 1)])
def test_a_box_without_area_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive size"):
        Box(x=0, y=0, width=size[0], height=size[1])


@pytest.mark.parametrize("mpp", [0.05, 0.25, 20.0])
def test_a_believable_mpp_is_returned(mpp: float) -> None:
    assert slide(mpp).require_mpp() == mpp


@pytest.mark.parametrize(
    ("mpp", "why"), [(None, "missing"), (0.049, "not believable; got 0.049"), (20.1, "20.1"), (float("nan"), "nan")]
)
def test_a_missing_or_absurd_mpp_names_the_slide_and_the_option(mpp: float | None, why: str) -> None:
    with pytest.raises(SlideError, match=rf"s\.tif: .*{why}.*pass --slide-mpp"):
        slide(mpp).require_mpp()


def test_the_bounds_of_a_slide_are_width_by_height() -> None:
    assert slide(0.25).bounds == Box(x=0, y=0, width=1000, height=800)


def test_a_tissue_mask_answers_in_level_0_pixels_and_calls_everything_outside_glass() -> None:
    mask = TissueMask(mask=np.array([[True, False, True], [False, True, True]]), downsample=(10.0, 20.0), mpp=2.5)
    x, y = np.array([-0.1, 0.0, 9.9, 10.0, 29.9, 30.0]), np.array([-1.0, 19.9, 20.0, 39.9, 40.0])
    assert mask.at(x, y).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("slide_px", "level_px", "tile_px", "downsample"),
    [
        ((97792, 221184), (49152, 110592), (512, 512), 2.0),  # normal_001: padded to whole tiles
        ((97792, 221184), (512, 512), (512, 512), 512.0),
        ((2220, 2967), (555, 742), (240, 240), 4.0),
        ((2220, 2967), (555, 741), (1, 1), 4.0),
        ((2220, 2967), (2220, 2967), (1, 1), 1.0),
        ((3000, 3000), (1000, 1000), (1, 1), 3.0),
        ((3000, 1500), (1000, 510), (1, 1), (3 + 1500 / 510) / 2),
    ],
)
def test_a_level_has_the_power_of_two_that_explains_its_size_and_else_the_ratio(
    slide_px: tuple[int, int], level_px: tuple[int, int], tile_px: tuple[int, int], downsample: float
) -> None:
    assert nominal_downsample(slide_px, level_px, tile_px) == downsample


@given(size=st.tuples(st.integers(512, 10**5), st.integers(512, 10**5)), power=st.integers(0, 7))
def test_rounding_a_level_either_way_or_padding_it_keeps_its_power_of_two(size: tuple[int, int], power: int) -> None:
    down = tuple(side // 2**power for side in size)
    up = tuple(-(-side // 2**power) for side in size)
    assert nominal_downsample(size, down) == nominal_downsample(size, up) == 2**power


@pytest.mark.parametrize(
    ("requested", "own", "effective"),
    [
        (0.243, 0.226, 0.226),  # Camelyon16's two scanners
        (0.25, 0.2749, 0.2749),
        (0.25, 0.2751, 0.25),
        (0.25, 0.2251, 0.2251),
        (0.25, 0.2249, 0.25),
        (1.0, 0.25, 1.0),
        (0.2, 0.4999, 0.2),
    ],
)
def test_a_slide_within_a_tenth_is_read_as_it_is_and_another_at_what_was_asked(
    requested: float, own: float, effective: float
) -> None:
    assert effective_mpp(requested, slide(own)) == effective


def test_a_slide_too_coarse_to_enlarge_is_refused() -> None:
    with pytest.raises(SlideError, match=r"s\.tif is too coarse.*0\.501 µm.*at most 0\.5 for 0\.2"):
        effective_mpp(0.2, slide(0.501))
