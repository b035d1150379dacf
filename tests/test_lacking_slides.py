"""Slides of a run that failed, were interrupted or never begun are named by whatever reads the run, with the reason."""

import json
import shutil

import pytest
from click.testing import CliRunner

from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines.check import check_results
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide
from wsi_maxmin.pipelines.stitch import stitch_results
from wsi_maxmin.slides_csv import read_slides

pytestmark = pytest.mark.usefixtures("one_thread")

RESUME = "run infer-slide on this slide with --resume"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_model, stained, make_pyramid, write_pyramid):
    """Return the folder of a run over a slide, a, a file that is none, b, and one that is not there, c."""
    folder = tmp_path_factory.mktemp("made")
    slides = [write_pyramid(folder / "a.tif", make_pyramid(stained(300, 200), 2)), folder / "b.tif", folder / "c.tif"]
    slides[1].write_text("no slide")
    infer_slide(slides, folder / "out", settings=InferSettings(model=str(tiny_model), engine="torch", precision="fp32"))
    return folder / "out"


@pytest.fixture
def run(made, tmp_path):
    """Return a copy of the run, with two more slides: d was begun, e is only listed."""
    out = shutil.copytree(made, tmp_path / "out")
    (out / "d").mkdir()
    facts = {"status": "running", "settings": {"command": "infer-slide"}, "slide": {"file": "d.tif"}}
    (out / "d" / "run.json").write_text(json.dumps(facts))
    with (out / "slides.csv").open("a") as file:
        file.write("d,/slides/d.tif,,d\ne,/slides/e.tif,,e\n../elsewhere,/slides/f.tif,,f\n")
    return out


def invoke(*arguments, code):
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def set_status(folder, status):
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "status": status}))


def found(run):
    return {check.folder.name: check.findings for check in check_results([run])}


def test_check_names_them_with_reason_and_remedy(run):
    said = invoke("check", run, "--quiet", code=1).stdout.splitlines()
    assert said[0] == "a: good"
    assert [line for line in said if not line.startswith(" ")][1:] == [f"{name}: FAILED" for name in "bcde"]
    checks = found(run)
    whys = {name: checks[name][0].why for name in "bcde"}
    assert whys["b"].startswith("failed: ")
    assert "b.tif is not a readable slide" in whys["b"]
    assert "no such slide" in whys["c"]
    assert whys["d"] == "not finished: status running"
    assert whys["e"] == "not begun: the run has status failed"
    assert {checks[name][0].remedy for name in "bcde"} == {RESUME}


def test_while_a_run_goes_on_its_slides_are_waited_for(run):
    set_status(run, "running")
    assert found(run)["e"][0].why == "not begun: the run has status running"
    assert found(run)["e"][0].remedy == f"if the run does not go on, {RESUME}"


def test_what_was_there_and_is_gone_is_said(run):
    shutil.rmtree(run / "a" / "heatmap.ome.zarr")
    shutil.rmtree(run / "a" / "tilemaps.zarr")
    (lost,) = found(run)["a"]
    assert lost.why == "status done, but its files are gone"
    assert lost.remedy == "run infer-slide on this slide with --overwrite"  # --resume would believe run.json
    shutil.rmtree(run / "a")
    assert found(run)["a"][0].why == "its folder is gone"


def test_an_unfinished_slide_that_has_tile_maps_says_why_it_failed(run):
    facts = json.loads((run / "run.json").read_text())
    facts["slides"][0] |= {"status": "failed", "why": "no room"}
    (run / "run.json").write_text(json.dumps(facts))
    set_status(run / "a", "running")
    (finding,) = [finding for finding in found(run)["a"] if finding.what == "run"]
    assert finding.why == "status running, expected done; failed: no room"
    assert (
        f"a has no finished result; got failed: no room; {RESUME}"
        in invoke("export", run, "--to", "csv", code=2).stderr
    )


@pytest.mark.parametrize("command", [["export", "--to", "csv"], ["review"]])
def test_export_and_review_do_the_others_and_return_1(run, command):
    said = invoke(command[0], run, *command[1:], code=1).stdout
    assert "1 done, 4 failed" in said
    for name in "bcde":
        assert f"{name} has no heatmap; " in said
    assert (run / "a" / ("regions.csv" if command[0] == "export" else "review.csv")).is_file()


@pytest.mark.parametrize("command", [["export", "--to", "csv"], ["review"], ["check"]])
def test_the_folder_of_such_a_slide_says_the_same(run, command):
    for name, why in (("b", "not a readable slide"), ("d", "not finished: status running")):
        said = invoke(command[0], run / name, *command[1:], code=1 if command[0] == "check" else 2).output
        assert why in said
        assert RESUME in said


def test_stitch_leaves_them_out_and_says_so(run, tmp_path):
    said = invoke("stitch", run, "--out", tmp_path / "again", code=0).output
    assert "left out: d has no heatmap; not finished: status running" in " ".join(said.split())
    assert list(read_slides(tmp_path / "again")) == ["a"]
    with pytest.raises(InputError, match="d has no heatmap; not finished"):
        stitch_results([run / "d"], tmp_path / "none")
    with pytest.raises(InputError, match="no tile maps in this folder"):
        stitch_results([tmp_path / "again"], tmp_path / "none")


def test_a_slide_that_stitch_did_not_finish_has_the_remedy_of_stitch(run, tmp_path):
    stitch_results([run / "a"], tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "a" / "heatmap.ome.zarr")
    assert found(tmp_path / "again")["a"][0].remedy == "run stitch with --overwrite"
    set_status(tmp_path / "again" / "a", "running")
    assert found(tmp_path / "again")["a"][0].remedy == "run stitch with --resume"


def test_folders_that_are_no_run_of_heatmaps_hold_none(run, tmp_path):
    nested = run / "stitched"
    stitch_results([run / "a"], nested)
    shutil.rmtree(nested / "a")
    assert "stitched" not in found(run)
    patches = tmp_path / "patches"
    patches.mkdir()
    slides = [{"slide_id": "a", "path": "a.tif", "status": "failed"}]
    (patches / "run.json").write_text(json.dumps({"settings": {"command": "extract-patches"}, "slides": slides}))
    with pytest.raises(InputError, match="no results in this folder"):
        check_results([patches])
