"""Outlines of the thresholded map: whole, valid, where the pixels are, and the same for any block size."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import Georef
from wsi_maxmin.heatmap_store import HeatmapStore
from wsi_maxmin.regions import AREA_TOLERANCE, find_regions, outline
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.stitching import Heatmap

CHANNELS = ("tumour", "probability", "uncertainty", "coverage")
MPP = 0.25

masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def write_store(
    path: Path, values: np.ndarray, slide_size_px: tuple[int, int], *, threshold: float = 0.5
) -> HeatmapStore:
    """Write a heatmap of (C, H, W) bytes at 8 level-0 pixels a pixel, all of it tissue, and open it."""
    georef = Georef(slide_size_px=slide_size_px, slide_mpp=MPP, downsample=8)
    heatmap = Heatmap(data=da.from_array(values / np.float32(255)), georef=georef, channels=CHANNELS[-len(values) :])
    if len(values) == 1:
        heatmap = Heatmap(data=heatmap.data, georef=georef, channels=("tumour",))
    width, height = slide_size_px
    tissue = TissueMask(mask=np.ones((1, 1), dtype=bool), downsample=(width + 8, height + 8), mpp=1.0)
    omezarr.write(heatmap, path, threshold=threshold, tissue=tissue)
    return HeatmapStore.open(path, slide_size_px)


@given(mask=masks)
@settings(max_examples=200)
def test_an_outline_covers_exactly_the_pixels_of_each_component(mask):
    polygons = outline(mask)
    _, count = ndimage.label(mask)
    assert len(polygons) == count
    assert all(polygon.is_valid for polygon in polygons)
    rows, columns = np.indices(mask.shape) + 0.5
    inside = [shapely.contains_xy(polygon, columns, rows) for polygon in polygons]
    np.testing.assert_array_equal(np.sum(inside, axis=0) if inside else np.zeros(mask.shape), mask)
    assert sum(polygon.area for polygon in polygons) == mask.sum()


@pytest.mark.parametrize(("share", "block"), [(0.1, 3), (0.5, 4), (0.6, 7), (0.95, 5), (0.6, 16)])
def test_blocks_change_neither_outlines_nor_means(tmp_path, share, block):
    rng = np.random.default_rng(block)
    mask = rng.random((20, 23)) < share
    values = rng.integers(0, 128, (4, *mask.shape)).astype(np.uint8)
    values[0][mask] = 200 + rng.integers(0, 50, mask.sum())
    store = write_store(tmp_path / "h.ome.zarr", values, (23 * 8, 20 * 8))
    in_blocks, at_once = (find_regions(store, block_px=side) for side in (block, 1000))
    labelled, count = ndimage.label(mask)
    assert len(in_blocks) == len(at_once) == count
    for one, other in zip(in_blocks, at_once, strict=True):
        assert one.polygon.equals_exact(other.polygon)
        assert one.area_um2 == other.area_um2
        assert one.means == pytest.approx(other.means)
        assert one.maxima == other.maxima
    areas = np.sort(np.bincount(labelled.ravel())[1:]) * (8 * MPP) ** 2
    np.testing.assert_allclose(np.sort([region.area_um2 for region in at_once]), areas)
    means = ndimage.mean(values[0], labelled, np.arange(1, count + 1)) / 255
    np.testing.assert_allclose(np.sort([region.means["tumour"] for region in at_once]), np.sort(means))


def blobs(seed: int = 3, sigma: float = 5, shape: tuple[int, int] = (300, 420)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return noise > np.quantile(noise, 0.7)


def test_simplified_outlines_are_valid_small_and_within_a_pixel_and_two_percent(tmp_path):
    mask = blobs()
    store = write_store(tmp_path / "h.ome.zarr", (255 * mask)[None].astype(np.uint8), (420 * 8, 300 * 8))
    regions = find_regions(store, block_px=128)
    exact = [shapely.transform(polygon, lambda points: points * 8) for polygon in outline(mask)]
    exact.sort(key=lambda polygon: (polygon.bounds[1], polygon.bounds[0], polygon.area))
    assert len(regions) == len(exact) > 20
    for region, polygon in zip(regions, exact, strict=True):
        assert region.polygon.is_valid
        assert region.area_um2 == polygon.area * MPP**2
        assert region.polygon.area == pytest.approx(polygon.area, rel=AREA_TOLERANCE)
        assert shapely.hausdorff_distance(region.polygon, polygon) <= 8 + 1e-9
    points = [sum(map(shapely.get_num_coordinates, found)) for found in ([r.polygon for r in regions], exact)]
    assert points[0] < points[1] / 2


def test_a_hole_and_pixels_that_touch_at_a_corner_stay_what_they_are(tmp_path):
    mask = np.zeros((40, 40), dtype=bool)
    mask[2:20, 2:20] = True
    mask[5:10, 5:10] = mask[10:15, 10:15] = False  # two holes that share a corner
    mask[20:30, 20:30] = True  # touches the first at a corner
    store = write_store(tmp_path / "h.ome.zarr", (255 * mask)[None].astype(np.uint8), (320, 320))
    first, second = find_regions(store)
    assert (first.area_um2, second.area_um2) == ((18 * 18 - 50) * 4, 400)
    assert first.polygon.is_valid
    assert first.polygon.area == (18 * 18 - 50) * 64
    assert second.polygon.bounds == (160, 160, 240, 240)


def test_the_threshold_is_the_models_or_the_one_given_and_regions_end_with_the_slide(tmp_path):
    values = np.zeros((1, 10, 10), dtype=np.uint8)
    values[0, 2:8, 2:] = 100
    values[0, 4:6, 4:6] = 200
    store = write_store(tmp_path / "h.ome.zarr", values, (77, 80), threshold=0.5)
    (own,) = find_regions(store)
    assert own.polygon.bounds == (32, 32, 48, 48)
    (lower,) = find_regions(store, threshold=100 / 255)
    assert lower.polygon.bounds == (16, 16, 77, 64)
    assert lower.area_um2 == pytest.approx(61 * 48 * MPP**2)
    assert lower.maxima["tumour"] == pytest.approx(200 / 255)
    assert find_regions(store, threshold=0.9) == []
    assert find_regions(store, min_area_um2=17) == []
    assert len(find_regions(store, min_area_um2=16)) == 1
