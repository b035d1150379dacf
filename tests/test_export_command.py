"""``wsi-maxmin export`` and ``infer-slide --export``: finished results only, whole files only, no forward pass."""

import json
import shutil

import pytest
from click.testing import CliRunner

from tests.conftest import contents
from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError
from wsi_maxmin.exports import plugins
from wsi_maxmin.pipelines.export import ExportSettings, export_results
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide
from wsi_maxmin.pipelines.stitch import stitch_results

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(finished_run):
    """Return the folder of a run over two slides; not to be changed."""
    return finished_run


@pytest.fixture
def own_run(run, tmp_path):
    """Return a copy of the run, to be changed."""
    return shutil.copytree(run, tmp_path / "run")


def invoke(*arguments, code=0):
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_a_run_is_exported_beside_its_heatmaps_or_elsewhere(own_run, tmp_path):
    assert "2 done" in invoke("export", own_run, "--to", "geojson,csv").output
    invoke("export", own_run / "a", "--to", ",".join(plugins.names()), "--out", tmp_path / "out")
    assert (own_run / "b" / "regions.geojson").is_file()
    for name in ("regions.geojson", "tiles.csv"):
        assert (tmp_path / "out" / "a" / name).read_bytes() == (own_run / "a" / name).read_bytes()
    assert str(tmp_path / "out" / "a" / "qupath") in (tmp_path / "out" / "a" / "qupath" / "load.groovy").read_text()
    assert not list(tmp_path.rglob("*.partial"))


def test_an_export_is_refused_completed_or_replaced(own_run):
    place = own_run / "a"
    export_results([place], ["geojson"])
    (place / "tiles.geojson").write_text("old")
    refused = export_results([place], ["png", "geojson"])
    assert "--overwrite replaces it, --resume writes what is missing" in refused.outcomes[0].why
    assert not (place / "tumour.png").exists()
    resumed = export_results([place], ["png", "geojson"], existing="resume")
    assert resumed.outcomes[0].status == "done"
    assert (place / "tumour.png").exists()
    assert (place / "tiles.geojson").read_text() == "old"
    assert export_results([place], ["png"], existing="resume").outcomes[0].status == "skipped"
    export_results([place], ["geojson"], existing="overwrite")
    assert json.loads((place / "tiles.geojson").read_text())["features"]


def test_an_export_that_fails_leaves_nothing_half_written(own_run, monkeypatch):
    def fail(source, folder):
        (folder / "regions.geojson").write_text("half")
        raise OSError("no space")

    monkeypatch.setattr("wsi_maxmin.exports.geojson.write", fail)
    result = export_results([own_run], ["geojson"])
    assert [outcome.status for outcome in result.outcomes] == ["failed", "failed"]
    assert "no space" in result.outcomes[0].why
    assert not list(own_run.rglob("*.geojson"))
    assert not list(own_run.rglob("*.partial"))


def test_an_unfinished_result_fails_alone(own_run):
    facts = json.loads((own_run / "a" / "run.json").read_text())
    (own_run / "a" / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    result = export_results([own_run], ["csv"])
    assert [outcome.status for outcome in result.outcomes] == ["failed", "done"]
    assert "a has no finished result" in result.outcomes[0].why


def test_what_cannot_be_exported_is_refused_before_anything_is_written(own_run, tmp_path):
    with pytest.raises(InputError, match="no heatmaps in this folder"):
        export_results([tmp_path / "nothing"], ["csv"])
    with pytest.raises(InputError, match=r"unknown export; got 'geojsn'; .* did you mean geojson"):
        export_results([own_run], ["csv", "geojsn"])
    with pytest.raises(InputError, match="no format"):
        export_results([own_run], [])
    with pytest.raises(InputError, match="threshold is out of range"):
        export_results([own_run], ["csv"], settings=ExportSettings(threshold=1.5))
    assert not list(own_run.rglob("regions.csv"))
    assert "expected some of" in invoke("export", own_run, "--to", "csv,pdf", code=2).stderr
    assert "expected CLASS=NAME" in invoke("export", own_run, "--to", "csv", "--class-names", "tumor", code=2).stderr
    said = invoke("export", own_run, "--to", "csv", "--class-names", "x=y", "--out", tmp_path / "new", code=2).stderr
    assert said == "error: the model has no such class; got x; expected one of normal, tumor\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [["export", "--to", "csv"], ["review"]])
def test_an_out_that_cannot_be_written_to_is_refused_once(own_run, tmp_path, command):
    (tmp_path / "file").write_text("")
    for out, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "x", "Not a directory")):
        said = invoke(command[0], own_run, *command[1:], "--out", out, code=2)
        assert said.stderr == (
            f"error: cannot write there; got {out} ({why}); "
            "expected a folder, or the name of a new one where you may write; give another --out\n"
        )
        assert said.stdout == ""


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["export", "--to", "csv"], "--min-area-um2"),
        (["export", "--to", "csv"], "--threshold"),
        (["review"], "--side-um"),
        (["stitch", "--out", "out"], "--heatmap-mpp"),
        (["evaluate-slides", "--reference", "list.csv"], "--radius-um"),
        (["infer-slide", "--out", "out"], "--overlap"),
        (["infer-slide", "--out", "out"], "--min-tissue"),
    ],
)
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_that_is_none_is_refused(command, option, value):
    said = invoke(command[0], "nowhere", *command[1:], option, value, code=2).stderr
    assert f"Invalid value for '{option}'" in said
    assert "finite number" in said or "not in the range" in said


@pytest.mark.parametrize("area", [-1.0, float("nan"), float("inf")])
def test_a_least_area_that_is_none_is_refused_from_python_too(own_run, area):
    with pytest.raises(InputError, match="the least area is out of range"):
        export_results([own_run], ["csv"], settings=ExportSettings(min_area_um2=area))


def test_threshold_least_area_and_names_reach_the_regions(own_run):
    options = ["--threshold", 0.01, "--min-area-um2", 500, "--class-names", "tumor=Metastasis"]
    invoke("export", own_run / "a", "--to", "geojson", *options)
    found = json.loads((own_run / "a" / "regions.geojson").read_text())["features"]
    assert found
    for feature in found:
        assert feature["properties"]["classification"]["name"] == "Metastasis"
        assert feature["properties"]["measurements"]["Map area µm^2"] >= 500


def test_a_heatmap_that_was_stitched_again_is_exported_without_tiles(run, tmp_path):
    stitch_results([run / "a"], tmp_path / "mean")
    said = invoke("export", tmp_path / "mean", "--to", ",".join(plugins.names())).output
    assert "csv, geojson, qupath: regions and no tiles of a: stitch leaves the tiles" in " ".join(said.split())
    assert "no tiles" not in invoke("export", tmp_path / "mean", "--to", "png", "--overwrite").output
    assert (tmp_path / "mean" / "a" / "heatmap.ome.tif").is_file()
    assert not (tmp_path / "mean" / "a" / "tiles.geojson").exists()
    export_results([run / "a"], ["geojson"], out=tmp_path / "out")
    assert (tmp_path / "mean" / "a" / "regions.geojson").read_bytes() == (
        tmp_path / "out" / "a" / "regions.geojson"
    ).read_bytes()


def test_infer_slide_exports_and_adds_what_is_missing_without_a_forward_pass(
    tmp_path, tissue_slide, tiny_model, monkeypatch
):
    out = tmp_path / "out"
    options = [
        "infer-slide",
        tissue_slide,
        "--model",
        tiny_model,
        "--out",
        out,
        "--engine",
        "torch",
        "--precision",
        "fp32",
    ]
    assert "expected some of" in invoke(*options, "--export", "geojsons", code=2).stderr
    assert not out.exists()
    invoke(*options, "--export", "geojson")
    before = contents(out)
    assert {"slide/regions.geojson", "slide/tiles.geojson"} <= set(before)
    monkeypatch.setattr("wsi_maxmin.pipelines.infer_slide.infer_one", None)
    invoke(*options, "--resume", "--export", "geojson,ome-tiff")
    after = contents(out)
    assert set(after) - set(before) == {"slide/heatmap.ome.tif"}
    assert {name: after[name] for name in before} == before
    assert "skipped" in invoke(*options, "--resume", "--export", "geojson,ome-tiff").output


def test_exports_go_when_their_heatmap_is_made_anew(tmp_path, tissue_slide, tiny_model):
    settings = InferSettings(model=str(tiny_model), engine="torch", precision="fp32")
    infer_slide([tissue_slide], tmp_path / "out", settings=settings, exports=["geojson", "qupath"])
    other = InferSettings(model=str(tiny_model), engine="torch", precision="fp32", blend="mean")
    infer_slide([tissue_slide], tmp_path / "out", settings=other, existing="resume")
    assert not list((tmp_path / "out").rglob("*.geojson"))
