"""What to look at first: squares apart from each other, highest first, where the map says; and their files."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
import shapely
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from qubalab.objects import ImageFeature, geojson_features_from_string

from tests.test_regions import CHANNELS, write_store
from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide
from wsi_maxmin.pipelines.review import review_results
from wsi_maxmin.review import ReviewSettings, choose_regions
from wsi_maxmin.sinks import contact_sheet

SIZE_PX = (8 * 320, 8 * 240)
TUMOUR, UNCERTAINTY = CHANNELS.index("tumour"), CHANNELS.index("uncertainty")
FILES = ("review.csv", "review.geojson", "review.png")


def make_store(path, *marks):
    """Write a map of 2 µm a pixel with squares of a byte, (channel, value, row, column, side)."""
    values = np.zeros((4, 240, 320), np.uint8)
    for channel, value, row, column, side in marks:
        values[channel, row : row + side, column : column + side] = value
    return write_store(path / "heatmap.ome.zarr", values, SIZE_PX)


def overlap(one, other):
    return one.x < other.right and other.x < one.right and one.y < other.bottom and other.y < one.bottom


@given(seed=st.integers(0, 2**32 - 1), side_um=st.floats(8, 200), count=st.integers(1, 5))
@settings(max_examples=15)
def test_squares_lie_apart_the_highest_first_and_say_what_the_map_says(tmp_path_factory, seed, side_um, count):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (4, 60, 80)).astype(np.uint8)
    store = write_store(tmp_path_factory.mktemp("map") / "heatmap.ome.zarr", values, (640, 480))
    found = choose_regions(store, ReviewSettings(count=count, side_um=side_um), 0.5)
    assert found
    assert not any(overlap(one.box, other.box) for one, other in itertools.combinations(found, 2))
    level = next(n for n in reversed(range(store.levels)) if store.georef.scale_um(n) <= 8)
    pixel = 8 * 2**level
    for reason, letter in (("tumour", "T"), ("uncertainty", "U")):
        group_ = [region for region in found if region.reason == reason]
        assert len(group_) <= count
        assert [region.name for region in group_] == [f"{letter}{n + 1}" for n in range(len(group_))]
        means = [region.means[reason] for region in group_]
        assert means == pytest.approx(sorted(means, reverse=True), abs=2e-3)
    for region in found:
        rows = slice(max(region.box.y // pixel, 0), region.box.bottom // pixel)
        columns = slice(max(region.box.x // pixel, 0), region.box.right // pixel)
        plane = store.level(level)[CHANNELS.index(region.reason), rows, columns] / 255
        side = region.box.width // pixel
        assert region.means[region.reason] == pytest.approx(plane.sum() / side**2, abs=1e-5)
        assert region.maxima[region.reason] == pytest.approx(plane.max(), abs=1e-6)
        assert region.tissue == pytest.approx(plane.size / side**2)


def test_the_first_squares_hold_what_is_marked(tmp_path):
    store = make_store(
        tmp_path, (TUMOUR, 250, 40, 60, 16), (TUMOUR, 120, 160, 240, 16), (UNCERTAINTY, 200, 160, 60, 16)
    )
    found = choose_regions(store, ReviewSettings(count=2, side_um=64), 0.3)
    assert [region.name for region in found] == ["T1", "T2", "U1"]
    for region, (row, column) in zip(found, ((40, 60), (160, 240), (160, 60)), strict=True):
        box = region.box
        assert box.x <= 8 * column
        assert box.right >= 8 * (column + 16)
        assert box.y <= 8 * row
        assert box.bottom >= 8 * (row + 16)
        assert (box.width, box.height) == (256, 256)
        # In the middle, to a pixel of the level on which means are taken.
        assert abs(box.x + 128 - 8 * (column + 8)) <= 32
        assert abs(box.y + 128 - 8 * (row + 8)) <= 32
    assert found[0].means["tumour"] == pytest.approx(250 / 255 / 4)
    assert found[0].maxima["tumour"] == pytest.approx(250 / 255)


def test_no_tumour_at_the_threshold_leaves_what_is_uncertain(tmp_path):
    store = make_store(tmp_path, (TUMOUR, 100, 40, 60, 16), (UNCERTAINTY, 200, 40, 60, 16))
    assert [region.name for region in choose_regions(store, ReviewSettings(count=1), 0.5)] == ["U1"]


def test_a_map_without_uncertainty_gives_tumour_alone(tmp_path):
    values = np.zeros((1, 240, 320), np.uint8)
    values[0, 40:60, 40:60] = 200
    store = write_store(tmp_path / "heatmap.ome.zarr", values, SIZE_PX)
    assert {region.reason for region in choose_regions(store, ReviewSettings(), 0.5)} == {"tumour"}


def test_glass_is_never_shown_for_what_tiles_say_there(tmp_path):
    store = make_store(tmp_path, (TUMOUR, 250, 40, 60, 16), (UNCERTAINTY, 250, 160, 60, 16))
    labels = zarr.open_group(tmp_path / "heatmap.ome.zarr", mode="r+")["labels/tumour"]
    for level in range(store.levels):
        labels[str(level)][:] = 0
    assert choose_regions(store, ReviewSettings(), 0.5) == []


@pytest.mark.parametrize("values", [{"count": 0}, {"side_um": 1}, {"side_um": float("nan")}])
def test_settings_out_of_range_are_errors(values):
    with pytest.raises(InputError):
        ReviewSettings(**values)


def test_contours_lie_where_the_map_does(tmp_path):
    store = make_store(tmp_path, (TUMOUR, 255, 40, 64, 16))
    for downsample in (1, 8, 16, 1e6):
        values, x, y = contact_sheet._map_of(store, Box(x=480, y=280, width=400, height=200), downsample)
        assert values.shape == (len(y), len(x))
        rows, columns = np.nonzero(values == 1)
        pixel = x[1] - x[0]
        assert (x[columns.min()] - pixel / 2, x[columns.max()] + pixel / 2) == (64 * 8, 80 * 8)
        assert (y[rows.min()] - pixel / 2, y[rows.max()] + pixel / 2) == (40 * 8, 56 * 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, stained, make_pyramid, write_pyramid):
    """Return the folder of a run over one slide, beside which the slide lies."""
    folder = tmp_path_factory.mktemp("run")
    slide = write_pyramid(folder / "a.tif", make_pyramid(stained(1000, 700, (256, 128, 512, 384)), 3))
    infer_slide(
        [slide], folder / "out", settings=InferSettings(model=str(tiny_model), engine="torch", precision="fp32")
    )
    return folder


def invoke(*arguments, code=0):
    result = CliRunner().invoke(group, ["review", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.mark.usefixtures("one_thread")
def test_a_run_gets_a_table_places_for_qupath_and_a_sheet(run, tmp_path):
    options = ["--out", tmp_path, "--count", 2, "--side-um", 48, "--threshold", 0.01]
    for _ in range(2):  # an earlier list is replaced
        assert "a  done" in invoke(run / "out", *options).output
    table = pd.read_csv(tmp_path / "a" / "review.csv")
    assert table["name"].tolist() == ["T1", "T2", "U1", "U2"]
    assert (table["width_um"] == table["width"] * 0.25).all()
    collection = (tmp_path / "a" / "review.geojson").read_text()
    features = geojson_features_from_string(collection)
    features = [ImageFeature.create_from_feature(feature) for feature in features]
    assert [feature.name for feature in features] == table["name"].tolist()
    assert tuple(features[2].classification.names) == ("Review: uncertainty",)
    for feature, row in zip(features, table.to_dict("records"), strict=True):
        bounds = shapely.geometry.shape(feature.geometry).bounds
        assert bounds == (row["x"], row["y"], row["x"] + row["width"], row["y"] + row["height"])
    with Image.open(tmp_path / "a" / "review.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    # Frames and tissue are on it.
    for color in ((213, 94, 0), (0, 114, 178)):
        assert (np.abs(pixels - color).max(axis=2) < 3).sum() > 1000
    assert (np.abs(pixels - (190, 110, 170)).max(axis=2) <= 20).sum() > 100_000


@pytest.mark.usefixtures("one_thread")
def test_a_slide_that_has_moved_is_asked_for_and_another_one_refused(run, tmp_path, stained, write_pyramid):
    own = shutil.copytree(run / "out", tmp_path / "out")
    table = (own / "slides.csv").read_text()
    (own / "slides.csv").write_text(table.replace("a.tif", "gone.tif"))
    assert "--slide names it" in invoke(own / "a", code=2).stderr
    assert not any((own / "a" / name).exists() for name in FILES)
    other = write_pyramid(tmp_path / "other.tif", [stained(600, 500, (100, 100, 400, 300))])
    assert "is not the slide of this result" in invoke(own / "a", "--slide", other, code=2).stderr
    invoke(own / "a", "--slide", run / "a.tif")
    assert all((own / "a" / name).is_file() for name in FILES)


def test_one_slide_for_several_results_is_an_error(run, tmp_path):
    for name in ("b", "c"):
        shutil.copytree(run / "out" / "a", tmp_path / name)
    with pytest.raises(InputError, match="one slide for several results"):
        review_results([tmp_path / "b", tmp_path / "c"], slide=run / "a.tif")


@pytest.mark.usefixtures("one_thread")
def test_a_review_goes_with_the_heatmap_that_it_is_of(run, tmp_path, tiny_model):
    own = shutil.copytree(run / "out", tmp_path / "out")
    invoke(own / "a")
    settings_ = InferSettings(model=str(tiny_model), engine="torch", precision="fp32")
    infer_slide([run / "a.tif"], own, settings=settings_, existing="overwrite")
    assert not any((own / "a" / name).exists() for name in FILES)


@pytest.mark.usefixtures("one_thread")
def test_a_slide_on_which_nothing_is_marked_has_a_sheet_all_the_same(run, tmp_path):
    invoke(run / "out", "--out", tmp_path, "--threshold", 1, "--side-um", 10000)
    assert pd.read_csv(tmp_path / "a" / "review.csv")["name"].tolist() == []
    with Image.open(tmp_path / "a" / "review.png") as image:
        assert min(image.size) > 500
