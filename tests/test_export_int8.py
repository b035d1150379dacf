"""Calibration for int8: what it writes, where it is found, and that no other maps are taken for it."""

import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.test_cohort import Heard
from tests.test_scripted import save as save_scripted
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.cli import group
from wsi_maxmin.engines._choice import disagreement, open_engine
from wsi_maxmin.engines._graphs import cache_folder
from wsi_maxmin.engines._int8 import int8_digest, int8_folder, int8_graph
from wsi_maxmin.errors import InputError, MissingExtraError, OutputExistsError
from wsi_maxmin.pipelines.export_int8 import Agreement, _read_tiles, export_int8
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, slide_result
from wsi_maxmin.progress import Quiet
from wsi_maxmin.slide_inputs import RunSlides, SlideInputs
from wsi_maxmin.slide_model import load_slide_model
from wsi_maxmin.tilemaps import TileMaps

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Keep what is calibrated apart, and share exported graphs, which take long."""
    shared = cache_folder() / "graphs"
    shared.mkdir(exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "graphs").symlink_to(shared)
    monkeypatch.setenv("WSI_MAXMIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def exported(cache, tmp_path, tiny_model, tissue_slide):
    progress = Heard()
    written, agreement = export_int8(str(tiny_model), [tissue_slide], tmp_path / "int8", tiles=9, progress=progress)
    assert progress.said == [agreement.warning]
    return written, agreement


def own_tiles(count=6):
    rng = np.random.default_rng(1)
    return list((np.array([190, 110, 170]) + rng.integers(-20, 21, (count, 64, 64, 3))).astype(np.uint8))


def test_it_writes_graph_description_and_how_well_it_agrees(exported, tiny_model, tmp_path):
    written, agreement = exported
    assert [path.name for path in written] == ["model.xml", "model.bin", "config.json", "int8.json"]
    assert sorted(written) == sorted((tmp_path / "int8").iterdir())
    report = json.loads(written[-1].read_text())
    assert report["calibration"] == {"slides": ["slide"], "tiles": 9}
    assert report["agreement"]["tiles"] == agreement.tiles == 3
    assert report["agreement"]["mean_difference"] == agreement.mean_difference < 0.05
    assert report["model"] == load_checkpoint(tiny_model).fingerprint()
    assert json.loads(written[2].read_text())["patch_size_pixels"] == 64
    assert 'element_type="i8"' in written[0].read_text()


@pytest.mark.parametrize(("tiles", "few"), [(1, True), (19, True), (20, False)])
def test_that_few_tiles_show_little_is_said(tiles, few):
    agreement = Agreement(tiles=tiles, mean_difference=0.0, largest_channel_difference=0.0, dice=1.0, threshold=0.5)
    expected = f"WARNING: so few held-out tiles show little; got {tiles}; expected at least 20; calibrate on slides"
    assert agreement.warning.startswith(expected) == bool(agreement.warning) == few


def test_the_engine_finds_it_and_its_maps_are_nearly_the_model_s(exported, tiny_model):
    model = load_checkpoint(tiny_model)
    tiles = own_tiles()
    exact, rounded = (
        open_engine(model, "openvino", device=CPU, precision=precision, downsample=8) for precision in ("fp32", "int8")
    )
    outputs = rounded.run(tiles)
    assert 0 < disagreement(outputs, exact.run(tiles), 1) < 0.05
    alone = rounded.run(tiles[2:3])
    np.testing.assert_array_equal(alone.masks, outputs.masks[2:3])


def test_infer_slide_uses_it_and_tells_its_maps_from_those_of_another_calibration(
    exported, tiny_model, tissue_slide, tmp_path
):
    out, model = tmp_path / "out", load_checkpoint(tiny_model)
    settings = InferSettings(model=str(tiny_model), precision="int8")
    assert infer_slide([tissue_slide], out, settings=settings).exit_code == 0
    digest = int8_digest(model)
    said = json.loads((out / "slide" / "run.json").read_text())["settings"]
    assert (said["engine"], said["precision"], said["variant"]) == ("openvino", "int8", digest)
    assert TileMaps(slide_result(out, "slide").tilemaps).spec.model.endswith(f"+openvino-int8-{digest}")
    graph = int8_graph(model)
    graph.write_text(graph.read_text() + "\n")
    with pytest.raises(InputError, match="other settings; got --compile or int8 files "):
        infer_slide([tissue_slide], out, settings=settings, existing="resume")


def test_a_model_that_was_never_calibrated_is_refused_before_anything_is_written(
    cache, tiny_model, tissue_slide, tmp_path
):
    settings = InferSettings(model=str(tiny_model), precision="int8")
    with pytest.raises(InputError, match=r"was not calibrated for int8; .* --precision int8 --calibration SLIDE"):
        infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_a_torchscript_classifier_is_calibrated_too(cache, tissue_slide, tmp_path):
    path = save_scripted(tmp_path / "model")
    written, agreement = export_int8(str(path), [tissue_slide], tmp_path / "int8", tiles=6)
    assert agreement.mean_difference < 0.05
    outputs = json.loads(written[2].read_text())["wsi_maxmin"]["outputs"]
    assert outputs == [{"name": "logits", "shape": ["batch", 3]}]
    model = load_slide_model(path)
    tiles = own_tiles()
    exact, rounded = (
        open_engine(model, "openvino", device=CPU, precision=precision, downsample=8).run(tiles)
        for precision in ("fp32", "int8")
    )
    assert disagreement(rounded, exact, 1) < 0.05


def test_tiles_are_spread_over_slides_and_tissue_and_a_small_slide_leaves_more_to_others(
    tiny_model, make_slide, monkeypatch
):
    paths = [make_slide("small", (0, 0, 64, 64)), make_slide("large", (0, 0, 512, 384), seed=1)]
    model = load_checkpoint(tiny_model)
    run = RunSlides(SlideInputs(slides=paths, slide_mpp=0.25), hashed=False, known={})
    tiles = _read_tiles(model, run, 12, Quiet())
    assert len(tiles) == 12
    small = [np.array_equal(tile, tiles[0]) for tile in tiles]
    assert sum(small) == 1
    assert len({tile.tobytes() for tile in tiles}) == 12


def test_an_export_is_replaced_only_when_told(exported, tiny_model, tissue_slide, tmp_path):
    arguments = (str(tiny_model), [tissue_slide], tmp_path / "int8")
    with pytest.raises(OutputExistsError, match=r"model\.xml, model\.bin, config\.json, int8\.json; --overwrite"):
        export_int8(*arguments)
    export_int8(*arguments, tiles=3, overwrite=True)
    kept = int8_folder(load_checkpoint(tiny_model)) / "int8.json"
    assert json.loads(kept.read_text())["calibration"]["tiles"] == 3


def test_without_tissue_or_nncf_nothing_is_kept(cache, tiny_model, make_slide, tmp_path, monkeypatch):
    glass = make_slide("glass")
    with pytest.raises(InputError, match="too little tissue; got 0 tiles; expected 4 or more"):
        export_int8(str(tiny_model), [glass], tmp_path / "int8", slide_mpp=0.25)
    monkeypatch.setitem(sys.modules, "nncf", None)
    slide = make_slide("tissue", (0, 0, 512, 384))
    with pytest.raises(MissingExtraError, match=r"no module nncf; pip install 'wsi-maxmin\[int8\]'"):
        export_int8(str(tiny_model), [slide], tmp_path / "int8", slide_mpp=0.25)
    assert not list((tmp_path / "int8").iterdir())
    assert not int8_folder(load_checkpoint(tiny_model)).exists()


def test_the_command_says_how_well_the_maps_agree(cache, tiny_model, tissue_slide, tmp_path):
    arguments = ["export-model", str(tiny_model), "--to", "openvino", "--out", str(tmp_path / "int8")]
    calibration = ["--calibration", str(tissue_slide), "--tiles", "3"]
    for wrong in (["--precision", "int8"], calibration, ["--precision", "int8", *calibration, "--mpp", "1"]):
        assert CliRunner().invoke(group, [*arguments, *wrong]).exit_code == 2
    done = CliRunner().invoke(group, [*arguments, "--precision", "int8", *calibration])
    assert done.exit_code == 0, done.output
    assert "int8 against fp32 on 1 held-out tiles: " in done.stdout
    assert str(tmp_path / "int8" / "int8.json") in done.stdout


def test_an_agreement_is_told_in_a_line():
    said = Agreement(tiles=5, mean_difference=0.00314, largest_channel_difference=0.0, dice=0.98765, threshold=0.08)
    assert str(said).endswith("5 held-out tiles: Dice 0.9877 at 0.08, mean difference of the map 0.0031")
    assert "nothing called" in str(
        Agreement(tiles=5, mean_difference=0, largest_channel_difference=0, dice=None, threshold=0.5)
    )
