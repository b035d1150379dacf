"""The bundled model on the bundled slide: what `make demo` shows."""

import filecmp
import json
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr
from ome_zarr_models import open_ome_zarr
from PIL import Image
from shapely import Point

from tests.viewing import find_results
from wsi_maxmin.assets import ASSETS, DEMO_ANNOTATION, DEMO_MODEL, DEMO_SLIDE, find_model, model_names
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines.demo import demo, valid_on_display
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide
from wsi_maxmin.viewer._opened import Opened


def test_everything_that_ships_fits_its_budget():
    assert DEMO_SLIDE.stat().st_size < 8e6
    assert find_model(DEMO_MODEL).stat().st_size < 10e6
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 20e6


def test_the_bundled_model_knows_what_it_is():
    checkpoint = load_checkpoint(find_model(DEMO_MODEL))
    config = checkpoint.config
    assert (config.data.positive, config.slide.mpp, config.slide.tile_px) == ("tumor", 0.243, 512)
    assert "tumor_001" in config.data.exclude_groups
    assert "not a diagnostic" in config.notes
    assert checkpoint.build().refuses_tiles is None
    assert not checkpoint.optimizer


def test_every_bundled_model_has_a_card():
    for name in model_names():
        assert (ASSETS / f"{name}.md").is_file()


def test_a_model_that_is_not_there_is_refused_with_the_names_of_those_that_are():
    with pytest.raises(InputError, match=DEMO_MODEL):
        find_model("nonsense")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return demo(tmp_path_factory.mktemp("demo"), device="cpu")


@pytest.mark.slow
def test_the_demo_finds_the_tumour_of_the_bundled_slide(result):
    assert result.scores.auc > 0.8
    assert result.scores.pixels > 50_000
    assert open_ome_zarr(zarr.open_group(result.heatmap, mode="r")) is not None
    assert result.patches.is_file()
    with Image.open(result.overview) as picture:
        assert min(picture.size) > 800


@pytest.mark.slow
def test_the_bundled_models_map_has_the_same_bytes_for_any_batch_readers_and_dask_threads(result, tmp_path):
    with dask.config.set(scheduler="threads", num_workers=1):
        infer_slide([DEMO_SLIDE], tmp_path, settings=InferSettings(), device="cpu", batch_size=3, readers=4)
    left, right = result.heatmap, tmp_path / DEMO_SLIDE.stem / "heatmap.ome.zarr"
    names = [path.relative_to(left) for path in left.rglob("*") if path.is_file()]
    assert len(names) > 20
    assert [name for name in names if not filecmp.cmp(left / name, right / name, shallow=False)] == []


@pytest.mark.slow
def test_where_the_time_went_is_in_the_facts(result):
    facts = json.loads((Path(result.heatmap).parent / "run.json").read_text())
    assert facts["timings"]["in_turn"]["model"] > 0
    assert facts["peak_memory_bytes"]["host"] < 3e9


@pytest.mark.slow
def test_the_first_region_that_the_page_lists_for_the_demo_lies_in_the_pathologists_outline(result):
    (shown,) = find_results(Path(result.heatmap).parent, annotations=DEMO_ANNOTATION)
    opened = Opened(shown)
    first = opened.find("tumour", None)["regions"][0]
    assert shown.annotation.geometry().contains(Point(first["peak_x"], first["peak_y"]))
    assert opened.pixels.jpeg(0, 12, 12)[:2] == b"\xff\xd8"


def test_the_real_pixels_of_the_bundled_slide_lie_where_the_scan_is():
    from wsi_maxmin.grids import Georef
    from wsi_maxmin.readers import open_slide

    with open_slide(DEMO_SLIDE) as slide:
        valid = valid_on_display(Georef.for_display(slide.info.size_px, slide.info.require_mpp()))
        overview = slide.overview(8.0)
    assert valid.mean() == pytest.approx(0.0304, abs=0.001)
    white = (overview > 250).all(axis=2)
    assert white[~valid].mean() > 0.99
    assert np.mean(white[valid]) < 0.2
