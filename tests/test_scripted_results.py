"""What is made of a map of probability alone, as of TorchScript: each command takes it for the map of tumour."""

import json

import numpy as np
import pytest
import tifffile

from tests.test_scripted import DESCRIPTION, save
from tests.viewing import find_results
from wsi_maxmin.exports._source import ExportSettings
from wsi_maxmin.heatmap_store import HeatmapStore, main_channel
from wsi_maxmin.pipelines.check import check_results
from wsi_maxmin.pipelines.export import export_results
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide
from wsi_maxmin.pipelines.review import review_results
from wsi_maxmin.tilemaps import TileMaps
from wsi_maxmin.viewer._opened import Opened

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory, stained, make_pyramid, write_pyramid):
    folder = tmp_path_factory.mktemp("scripted")
    slide = write_pyramid(folder / "slide.tif", make_pyramid(stained(1000, 700, (256, 128, 512, 384)), 3))
    settings = InferSettings(engine="torch", precision="fp32", model=str(save(folder / "model")))
    infer_slide([slide], folder / "out", settings=settings)
    return folder / "out" / "slide"


@pytest.fixture(scope="module")
def store(made):
    return HeatmapStore.open(made / "heatmap.ome.zarr", TileMaps(made / "tilemaps.zarr").grid.slide_size_px)


@pytest.mark.parametrize(
    ("channels", "main"), [(("probability", "tumour"), "tumour"), (("probability", "coverage"), "probability")]
)
def test_the_threshold_is_for_tumour_else_for_the_first_channel(channels, main):
    assert main_channel(channels) == main


def test_check_passes_it_and_compares_its_labels_with_the_probability(made):
    (check,) = check_results([made])
    assert check.good
    (labels,) = (finding for finding in check.findings if finding.what == "labels")
    assert labels.why == "the probability channel at its threshold"


def test_a_tiff_has_the_probability(made, store, tmp_path):
    assert export_results([made], ["tiff"], out=tmp_path).exit_code == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "slide" / "tumour.tif"), store.level()[0])


def test_regions_at_another_threshold_are_those_of_the_probability(made, store, tmp_path):
    threshold = float(np.median(store.level()[0][np.asarray(store.labels()) > 0])) / 255
    done = export_results([made], ["geojson"], settings=ExportSettings(threshold=threshold), out=tmp_path)
    assert done.exit_code == 0
    features = json.loads((tmp_path / "slide" / "regions.geojson").read_text())["features"]
    assert features
    assert all("tumour" not in name for feature in features for name in feature["properties"]["measurements"])


def test_the_page_has_the_models_threshold(made):
    opened = Opened(*find_results(made))
    assert opened.describe()["map"]["main"] == "probability"
    assert opened.threshold("probability") == opened.summary()["threshold"] == DESCRIPTION["threshold"]
    assert opened.summary()["channel"] == "probability"


def test_regions_to_look_at_first_are_chosen_by_probability(made):
    assert review_results([made]).exit_code == 0
    rows = (made / "review.csv").read_text().splitlines()
    assert any(",tumour," in row for row in rows)
