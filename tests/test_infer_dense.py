"""infer-slide in dense mode: the same files, resumed to the byte, refused where it cannot be."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from tests.conftest import contents
from wsi_maxmin import dense as module
from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, slide_result
from wsi_maxmin.pipelines.plan_heatmaps import plan_heatmaps
from wsi_maxmin.tilemaps import TileMaps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def settings(tiny_model):
    return InferSettings(model=str(tiny_model), engine="torch", precision="fp32", mode="dense", dense_context=1)


def test_a_slide_gets_the_windows_of_tile_mode_and_says_how_it_was_run(tmp_path, tissue_slide, settings):
    infer_slide([tissue_slide], tmp_path / "tile", settings=replace(settings, mode="tile"))
    infer_slide([tissue_slide], tmp_path / "dense", settings=settings)
    tile, dense = (slide_result(tmp_path / name, "slide") for name in ("tile", "dense"))
    one, other = TileMaps(tile.tilemaps), TileMaps(dense.tilemaps)
    np.testing.assert_array_equal(other.grid.keep, one.grid.keep)
    assert other.spec.model == f"{one.spec.model}+dense1"
    assert dense.facts["settings"]["mode"] == "dense"
    assert "mode" not in tile.facts["settings"]  # as runs of earlier versions have it
    assert {"model", "windows", "write maps"} <= set(dense.facts["timings"]["in_turn"])
    assert dense.facts["device_busy_share"] > 0
    assert module.GROUP not in zarr.open_group(dense.tilemaps, mode="r")


def test_an_interruption_leaves_no_trace(tmp_path, tissue_slide, settings, monkeypatch):
    monkeypatch.setattr(module, "_REGIONS_A_CHUNK", 1)
    infer_slide([tissue_slide], tmp_path / "whole", settings=settings)
    write, left = module.RegionMaps.write, iter(range(1))

    def interrupted(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module.RegionMaps, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    assert infer_slide([tissue_slide], tmp_path / "out", settings=settings, existing="resume").exit_code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_maps_of_the_modes_are_not_mixed(tmp_path, tissue_slide, settings):
    infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    for other in (replace(settings, mode="tile"), replace(settings, dense_context=2)):
        with pytest.raises(InputError, match=r"was started with other settings; got .*--mode dense --dense-context"):
            infer_slide([tissue_slide], tmp_path / "out", settings=other, existing="resume")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overlap": 0.75}, r"stride of 16 px, and cells of 32 px.*--overlap 0.5, 0"),
        ({"engine": "onnx"}, "onnx has no dense mode"),
        ({"compile": True}, "dense mode does not run so; got --compile"),
        ({"precision": "int8", "engine": "openvino"}, "dense mode does not run so; got --precision int8"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(tmp_path, tissue_slide, settings, change, message):
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match=message):
        infer_slide([tissue_slide], tmp_path / "out", settings=replace(settings, **change))
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_workers_do_not_run_it(tmp_path, tissue_slide, settings):
    with pytest.raises(InputError, match="dense mode is run by one process; got --scheduler processes"):
        infer_slide([tissue_slide], tmp_path / "out", settings=settings, scheduler="processes")


def test_a_dry_run_expects_the_time_of_regions(tissue_slide, settings):
    (dense,) = plan_heatmaps([tissue_slide], settings=settings).slides
    (tile,) = plan_heatmaps([tissue_slide], settings=replace(settings, mode="tile")).slides
    assert dense.number == tile.number
    assert dense.seconds > 0


def test_the_command_runs_it(tmp_path, tissue_slide, tiny_model):
    arguments = ["infer-slide", str(tissue_slide), "--model", str(tiny_model), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(group, [*arguments, "--mode", "dense", "--dense-context", "0", "--engine", "torch"])
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "out" / "slide" / "run.json").read_text())
    assert facts["settings"]["dense_context"] == 0
