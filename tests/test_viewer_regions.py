"""The list of regions."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure

from wsi_maxmin.grids import Georef
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.sinks._ngff import least_byte
from wsi_maxmin.stitching import Heatmap
from wsi_maxmin.viewer import _regions
from wsi_maxmin.viewer._heatmap import StoredMap
from wsi_maxmin.viewer._regions import Regions

GEOREF = Georef(slide_size_px=(2400, 1600), slide_mpp=0.25, downsample=8)


@pytest.fixture(scope="module")
def regions_of(tmp_path_factory):
    def make(values):
        heatmap = Heatmap(data=da.from_array(values[None]), georef=GEOREF, channels=("tumour",))
        path = tmp_path_factory.mktemp("map") / "h.ome.zarr"
        omezarr.write(heatmap, path, threshold=0.5)
        return Regions(StoredMap(path))

    return make


def test_regions_come_by_their_highest_value_with_box_peak_mean_and_area(regions_of):
    values = np.zeros(GEOREF.shape, np.float32)
    values[10:20, 30:50] = 0.6
    values[100:103, 200:204] = 0.7
    values[101, 202] = 1.0
    first, second = regions_of(values).find("tumour", 0.5)
    assert (first.x, first.y, first.width, first.height) == (1600, 800, 32, 24)
    assert (first.peak_x, first.peak_y) == (8 * 202.5, 8 * 101.5)
    assert (first.highest, first.area_um2) == (1.0, 12 * 4.0)
    assert first.mean == pytest.approx((11 * round(0.7 * 255) + 255) / 12 / 255)
    assert (second.x, second.y, second.width, second.height) == (240, 80, 160, 80)
    assert second.area_um2 == 200 * 4.0


def test_of_equal_height_the_larger_comes_first_and_corners_touch(regions_of):
    values = np.zeros(GEOREF.shape, np.float32)
    values[5, 5] = 0.8
    values[50, 50] = values[51, 51] = 0.8
    assert [region.area_um2 for region in regions_of(values).find("tumour", 0.5)] == [8.0, 4.0]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), threshold=st.floats(0, 1))
def test_regions_are_the_connected_pieces_that_scikit_image_finds(regions_of, seed, threshold):
    rng = np.random.default_rng(seed)
    values = np.kron(rng.random((10, 15)), np.ones((20, 20))).astype(np.float32)
    pixels = omezarr.to_uint8(values)
    found = regions_of(values).find("tumour", threshold)
    expected = measure.regionprops(measure.label(pixels >= least_byte(threshold), connectivity=2), pixels)
    assert sorted((r.highest, r.area_um2) for r in found) == sorted(
        (p.intensity_max / 255, p.area * 4.0) for p in expected
    )
    assert [r.highest for r in found] == sorted((r.highest for r in found), reverse=True)


def test_nothing_above_the_threshold_is_no_region(regions_of):
    regions = regions_of(np.zeros(GEOREF.shape, np.float32))
    assert regions.find("tumour", 0.0) == ()
    assert regions.summary("tumour", 0.0).above_um2 == 0


def test_a_large_map_is_looked_at_coarser(regions_of, monkeypatch):
    values = np.zeros(GEOREF.shape, np.float32)
    values[64:128, 64:128] = 0.9
    monkeypatch.setattr(_regions, "_PIXELS", 150 * 100)
    regions = regions_of(values)
    (region,) = regions.find("tumour", 0.5)
    assert regions.pixel_um == 4.0
    assert (region.x, region.y, region.width, region.height) == (512, 512, 512, 512)
    assert region.area_um2 == 128**2


def test_a_summary_has_the_highest_value_and_the_areas(regions_of):
    values = np.full(GEOREF.shape, 0.2, np.float32)
    values[:10, :10] = 0.6
    summary = regions_of(values).summary("tumour", 0.5)
    assert summary.highest == pytest.approx(0.6)
    assert (summary.above_um2, summary.seen_um2) == (400, values.size * 4.0)


def test_the_high_threshold_keeps_one_value_in_twenty(regions_of):
    values = np.linspace(0, 1, 60_000, dtype=np.float32).reshape(GEOREF.shape)
    assert regions_of(values).high_threshold("tumour") == pytest.approx(0.95, abs=0.01)
