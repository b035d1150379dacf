"""``wsi-maxmin stitch``: what infer-slide has computed, as another map, without slide or model."""

import json
import shutil

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from tests.viewing import find_results
from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.exports._source import ExportSettings
from wsi_maxmin.pipelines._exports import open_source
from wsi_maxmin.pipelines._result import threshold_of
from wsi_maxmin.pipelines.check import check_results
from wsi_maxmin.pipelines.stitch import MapSettings, stitch_results
from wsi_maxmin.slides_csv import read_slides
from wsi_maxmin.tilemaps import TileMaps
from wsi_maxmin.viewer._opened import Opened

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(finished_run):
    """Return the folder of a run over two slides; not to be changed."""
    return finished_run


def level_0(folder):
    return zarr.open_group(folder / "heatmap.ome.zarr", mode="r")["0"][:]


def test_the_same_settings_give_the_same_map_without_slide_or_model(run, tmp_path):
    result = stitch_results([run], tmp_path / "out")
    assert [(outcome.slide_id, outcome.status) for outcome in result.outcomes] == [("a", "done"), ("b", "done")]
    for name in "ab":
        np.testing.assert_array_equal(level_0(tmp_path / "out" / name), level_0(run / name))
        old, new = (
            zarr.open_group(f / name / "heatmap.ome.zarr" / "labels" / "tumour", mode="r") for f in (run, result.out)
        )
        np.testing.assert_array_equal(new["0"][:], old["0"][:])


def test_another_blend_resolution_and_version_are_what_they_say(run, tmp_path):
    settings = MapSettings(blend="max", heatmap_mpp=8, ngff="0.5")
    stitch_results([run / "a"], tmp_path / "out", settings=settings)
    folder = tmp_path / "out" / "a"
    coarse, fine = level_0(folder), level_0(run / "a")
    assert coarse.shape == (4, -(-fine.shape[1] // 4), -(-fine.shape[2] // 4))
    covered = fine[3, ::4, ::4][: coarse.shape[1], : coarse.shape[2]] == 255
    assert (coarse[1][covered].astype(int) + 1 >= fine[1, ::4, ::4][covered]).mean() > 0.95
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["status"], facts["mpp"]) == ("done", 8)
    assert facts["source"]["settings"]["command"] == "infer-slide"


def test_a_finished_stitch_is_refused_skipped_done_anew_or_replaced(run, tmp_path):
    source = shutil.copytree(run / "a", tmp_path / "a")
    stitch_results([source], tmp_path / "out")
    with pytest.raises(OutputExistsError, match="--resume continues it"):
        stitch_results([source], tmp_path / "out")
    assert stitch_results([source], tmp_path / "out", existing="resume").outcomes[0].status == "skipped"
    assert stitch_results([source], tmp_path / "out", existing="overwrite").outcomes[0].status == "done"
    facts = json.loads((source / "run.json").read_text())
    (source / "run.json").write_text(json.dumps(facts | {"slide": {"name": "another"}}))
    assert stitch_results([source], tmp_path / "out", existing="resume").outcomes[0].status == "done"


def test_which_file_each_slide_is_and_how_large_goes_with_it(run, tmp_path):
    """A map at 8 µm a pixel is larger than its slide, by part of a pixel."""
    settings = MapSettings(heatmap_mpp=8)
    stitch_results([run / "b"], tmp_path / "out", settings=settings)
    assert read_slides(tmp_path / "out") == {"b": read_slides(run)["b"]}
    stitch_results([run / "a"], tmp_path / "out", settings=settings, existing="resume")
    assert read_slides(tmp_path / "out") == read_slides(run)
    assert (tmp_path / "out" / "slides.csv").read_bytes() == (run / "slides.csv").read_bytes()
    shown = find_results(tmp_path / "out" / "a")[0]
    assert Opened(shown).size_px == (1000, 700) != Opened(shown).map.span_l0


def test_threshold_and_positive_class_of_the_model_go_with_it(run, tmp_path):
    attributes = zarr.open_group(shutil.copytree(run / "a", tmp_path / "a") / "tilemaps.zarr").attrs
    attributes["spec"] = {**attributes["spec"], "threshold": 0.7, "positive_class": "normal"}
    folder = stitch_results([tmp_path / "a"], tmp_path / "out").out / "a"
    assert (threshold_of(folder), threshold_of(folder, 0.25)) == (0.7, 0.25)
    assert find_results(folder)[0].threshold == 0.7
    assert open_source(folder, folder, ExportSettings()).positive_class == "normal"
    labels = {finding.what: finding for check in check_results([folder]) for finding in check.findings}["labels"]
    assert (labels.status, labels.why) == ("ok", "the tumour channel at its threshold")


def test_a_map_that_an_earlier_version_stitched_does_not_say_its_threshold(run, tmp_path):
    folder = stitch_results([run / "a"], tmp_path / "out").out / "a"
    facts = json.loads((folder / "run.json").read_text())
    later = ("threshold", "positive_class")
    (folder / "run.json").write_text(json.dumps({name: value for name, value in facts.items() if name not in later}))
    with pytest.raises(InputError, match=r"does not say its threshold; give --threshold"):
        threshold_of(folder)
    assert find_results(folder)[0].threshold is None
    assert open_source(folder, folder, ExportSettings()).positive_class == "tumor"


def test_results_apart_from_their_slides_csv_are_stitched_without(run, tmp_path):
    stitch_results([shutil.copytree(run / "a", tmp_path / "a")], tmp_path / "out")
    assert not (tmp_path / "out" / "slides.csv").exists()


def test_unfinished_tile_maps_fail_alone(run, tmp_path):
    for name in "ab":
        shutil.copytree(run / name, tmp_path / "run" / name)
    TileMaps(tmp_path / "run" / "a" / "tilemaps.zarr")._done[:] = False
    result = stitch_results([tmp_path / "run"], tmp_path / "out")
    assert [outcome.status for outcome in result.outcomes] == ["failed", "done"]
    assert "not complete" in result.outcomes[0].why
    assert not (tmp_path / "out" / "a" / "heatmap.ome.zarr").exists()


def test_what_cannot_be_stitched_is_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(InputError, match="no tile maps in this folder"):
        stitch_results([tmp_path], tmp_path / "out")
    with pytest.raises(InputError, match="two results are of a slide of the same name"):
        stitch_results([run / "a", shutil.copytree(run / "a", tmp_path / "other" / "a")], tmp_path / "out")
    with pytest.raises(InputError, match="the output would lie where it is read from"):
        stitch_results([run / "a"], run)
    with pytest.raises(InputError, match="unknown blend"):
        stitch_results([run / "a"], tmp_path / "out", settings=MapSettings(blend="median"))
    with pytest.raises(InputError, match="no such resolution"):
        stitch_results([run / "a"], tmp_path / "out", settings=MapSettings(heatmap_mpp=-1))
    assert not (tmp_path / "out").exists()


def test_the_command_does_it(run, tmp_path):
    out = tmp_path / "out"
    arguments = ["stitch", str(run / "a"), "--blend", "crop", "--heatmap-mpp", "4", "--ngff", "0.5", "--out", str(out)]
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 0, done.output
    assert "a  done" in done.output
    assert dict(zarr.open_group(out / "a" / "heatmap.ome.zarr", mode="r").attrs)["ome"]["version"] == "0.5"
    assert CliRunner().invoke(group, arguments).exit_code == 2
