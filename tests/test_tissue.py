"""Tissue on painted slides, where the truth is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk, remove_small_holes, remove_small_objects

from wsi_maxmin.config import TissueConfig
from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.geometry import SlideInfo, TissueMask
from wsi_maxmin.readers import open_slide
from wsi_maxmin.readers.memory import MemoryReader
from wsi_maxmin.tissue import LEAST_SATURATION, MOST_SATURATION, find_tissue, read_tissue_mask, tissue_of_pixels

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


def plain_recipe(pixels: np.ndarray, mpp: float, config: TissueConfig) -> np.ndarray:
    """Return tissue by the libraries' own functions, each step as it reads."""
    high, low = pixels.max(axis=2).astype(np.float64), pixels.min(axis=2)
    whole = np.divide(255 * (high - low), high, out=np.zeros_like(high), where=high > 0).astype(np.uint8)
    saturation = ndimage.median_filter(whole, size=3, mode="nearest")
    if np.ptp(saturation) == 0:
        return saturation > LEAST_SATURATION * 255
    threshold = float(np.clip(threshold_otsu(saturation), LEAST_SATURATION * 255, MOST_SATURATION * 255))
    tissue = saturation > threshold
    radius = round(config.closing_um / mpp)
    if radius:
        padded = np.pad(tissue, radius, mode="edge")
        tissue = ndimage.binary_closing(padded, disk(radius))[radius:-radius, radius:-radius]
    tissue = remove_small_holes(np.pad(tissue, 1), max_size=int(config.smallest_hole_um2 / mpp**2))[1:-1, 1:-1]
    return remove_small_objects(tissue, max_size=int(config.smallest_speck_um2 / mpp**2))


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    block=st.integers(1, 12),
    closing_um=st.sampled_from([0.0, 8.0, 16.0, 40.0, 72.0]),
    smallest_um2=st.sampled_from([0.0, 70.0, 800.0, 5000.0]),
)
def test_tissue_is_that_of_the_plain_recipe_to_the_pixel(
    seed: int, shape: tuple[int, int], block: int, closing_um: float, smallest_um2: float
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (90 // block + 1, 90 // block + 1, 3))
    pixels = coarse.repeat(block, axis=0).repeat(block, axis=1)[: shape[0], : shape[1]]
    pixels = (pixels + rng.integers(-9, 10, pixels.shape)).clip(0, 255).astype(np.uint8)
    config = TissueConfig(closing_um=closing_um, smallest_hole_um2=smallest_um2, smallest_speck_um2=smallest_um2)
    assert (tissue_of_pixels(pixels, 8.0, config) == plain_recipe(pixels, 8.0, config)).all()


def slide_info(width: int, height: int, mpp: float | None = 0.25) -> SlideInfo:
    return SlideInfo(
        slide_id="s", path=Path("s.tif"), size_px=(width, height), mpp=mpp, level_downsamples=(1.0,), reader="memory"
    )


def halves(width: int, height: int) -> np.ndarray:
    """Return a mask whose right half is tissue."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, width // 2 :] = 1
    return mask


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "I;16"])
def test_a_given_png_of_any_kind_is_tissue_where_it_is_not_zero(tmp_path: Path, mode: str) -> None:
    mask = halves(100, 60)
    if mode == "I;16":
        image = Image.fromarray(mask.astype(np.uint16) * 256)
    else:
        image = Image.fromarray(mask if mode == "P" else mask * 255, "L" if mode != "P" else None)
        image = image.convert(mode) if mode != "P" else image
    if mode == "P":
        image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "t.png")
    found = read_tissue_mask(tmp_path / "t.png", slide_info(1600, 960))
    assert (found.mask == (mask > 0)).all()
    assert (found.downsample, found.mpp) == ((16, 16), 4)


@pytest.mark.parametrize(("width", "height", "size"), [(1605, 963, (100, 60)), (1605, 963, (101, 61))])
def test_a_side_that_was_rounded_does_not_shift_a_given_mask(
    tmp_path: Path, width: int, height: int, size: tuple[int, int]
) -> None:
    Image.fromarray(halves(*size)).save(tmp_path / "t.png")
    assert read_tissue_mask(tmp_path / "t.png", slide_info(width, height)).downsample == (16, 16)


def test_a_given_mask_of_any_resolution_covers_the_whole_slide(tmp_path: Path) -> None:
    Image.fromarray(halves(250, 150)).save(tmp_path / "t.png")
    found = read_tissue_mask(tmp_path / "t.png", slide_info(1600, 960))
    assert found.downsample == pytest.approx((6.4, 6.4))
    assert found.mpp == pytest.approx(1.6)


@pytest.mark.parametrize(("mpp", "level"), [(0.25, 2), (1.0, 1), (3.0, 0), (20.0, 0)])
def test_of_a_given_pyramid_the_coarsest_level_of_at_most_16_um_is_read(tmp_path: Path, mpp: float, level: int) -> None:
    mask = halves(1600, 960)
    with tifffile.TiffWriter(tmp_path / "t.tif") as tiff:
        for step in (1, 8, 64):
            tiff.write(mask[::step, ::step] * 255, tile=(64, 64), compression="deflate", subfiletype=int(step > 1))
    found = read_tissue_mask(tmp_path / "t.tif", slide_info(1600, 960, mpp))
    assert found.downsample == (8**level, 8**level)
    assert found.mask.shape == (-(-960 // 8**level), -(-1600 // 8**level))
    assert found.at(np.array([0.0, 790.0, 840.0, 1599.0]), np.array([5.0, 900.0])).tolist() == [[0, 0, 1, 1]] * 2


def test_a_huge_given_mask_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_maxmin.tissue._MOST_GIVEN_PX", 1000)
    Image.fromarray(halves(100, 60)).save(tmp_path / "t.png")
    tifffile.imwrite(tmp_path / "t.tif", halves(100, 60))
    for name in ("t.png", "t.tif"):
        found = read_tissue_mask(tmp_path / name, slide_info(1600, 960))
        assert found.downsample == (48, 48)
        assert found.mask.shape == (20, 34)
        assert (found.mask == (np.arange(34) * 3 + 1 >= 50)).all()


def test_a_mask_of_another_proportion_is_refused(tmp_path: Path) -> None:
    Image.fromarray(halves(100, 70)).save(tmp_path / "t.png")
    with pytest.raises(InputError, match=r"t\.png is not a tissue mask of s; got 100×70 pixels.*1600×960 within 1 %"):
        read_tissue_mask(tmp_path / "t.png", slide_info(1600, 960))


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such tissue mask"):
        read_tissue_mask(tmp_path / "t.png", slide_info(1600, 960))
    (tmp_path / "t.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"t\.png is not a readable tissue mask.*expected a PNG or TIFF"):
        read_tissue_mask(tmp_path / "t.png", slide_info(1600, 960))
    Image.fromarray(halves(100, 60)).save(tmp_path / "t.jpg")
    with pytest.raises(InputError, match="an image of the format JPEG"):
        read_tissue_mask(tmp_path / "t.jpg", slide_info(1600, 960))
    with pytest.raises(SlideError, match="--slide-mpp"):
        read_tissue_mask(tmp_path / "t.png", slide_info(1600, 960, None))


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
