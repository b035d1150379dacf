"""Tissue on painted slides, where the truth is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wsi_maxmin.config import TissueConfig
from wsi_maxmin.errors import SlideError
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.readers import open_slide
from wsi_maxmin.readers.memory import MemoryReader
from wsi_maxmin.tissue import LEAST_SATURATION, find_tissue, tissue_of_pixels

Paint = Callable[..., np.ndarray]


def tissue_of(pixels: np.ndarray, *, mpp: float = 8.0, **config: float) -> TissueMask:
    return find_tissue(MemoryReader([pixels], mpp=mpp), TissueConfig(**config))


def test_tissue_is_where_it_was_painted(stained: Paint) -> None:
    found = tissue_of(stained(200, 160, (40, 30, 80, 60)))
    expected = np.zeros((160, 200), dtype=bool)
    expected[30:90, 40:120] = True
    # Only corners may be rounded, by the median and the closing.
    assert (found.mask ^ expected).sum() <= 8


@pytest.mark.parametrize("glass", [np.uint8(255), np.uint8(0), np.uint8(200)])
def test_a_slide_of_one_grey_has_no_tissue(glass: np.uint8) -> None:
    assert not tissue_of(np.full((160, 200, 3), glass)).mask.any()


def test_noise_of_glass_is_not_split_into_tissue_and_glass() -> None:
    """A bare Otsu would call about half of it tissue."""
    noise = np.random.default_rng(0).integers(243, 248, (160, 200, 3)).astype(np.uint8)
    assert np.ptp(noise) > 0
    assert not tissue_of(noise).mask.any()


@pytest.mark.parametrize(("least", "tissue"), [(LEAST_SATURATION - 0.01, False), (LEAST_SATURATION + 0.01, True)])
def test_a_slide_of_one_colour_is_tissue_from_the_least_saturation_on(least: float, tissue: bool) -> None:
    pixels = np.full((20, 20, 3), 200, dtype=np.uint8)
    pixels[..., 1] = round(200 * (1 - least))
    assert (tissue_of_pixels(pixels, 8.0, TissueConfig()) == tissue).all()


def test_a_slide_full_of_tissue_is_tissue_to_its_edges(stained: Paint) -> None:
    found = tissue_of(stained(200, 160, (0, 0, 200, 150)))
    assert found.mask[:150].all()
    assert not found.mask[152:].any()


def test_the_texture_of_a_slide_that_is_all_tissue_is_not_split(stained: Paint) -> None:
    """A bare Otsu would call half of it glass, in specks that are then dropped."""
    assert tissue_of(stained(1600, 1600, (0, 0, 1600, 1600)), mpp=0.25).mask.all()


def test_a_bay_of_glass_at_the_slides_edge_is_no_hole(stained: Paint) -> None:
    pixels = stained(200, 160, (0, 0, 200, 160))
    pixels[150:, 190:] = 245
    pixels[60:64, 60:64] = 245
    found = tissue_of(pixels, closing_um=0.0).mask
    assert not found[155:, 195:].any()
    assert found[60:64, 60:64].all()


def test_a_dark_frame_is_not_tissue(stained: Paint) -> None:
    pixels = stained(200, 160, (60, 60, 60, 60))
    pixels[:20] = pixels[:, :20] = 12
    assert not tissue_of(pixels).mask[:22].any()


@pytest.mark.parametrize(("limit_um2", "kept"), [(900, True), (1700, False)])
def test_specks_are_dropped_and_holes_filled_below_an_area_in_um2(stained: Paint, limit_um2: float, kept: bool) -> None:
    """A speck and a hole of 20 × 20 px at 2 µm are 1600 µm²."""
    pixels = stained(200, 160, (60, 40, 100, 100), (10, 10, 20, 20))
    pixels[80:100, 100:120] = 245
    limits = {"smallest_hole_um2": limit_um2, "smallest_speck_um2": limit_um2}
    mask = tissue_of(pixels, mpp=2.0, overview_mpp=2.0, closing_um=0, **limits).mask
    assert bool(mask[20, 20]) is kept
    assert bool(mask[90, 110]) is not kept


def test_closing_joins_pieces_nearer_than_its_diameter(stained: Paint) -> None:
    pixels = stained(200, 160, (20, 40, 60, 80), (83, 40, 60, 80))
    assert not tissue_of(pixels, closing_um=0).mask[80, 81]
    assert tissue_of(pixels, closing_um=16).mask[80, 81]


@pytest.mark.parametrize(("mpp", "shape"), [(0.5, (20, 25)), (2.7, (108, 135)), (8.0, (320, 400)), (12.0, (320, 400))])
def test_the_mask_covers_the_whole_slide_at_the_overviews_mpp_or_the_slides(
    stained: Paint, mpp: float, shape: tuple[int, int]
) -> None:
    found = tissue_of(stained(400, 320, (100, 100, 200, 100)), mpp=mpp)
    assert found.mask.shape == shape
    assert found.mpp == pytest.approx(max(mpp, 8.0), rel=0.01)
    assert found.downsample == pytest.approx((400 / shape[1], 320 / shape[0]))


def test_a_slide_without_mpp_is_refused(stained: Paint) -> None:
    with pytest.raises(SlideError, match="--slide-mpp"):
        find_tissue(MemoryReader([stained(200, 160)], mpp=None))


@pytest.mark.data
def test_tissue_of_a_real_slide_lies_within_its_real_pixels(data_dir: Path) -> None:
    slide = open_slide(data_dir / "slides" / "normal_001_region.tif")
    found = find_tissue(slide)
    real = np.zeros((6144, 6144), dtype=bool)
    real[1536:3584, 2048:4096] = True
    inside = found.at(np.arange(6144.0), np.arange(6144.0))
    assert 0.3 < inside[real].mean() <= 1
    # White lies around the real pieces: at most the edge itself is blurred into it.
    assert inside[~real].sum() < 8192 * 8.0 / 0.243
