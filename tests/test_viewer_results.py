"""Which slides of a result are shown, and which files are taken for them."""

import re

import pytest

from tests import viewing
from tests.viewing import find_results
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._finished import finished_slides, tell_left_out


@pytest.fixture(scope="module")
def levels(make_pyramid):
    return make_pyramid(viewing.painted(), 3)


@pytest.fixture
def run(tmp_path, write_pyramid, levels):
    """A whole run of two slides."""
    run = viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, levels, names=("a", "b"))
    viewing.mark(run, status="done", settings={"command": "infer-slide"}, slides=[outcome("a"), outcome("b")])
    return run


def outcome(slide_id, status="done", why=""):
    return {"slide_id": slide_id, "path": f"/x/{slide_id}.tif", "status": status, "why": why}


def list_more(run, *names):
    with (run / "slides.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{name},/x/{name}.tif,,{name}\n" for name in names)


def test_a_whole_run_leaves_nothing_out(run):
    finished, said = finished_slides(run), []
    tell_left_out(finished, said.append)
    assert ([folder.name for folder in finished.folders], finished.left_out, said) == (["a", "b"], 0, [])


def test_slides_that_failed_or_are_not_finished_are_left_out_by_name(run):
    viewing.mark(run, slides=[outcome("a"), outcome("c", "failed", "no such slide")])
    viewing.mark(run / "b", status="running")
    list_more(run, "c", "d")
    finished, said = finished_slides(run), []
    tell_left_out(finished, said.append)
    assert [folder.name for folder in finished.folders] == ["a"]
    assert said == ["1 of 4 slides are shown; failed: c; no finished result: b, d"]
    assert [shown.slide_id for shown in find_results(run)] == ["a"]


def test_of_many_slides_the_first_are_named(run):
    list_more(run, *(f"s{number}" for number in range(9)))
    assert finished_slides(run).describe_left_out() == "no finished result: s0, s1, s2, s3, s4, …"


def test_a_heatmap_without_its_run_json_is_not_finished(run):
    (run / "b" / "run.json").unlink()
    assert [shown.slide_id for shown in find_results(run)] == ["a"]


@pytest.mark.parametrize("command", ["infer-slide", "stitch"])
def test_one_result_that_is_not_finished_is_refused_with_what_finishes_it(run, command):
    viewing.mark(run / "a", status="running", settings={"command": command})
    with pytest.raises(InputError, match=f"a has no finished result; got .*; finish it by {command} --resume"):
        find_results(run / "a")


def test_one_result_that_failed_is_refused_with_its_reason(run):
    viewing.mark(run, slides=[outcome("a", "failed", "the disk is full"), outcome("c", "failed", "no such slide")])
    viewing.mark(run / "a", status="running")
    for name, why in (("a", "the disk is full"), ("c", "no such slide")):  # c has no folder: it could not be opened
        with pytest.raises(InputError, match=f"{name} failed; got {why}; finish it by infer-slide --resume"):
            find_results(run / name)


def test_a_run_without_a_finished_slide_is_refused(run):
    for name in ("a", "b"):
        viewing.mark(run / name, status="running")
    viewing.mark(run, slides=[outcome("a", "failed", "bad")])
    says = "no slide of this run is finished; got failed: a; no finished result: b; finish it by infer-slide --resume"
    with pytest.raises(InputError, match=re.escape(says)):
        find_results(run)


def test_a_folder_of_patches_has_no_heatmap(tmp_path):
    viewing.mark(tmp_path, status="done", settings={"command": "extract-patches"}, slides=[outcome("a")])
    with pytest.raises(InputError, match="no heatmap in this folder"):
        find_results(tmp_path)


def test_slides_that_the_list_does_not_name_are_where_slides_csv_says(run, tmp_path):
    (tmp_path / "moved.tif").write_bytes((tmp_path / "a.tif").read_bytes())
    (tmp_path / "list.csv").write_text("slide,slide_id\nmoved.tif,a\n")
    said = []
    sources = {
        shown.slide_id: shown.source.name
        for shown in find_results(run, slide=str(tmp_path / "list.csv"), say=said.append)
    }
    assert (sources, said) == ({"a": "moved.tif", "b": "b.tif"}, [])
    (one,) = find_results(run / "a", slide=str(tmp_path / "list.csv"))
    assert one.source.name == "moved.tif"


def test_a_path_that_gives_a_run_no_slide_is_refused(run, tmp_path):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "x.tif").write_bytes(b"")
    (tmp_path / "others" / "y.tif").write_bytes(b"")
    for given, says in (
        ("missing", "no such slides; got .*missing; expected a folder of its slides, or a CSV list of them; check"),
        ("a.tif", "one slide for several heatmaps; got .*a.tif; expected a folder .*; or view one heatmap"),
        (
            "others",
            "holds none of the slides of the heatmaps; got x and 1 more in .*; expected a and 1 more; name them",
        ),
    ):
        with pytest.raises(InputError, match=says):
            find_results(run, slide=str(tmp_path / given))
    with pytest.raises(InputError, match="one slide for several heatmaps"):
        find_results(run, slide="https://example.org/a.tif")


def test_groups_of_unknown_meaning_are_drawn_as_the_user_says(run, tmp_path):
    (tmp_path / "a.xml").write_text(viewing.XML.replace('"Tumor"', '"None"'))
    with pytest.raises(InputError, match="--group"):
        find_results(run / "a", annotations=tmp_path / "a.xml")
    (shown,) = find_results(run / "a", annotations=tmp_path / "a.xml", groups={"None": "tumour"})
    assert shown.annotation.geometry().area == 256**2
