"""Where a heatmap lies on its slide, and the tiles of it that a page gets."""

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import Georef
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.stitching import Heatmap
from wsi_maxmin.viewer._heatmap import TILE_PX, StoredMap

GEOREF = Georef(slide_size_px=(8 * 1100 - 3, 8 * 700 - 5), slide_mpp=0.243, downsample=8)
CHANNELS = ("tumour", "uncertainty", "coverage")


def write(path, georef=GEOREF, *, tissue=None, ngff="0.4", channels=CHANNELS, threshold=0.5):
    values = np.random.default_rng(0).random((len(channels), *georef.shape), dtype=np.float32)
    if "coverage" in channels:
        values[channels.index("coverage")] = np.arange(georef.shape[1]) >= 20
    heatmap = Heatmap(data=da.from_array(values), georef=georef, channels=channels)
    omezarr.write(heatmap, path, threshold=threshold, tissue=tissue, ngff=ngff)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    mask = np.ones((10, 10), dtype=bool)
    mask[:, 5:] = False
    tissue = TissueMask(mask=mask, downsample=(879.7, 559.5), mpp=213.0)
    return write(tmp_path_factory.mktemp("map") / "heatmap.ome.zarr", tissue=tissue)


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
@settings(max_examples=8)
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    mpp=st.floats(0.1, 3),
    downsample=st.sampled_from([1, 2, 16]),
)
def test_every_level_starts_at_the_slides_corner_and_steps_by_its_downsample(
    tmp_path_factory, ngff, width, height, mpp, downsample
):
    georef = Georef(slide_size_px=(width, height), slide_mpp=mpp, downsample=downsample)
    stored = StoredMap(write(tmp_path_factory.mktemp("m") / "h.ome.zarr", georef, ngff=ngff, channels=("tumour",)))
    assert stored.mpp == pytest.approx(mpp)
    for index, level in enumerate(stored.levels):
        assert level.origin_l0 == pytest.approx((0, 0), abs=1e-5)
        assert level.step_l0 == pytest.approx((downsample * 2**index,) * 2)
    assert stored.covers((width, height))
    assert not stored.covers((width + downsample, height))
    assert not stored.covers((width, height + downsample))


def test_what_is_drawn_brightest_elsewhere_is_as_stored(store, tmp_path):
    assert StoredMap(store).brightest == 255
    assert StoredMap(write(tmp_path / "low.ome.zarr", threshold=0.1)).brightest == 77
    group = zarr.open_group(tmp_path / "low.ome.zarr", mode="r+")
    described = dict(group.attrs["omero"])
    del described["channels"][0]["window"]
    group.attrs["omero"] = described
    assert StoredMap(tmp_path / "low.ome.zarr").brightest == 255


def test_tiles_are_the_stored_values_with_one_row_and_column_of_their_neighbours(store):
    stored, group = StoredMap(store), zarr.open_group(store, mode="r")
    for level in range(len(stored.levels)):
        whole = group[str(level)][1]
        for row in range(-(-whole.shape[0] // TILE_PX)):
            for column in range(-(-whole.shape[1] // TILE_PX)):
                values, seen = stored.tile("uncertainty", level, column, row)
                top, left = row * TILE_PX, column * TILE_PX
                np.testing.assert_array_equal(values, whole[top : top + TILE_PX + 1, left : left + TILE_PX + 1])
                assert seen.shape == values.shape


def test_glass_and_what_no_tile_covered_are_not_seen(store):
    _, seen = StoredMap(store).whole("tumour", 0)
    assert not seen[:, :20].any()
    assert seen[:690, 20:540].all()
    assert not seen[:, 560:].any()


def test_without_a_tissue_mask_all_that_is_covered_is_seen(tmp_path):
    _, seen = StoredMap(write(tmp_path / "h.ome.zarr")).whole("tumour", 0)
    assert not seen[:, :20].any()
    assert seen[:, 20:].all()


def test_a_rectangle_as_shown_is_0_where_nothing_was_seen(store):
    stored = StoredMap(store)
    values, seen = stored.whole("tumour", 0)
    shown = stored.shown("tumour", 0, slice(5, 50), slice(0, 700))
    np.testing.assert_array_equal(shown, np.where(seen, values, 0)[5:50, :700])


@pytest.mark.parametrize(
    "wrong",
    [("nonsense", 0, 0, 0), ("tumour", 9, 0, 0), ("tumour", 0, 9, 0), ("tumour", 0, 0, -1), ("tumour", -1, 0, 0)],
)
def test_what_is_not_there_is_a_key_error(store, wrong):
    with pytest.raises(KeyError):
        StoredMap(store).tile(*wrong)


def test_the_finest_level_within_a_number_of_pixels_is_found(store):
    stored = StoredMap(store)
    assert [stored.finest_within(pixels) for pixels in (10**9, 1100 * 700, 1100 * 700 - 1, 1)] == [0, 0, 1, 3]


def test_a_store_of_another_kind_is_refused(tmp_path):
    zarr.open_group(tmp_path / "other.zarr", mode="w").create_array("0", shape=(3, 3), dtype="float32")
    for name, message in (
        ("other.zarr", "not a heatmap of wsi-maxmin; got .*KeyError: "),
        ("gone.zarr", "no such heatmap"),
    ):
        with pytest.raises(InputError, match=message):
            StoredMap(tmp_path / name)
