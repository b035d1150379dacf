import dask.array as da
import numpy as np
import pytest
import yaozarrs
import zarr
from ome_zarr_models import open_ome_zarr

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import Georef
from wsi_maxmin.sinks._ngff import ome_metadata
from wsi_maxmin.sinks.omezarr import level_count, to_uint8, write
from wsi_maxmin.stitching import Heatmap

GEOREF = Georef(slide_size_px=(8 * 1100 - 3, 8 * 700 - 5), slide_mpp=0.243, downsample=8)
CHANNELS = ("tumour", "probability", "uncertainty", "coverage")


def make_heatmap(chunks=(4, 512, 512), georef=GEOREF):
    values = np.random.default_rng(0).random((4, *georef.shape), dtype=np.float32)
    values[:3, :40, :50] = np.nan
    values[3] = ~np.isnan(values[0])
    return values, Heatmap(data=da.from_array(values, chunks=chunks), georef=georef, channels=CHANNELS)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    values, heatmap = make_heatmap()
    path = tmp_path_factory.mktemp("zarr") / "heatmap.ome.zarr"
    mask = np.zeros((10, 10), dtype=bool)
    mask[:, 5:] = True
    tissue = TissueMask(mask=mask, downsample=(879.7, 559.5), mpp=213.0)
    write(heatmap, path, threshold=0.5, tissue=tissue, name="s")
    return values, path


def by_hand(level):
    """Halve as the format promises: mean of 2×2 pixels, the odd last row or column counted twice."""
    padded = np.pad(level, [(0, 0), (0, level.shape[1] % 2), (0, level.shape[2] % 2)], mode="edge").astype(int)
    shape = (padded.shape[0], padded.shape[1] // 2, 2, padded.shape[2] // 2, 2)
    return ((padded.reshape(shape).sum(axis=(2, 4)) + 2) // 4).astype(np.uint8)


def test_two_foreign_validators_accept_the_store(written):
    _, path = written
    image = open_ome_zarr(zarr.open_group(path, mode="r"))
    assert [axis.name for axis in image.attributes.multiscales[0].axes] == ["c", "y", "x"]
    assert open_ome_zarr(zarr.open_group(path / "labels" / "tumour", mode="r")) is not None
    yaozarrs.validate_zarr_store(str(path))


def test_pixels_and_every_level_equal_a_plain_recomputation(written):
    values, path = written
    group = zarr.open_group(path, mode="r")
    expected = np.rint(255 * np.nan_to_num(values)).astype(np.uint8)
    for level in range(level_count(GEOREF.shape)):
        np.testing.assert_array_equal(group[str(level)][:], expected)
        expected = by_hand(expected)
    assert max(group[str(level)].shape) <= 256


def test_blocks_that_do_not_fit_the_stores_chunks_are_written_whole(written, tmp_path):
    _, heatmap = make_heatmap(chunks=(3, 333, 77))
    write(heatmap, tmp_path / "h.ome.zarr", threshold=0.5)
    other = zarr.open_group(tmp_path / "h.ome.zarr", mode="r")
    np.testing.assert_array_equal(other["0"][:], zarr.open_group(written[1], mode="r")["0"][:])


def test_scale_and_translation_place_pixel_centres_on_the_slide(written):
    """The centre of level-k pixel i is where a level-0 point says it is, in µm between pixel centres."""
    _, path = written
    datasets = zarr.open_group(path, mode="r").attrs["multiscales"][0]["datasets"]
    for level, dataset in enumerate(datasets):
        scale, translation = (
            step[kind]
            for step, kind in zip(dataset["coordinateTransformations"], ("scale", "translation"), strict=True)
        )
        assert scale == [1, GEOREF.scale_um(level), GEOREF.scale_um(level)]
        index, pixel_l0 = 11, GEOREF.downsample * 2**level
        centre_l0 = (index + 0.5) * pixel_l0 - 0.5
        assert index * scale[1] + translation[1] == pytest.approx(centre_l0 * 0.243)
        assert translation[0] == 0


@pytest.mark.parametrize("point", [(0, 0), (4097.5, 2047.25), (8796, 5594)])
def test_a_level_0_point_is_found_on_the_heatmap_and_back_within_half_a_heatmap_pixel(written, point):
    _, path = written
    transforms = zarr.open_group(path, mode="r").attrs["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    scale, shift = transforms[0]["scale"][1:], transforms[1]["translation"][1:]
    x, y = GEOREF.to_display(*point)
    pixel = np.floor([y, x])
    back_um = pixel * scale + shift  # µm between the centres of level-0 pixels
    back_l0 = back_um / 0.243 + 0.5
    assert np.abs(back_l0 - point[::-1]).max() <= GEOREF.downsample / 2
    assert GEOREF.to_level0(x, y) == pytest.approx(point)


def test_the_format_is_the_one_that_java_viewers_read(written):
    _, path = written
    array = zarr.open_group(path, mode="r")["0"]
    assert array.metadata.zarr_format == 2
    assert array.metadata.compressor.codec_id == "blosc"
    assert (array.chunks, array.metadata.dimension_separator, array.fill_value) == ((1, 512, 512), "/", 0)
    assert (path / "0" / "0" / "0" / "0").is_file()


def test_channels_are_described_for_viewers(written):
    channels = zarr.open_group(written[1], mode="r").attrs["omero"]["channels"]
    assert [channel["label"] for channel in channels] == list(CHANNELS)
    assert all(set(channel) == {"label", "color", "active", "window"} for channel in channels)
    assert all(set(channel["window"]) == {"min", "max", "start", "end"} for channel in channels)


@pytest.mark.parametrize(("threshold", "brightest"), [(0, 1), (0.08, 62), (0.5, 255)])
def test_other_viewers_show_values_above_a_low_threshold_brightly(tmp_path, threshold, brightest):
    write(make_heatmap()[1], tmp_path / "h", threshold=threshold)
    windows = [channel["window"] for channel in zarr.open_group(tmp_path / "h", mode="r").attrs["omero"]["channels"]]
    assert [window["end"] for window in windows] == [brightest, 255, 255, 255]
    assert {(window["min"], window["max"], window["start"]) for window in windows} == {(0, 255, 0)}


def test_labels_are_tumour_over_tissue_over_nothing_and_never_mixed(written):
    values, path = written
    labels = zarr.open_group(path / "labels" / "tumour", mode="r")
    expected = np.zeros(GEOREF.shape, dtype=np.uint8)
    expected[:-1, (np.arange(GEOREF.shape[1]) + 0.5) * 8 >= 5 * 879.7] = 1  # the last row's centres are off the slide
    expected[(np.rint(255 * np.nan_to_num(values[0])) >= 128) & (expected == 1)] = 2
    np.testing.assert_array_equal(labels["0"][:], expected)
    np.testing.assert_array_equal(labels["1"][:], expected[::2, ::2])
    described = labels.attrs["image-label"]
    assert {entry["label-value"] for entry in described["colors"]} == {1, 2}
    assert {entry["label-value"] for entry in described["properties"]} == {1, 2}


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    _, heatmap = make_heatmap()
    path = tmp_path_factory.mktemp("zarr") / "heatmap.ome.zarr"
    tissue = TissueMask(mask=np.ones((10, 10), dtype=bool), downsample=(879.7, 559.5), mpp=213.0)
    write(heatmap, path, threshold=0.5, tissue=tissue, name="s", ngff="0.5")
    return path


def test_version_0_5_is_accepted_by_both_validators_with_the_same_pixels_and_places(written, newer):
    image = open_ome_zarr(zarr.open_group(newer, mode="r"))
    assert [axis.name for axis in image.ome_attributes.multiscales[0].axes] == ["c", "y", "x"]
    assert open_ome_zarr(zarr.open_group(newer / "labels" / "tumour", mode="r")) is not None
    yaozarrs.validate_zarr_store(str(newer))
    old, new = (zarr.open_group(path, mode="r") for path in (written[1], newer))
    for level in range(level_count(GEOREF.shape)):
        np.testing.assert_array_equal(new[str(level)][:], old[str(level)][:])
    inner = ome_metadata(new)
    assert inner["multiscales"][0]["datasets"] == ome_metadata(old)["multiscales"][0]["datasets"]
    assert inner["omero"]["channels"] == ome_metadata(old)["omero"]["channels"]


def test_version_0_5_has_what_viewers_look_for(newer):
    array = zarr.open_group(newer, mode="r")["0"]
    assert array.metadata.zarr_format == 3
    assert array.metadata.dimension_names == ("c", "y", "x")
    assert [type(codec).__name__ for codec in array.metadata.codecs] == ["BytesCodec", "BloscCodec"]
    assert (newer / "0" / "c" / "0" / "0" / "0").is_file()
    labels = dict(zarr.open_group(newer / "labels", mode="r").attrs)
    assert labels["labels"] == labels["ome"]["labels"] == ["tumour"]
    for folder in (newer, newer / "labels", newer / "labels" / "tumour"):
        assert dict(zarr.open_group(folder, mode="r").attrs)["ome"]["version"] == "0.5"


def test_an_unknown_version_is_refused_before_anything_is_written(tmp_path):
    _, heatmap = make_heatmap()
    with pytest.raises(InputError, match=r"no such version of OME-Zarr; got 0\.6; expected 0\.4 or 0\.5"):
        write(heatmap, tmp_path / "h.ome.zarr", threshold=0.5, ngff="0.6")
    assert not list(tmp_path.iterdir())


def test_empty_chunks_are_not_written(tmp_path):
    georef = Georef(slide_size_px=(8 * 1024, 8 * 512), slide_mpp=0.25, downsample=8)
    data = da.full((1, *georef.shape), np.nan, chunks=(1, 512, 512), dtype=np.float32)
    write(Heatmap(data=data, georef=georef, channels=("tumour",)), tmp_path / "h.ome.zarr", threshold=0.5)
    assert not list((tmp_path / "h.ome.zarr" / "0").glob("0/*/*"))
    assert zarr.open_group(tmp_path / "h.ome.zarr", mode="r")["0"].shape == (1, 512, 1024)


def test_a_store_is_replaced_only_by_a_whole_one(written, tmp_path):
    _, heatmap = make_heatmap()
    path = tmp_path / "h.ome.zarr"
    write(heatmap, path, threshold=0.5)
    before = zarr.open_group(path, mode="r")["0"][:]

    def fail(block):
        raise OSError("no space")

    broken = Heatmap(
        data=heatmap.data.map_blocks(fail, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)),
        georef=GEOREF,
        channels=CHANNELS,
    )
    with pytest.raises(OSError, match="no space"):
        write(broken, path, threshold=0.5)
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["0"][:], before)


def test_values_are_rounded_and_nan_is_nothing():
    values = np.array([0, 1, 0.5, np.nan, 1 / 255, 1.0000001], dtype=np.float32)
    assert to_uint8(values).tolist() == [0, 255, 128, 0, 1, 255]


@pytest.mark.parametrize(("shape", "levels"), [((1, 1), 1), ((256, 200), 1), ((257, 2), 2), ((12500, 10000), 7)])
def test_levels_go_down_to_256_pixels(shape, levels):
    assert level_count(shape) == levels
