import filecmp
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image

from tests.test_extract_options import Listener
from wsi_maxmin.checkpoint import Checkpoint, save_checkpoint, state_of
from wsi_maxmin.config import RunConfig
from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.models import build_model
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, slide_result
from wsi_maxmin.sinks import picture
from wsi_maxmin.tilemaps import TileMaps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def settings(tiny_model):
    return InferSettings(engine="torch", precision="fp32", model=str(tiny_model), slide_mpp=None)


def same_files(left, right):
    names = sorted(path.relative_to(left) for path in left.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(right) for path in right.rglob("*") if path.is_file())
    return [name for name in names if not filecmp.cmp(left / name, right / name, shallow=False)]


def test_a_slide_gets_map_tiles_table_picture_and_facts(tmp_path, tissue_slide, settings):
    result = infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    assert result.exit_code == 0
    folder = slide_result(tmp_path / "out", "slide").folder
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "done"
    assert facts["tiles"] == facts["tiles_run"] == len(pd.read_parquet(folder / "tiles.parquet"))
    assert facts["mpp"] == {"requested": 0.25, "slide": 0.25, "effective": 0.25}
    timings = facts["timings"]
    assert {"open", "tissue", "wait for tiles", "model", "heatmap", "table", "picture"} <= set(timings["in_turn"])
    assert set(timings["summed_over_threads"]) == {"read", "decode", "write maps", "stitch", "write"}
    assert 0 < timings["on_device"]["computing"] <= timings["in_turn"]["model"]
    assert 0.8 * facts["elapsed_seconds"] < sum(timings["in_turn"].values()) <= facts["elapsed_seconds"]
    assert facts["device_busy_share"] == pytest.approx(
        timings["on_device"]["computing"] / facts["elapsed_seconds"], abs=1e-3
    )
    assert facts["tiles_per_second"] > 0
    assert facts["peak_memory_bytes"]["host"] > 1e7
    assert facts["peak_memory_bytes"]["device"] is None
    group = zarr.open_group(folder / "heatmap.ome.zarr", mode="r")
    coverage = group["0"][3]
    assert group["0"].shape == (4, 88, 125)
    assert (coverage[16:64, 32:96] == 255).all()
    assert (coverage[:, 110:] == 0).all()
    with Image.open(folder / "overview.png") as picture:
        assert min(picture.size) > 400


def test_batches_readers_and_an_interruption_change_no_byte_of_the_result(tmp_path, tissue_slide, settings):
    infer_slide([tissue_slide], tmp_path / "a", settings=settings, batch_size=1, readers=1)
    infer_slide([tissue_slide], tmp_path / "b", settings=settings, batch_size=7, readers=3)
    done = tmp_path / "b" / "slide"
    maps = TileMaps(done / "tilemaps.zarr")
    maps.mask[:64], maps._done[:64] = 0, False
    facts = json.loads((done / "run.json").read_text())
    (done / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    infer_slide([tissue_slide], tmp_path / "b", settings=settings, existing="resume", batch_size=3)
    assert json.loads((done / "run.json").read_text())["tiles_run"] == 64
    assert [str(name) for name in same_files(tmp_path / "a" / "slide", done)] == ["run.json"]


def test_a_finished_slide_is_refused_then_skipped_then_replaced(tmp_path, tissue_slide, settings):
    out = tmp_path / "out"
    infer_slide([tissue_slide], out, settings=settings)
    with pytest.raises(OutputExistsError, match="--resume continues it, --overwrite replaces it"):
        infer_slide([tissue_slide], out, settings=settings)
    assert infer_slide([tissue_slide], out, settings=settings, existing="resume").outcomes[0].status == "skipped"
    assert infer_slide([tissue_slide], out, settings=settings, existing="overwrite").outcomes[0].status == "done"


def test_other_settings_are_not_mixed_into_a_run(tmp_path, tissue_slide, settings, tiny_model):
    infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    with pytest.raises(InputError, match=r"other settings; got --overlap 0\.0; expected --overlap 0\.5"):
        infer_slide(
            [tissue_slide],
            tmp_path / "out",
            settings=InferSettings(engine="torch", precision="fp32", model=str(tiny_model), overlap=0.0),
            existing="resume",
        )


def test_a_slide_left_by_an_interrupted_overwrite_is_done_again(tmp_path, tissue_slide, settings, tiny_model):
    other = tissue_slide.with_name("other.tif")
    other.write_bytes(tissue_slide.read_bytes())
    quarter = InferSettings(engine="torch", precision="fp32", model=str(tiny_model), overlap=0.25)
    infer_slide([tissue_slide, other], tmp_path / "out", settings=settings)
    infer_slide([tissue_slide], tmp_path / "out", settings=quarter, existing="overwrite")
    result = infer_slide([tissue_slide, other], tmp_path / "out", settings=quarter, existing="resume")
    assert [outcome.status for outcome in result.outcomes] == ["skipped", "done"]
    assert slide_result(tmp_path / "out", "other").facts["settings"]["overlap"] == 0.25


def test_tile_maps_of_another_file_of_the_same_name_are_not_taken_over(tmp_path, tissue_slide, settings):
    infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    (tmp_path / "out" / "slide" / "run.json").unlink()
    with tissue_slide.open("ab") as file:
        file.write(b"other")
    infer_slide([tissue_slide], tmp_path / "out", settings=settings, existing="resume")
    facts = slide_result(tmp_path / "out", "slide").facts
    assert facts["tiles_run"] == facts["tiles"] > 0


def test_another_blend_is_stitched_again_without_a_forward_pass(tmp_path, tissue_slide, settings, tiny_model):
    infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    mean = InferSettings(engine="torch", precision="fp32", model=str(tiny_model), blend="mean")
    infer_slide([tissue_slide], tmp_path / "out", settings=mean, existing="resume")
    facts = slide_result(tmp_path / "out", "slide").facts
    assert (facts["tiles_run"], facts["settings"]["blend"]) == (0, "mean")


def test_an_unknown_blend_is_refused_before_any_tile_is_run(tmp_path, tissue_slide, tiny_model):
    with pytest.raises(InputError, match="unknown blend; got 'nonsense'; expected one of crop, gauss, hann, max, mean"):
        infer_slide(
            [tissue_slide],
            tmp_path / "out",
            settings=InferSettings(engine="torch", precision="fp32", model=str(tiny_model), blend="nonsense"),
        )
    assert not (tmp_path / "out").exists()


def test_a_model_without_class_scores_is_refused_before_any_tile_is_run(tmp_path, tissue_slide):
    config = RunConfig.model_validate({"name": "plain", "model": {"name": "unet", "params": {"width": 2}}})
    weights = state_of(build_model(config.model, 2))
    path = tmp_path / "unet.safetensors"
    save_checkpoint(path, Checkpoint(config=config, weights=weights, epoch=1, metrics={}, optimizer={}, facts={}))
    with pytest.raises(InputError, match="cannot be run over slides; got plain; it gives no class scores"):
        infer_slide(
            [tissue_slide], tmp_path / "out", settings=InferSettings(engine="torch", precision="fp32", model=str(path))
        )
    assert not (tmp_path / "out").exists()


def test_one_bad_slide_does_not_stop_the_others(tmp_path, tissue_slide, settings):
    bad = tmp_path / "bad.svs"
    bad.write_text("not a slide")
    result = infer_slide([bad, tissue_slide], tmp_path / "out", settings=settings)
    assert [outcome.status for outcome in result.outcomes] == ["failed", "done"]
    assert "bad.svs is not a readable slide" in result.outcomes[0].why
    assert result.exit_code == 1
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"


def test_a_slide_without_tissue_gets_an_empty_map(tmp_path, settings, stained, write_pyramid):
    glass = write_pyramid(tmp_path / "glass.tif", [stained(300, 300)])
    listener = Listener()
    assert infer_slide([glass], tmp_path / "out", settings=settings, progress=listener).exit_code == 0
    assert "glass: WARNING: no tile with enough tissue: nothing was looked at" in listener.said
    group = zarr.open_group(tmp_path / "out" / "glass" / "heatmap.ome.zarr", mode="r")
    assert not group["0"][:].any()


def test_a_finer_slide_is_read_at_the_models_resolution(tmp_path, settings, stained, make_pyramid, write_pyramid):
    path = write_pyramid(tmp_path / "fine.tif", make_pyramid(stained(1200, 900, (300, 300, 600, 450)), 3), mpp=0.11)
    infer_slide([path], tmp_path / "out", settings=settings)
    facts = slide_result(tmp_path / "out", "fine").facts
    assert facts["mpp"] == {"requested": 0.25, "slide": pytest.approx(0.11), "effective": 0.25}
    grid = TileMaps(tmp_path / "out" / "fine" / "tilemaps.zarr").grid
    assert (grid.box(0, 1).x, grid.box(0, 0).width) == (round(32 * 0.25 / 0.11), round(64 * 0.25 / 0.11))


def test_the_heatmap_lies_on_the_tissue(tmp_path, tissue_slide, settings):
    infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    labels = zarr.open_group(tmp_path / "out" / "slide" / "heatmap.ome.zarr" / "labels" / "tumour", mode="r")["0"][:]
    rows, columns = np.nonzero(labels)
    edges_l0 = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 8
    assert np.abs(edges_l0 - [256, 128, 768, 512]).max() <= 64


def test_what_was_chosen_by_timing_is_kept_and_holds_for_the_rest_of_the_run(
    tmp_path, tissue_slide, tiny_model, monkeypatch
):
    out, auto = tmp_path / "out", InferSettings(model=str(tiny_model))
    infer_slide([tissue_slide], out, settings=auto)
    chosen = json.loads((out / "run.json").read_text())["settings"]
    assert chosen["engine"] == "torch"  # nothing is exported for so short a run
    assert chosen["precision"] in ("fp32", "bf16")
    monkeypatch.setattr("wsi_maxmin.pipelines._engine._tiles", None)  # nothing is timed again
    assert infer_slide([tissue_slide], out, settings=auto, existing="resume").outcomes[0].status == "skipped"
    other = InferSettings(model=str(tiny_model), engine="onnx")
    with pytest.raises(InputError, match="other settings; got --engine onnx; expected --engine torch"):
        infer_slide([tissue_slide], out, settings=other, existing="resume")


def test_tile_maps_of_another_engine_are_not_continued(tmp_path, tissue_slide, settings, tiny_model):
    infer_slide([tissue_slide], tmp_path / "out", settings=settings)
    (tmp_path / "out" / "slide" / "run.json").unlink()
    (tmp_path / "out" / "run.json").unlink()
    shutil.copytree(tmp_path / "out" / "slide" / "tilemaps.zarr", tmp_path / "other" / "slide" / "tilemaps.zarr")
    run_file = {"status": "interrupted", "settings": {}}
    onnx = InferSettings(model=str(tiny_model), engine="onnx")
    result = infer_slide([tissue_slide], tmp_path / "fresh", settings=onnx)
    settings_of_it = json.loads((result.out / "run.json").read_text())["settings"]
    (tmp_path / "other" / "run.json").write_text(json.dumps(run_file | {"settings": settings_of_it}))
    infer_slide([tissue_slide], tmp_path / "other", settings=onnx, existing="resume")
    facts = slide_result(tmp_path / "other", "slide").facts
    assert facts["tiles_run"] == facts["tiles"] > 0
    assert TileMaps(tmp_path / "other" / "slide" / "tilemaps.zarr").spec.model.endswith("+onnx-fp32")


def test_an_engine_that_is_none_is_refused_before_anything_is_written(tmp_path, tissue_slide, tiny_model):
    for wrong in ({"engine": "tensorrt"}, {"precision": "fp16", "engine": "torch"}):
        with pytest.raises(InputError, match=r"unknown engine|cannot run so"):
            infer_slide(
                [tissue_slide], tmp_path / "out", settings=InferSettings(model=str(tiny_model), **wrong), device="cpu"
            )
    assert not (tmp_path / "out").exists()


def test_without_a_slide_that_opens_there_is_nothing_to_time(tmp_path, tiny_model):
    bad = tmp_path / "bad.svs"
    bad.write_text("not a slide")
    result = infer_slide([bad], tmp_path / "out", settings=InferSettings(model=str(tiny_model)))
    assert [outcome.status for outcome in result.outcomes] == ["failed"]


def test_an_annotation_is_drawn_in_the_picture_and_decides_nothing(tmp_path, tissue_slide, settings, monkeypatch):
    drawn, plain = [], picture.write
    monkeypatch.setattr(picture, "write", lambda *args, **kw: (drawn.append(kw["outline"]), plain(*args, **kw)))
    square = {"type": "Polygon", "coordinates": [[[300, 200], [500, 200], [500, 400], [300, 400], [300, 200]]]}
    feature = {"type": "Feature", "properties": {"classification": {"name": "Lesion"}}, "geometry": square}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "slide.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    infer_slide([tissue_slide], tmp_path / "a", settings=settings)
    annotated = {"annotations": tmp_path / "annotations", "groups": {"Lesion": "tumour"}}
    infer_slide([tissue_slide], tmp_path / "b", settings=settings, **annotated)
    assert drawn[0] is None
    assert drawn[1].area == 200 * 200
    changed = {str(name) for name in same_files(tmp_path / "a" / "slide", tmp_path / "b" / "slide")}
    assert changed == {"overview.png", "run.json"}
