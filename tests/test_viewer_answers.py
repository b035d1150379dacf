"""What the page is told, without a server."""

import gzip
import json
import sys

import numpy as np
import pytest

from tests import viewing
from tests.viewing import find_results
from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.slide_list import hash_slide_id
from wsi_maxmin.viewer._answers import Answers, NotThereError
from wsi_maxmin.viewer._opened import Opened
from wsi_maxmin.viewer._shown import run_facts


@pytest.fixture(scope="module")
def levels(make_pyramid):
    return make_pyramid(viewing.painted(), 3)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, write_pyramid, levels):
    folder = tmp_path_factory.mktemp("result")
    (folder / "xml").mkdir()
    (folder / "xml" / "squares.xml").write_text(viewing.XML)
    viewing.make_result(folder / "run", folder, write_pyramid, levels, names=("squares", "other name"))
    return folder


@pytest.fixture(scope="module")
def answers(run_folder):
    return Answers(find_results(run_folder / "run", annotations=run_folder / "xml"))


def ask(answers, path, **query):
    answer = answers.get(path, query)
    assert isinstance(answer.body, bytes)
    body = gzip.decompress(answer.body) if answer.gzipped else answer.body
    return json.loads(body) if answer.media == "application/json" else body


def test_the_slides_are_listed_and_one_alone_is_shown_at_once(answers, run_folder):
    assert ask(answers, "/api/slides") == {"slides": ["other name", "squares"], "left_out": 0}
    assert answers.get("/", {}).location == "index.html"
    one = Answers(find_results(run_folder / "run" / "other name"))
    assert one.get("/", {}).location == "slide.html?id=other%20name"


def test_a_slide_is_described_with_what_the_page_needs_first(answers):
    about = ask(answers, "/api/slides/squares")
    assert (about["size"], about["mpp"], about["threshold"]) == ([2048, 1536], 0.25, 0.5)
    assert about["slide"] == {"tile": 512, "levels": 3}
    assert about["map"]["channels"] == ["tumour", "uncertainty", "coverage"]
    assert about["map"]["levels"][1] == {"size": [512, 384], "origin": [0, 0], "step": [4, 4]}
    assert (about["tiles"], about["annotation"]) == (True, True)
    assert ["Model", "tiny:0"] in about["facts"]
    assert ask(answers, "/api/slides/other%20name")["annotation"] is False


def test_values_are_the_bytes_of_the_store_and_what_was_seen(answers):
    body = np.frombuffer(ask(answers, "/slides/squares/values/tumour/0/0_0"), np.uint8)
    values, seen = body.reshape(2, 513, 513)
    assert values[128, 128] == round(0.8 * 255)
    assert values[40, 40] == round(0.2 * 255)
    assert (seen[40, 40], seen[10, 10]) == (1, 0)


def test_tiles_of_the_slide_are_jpeg(answers):
    assert ask(answers, "/slides/squares/pixels/0/3_2.jpg")[:2] == b"\xff\xd8"
    assert ask(answers, "/slides/squares/thumbnail.jpg")[:2] == b"\xff\xd8"


def test_the_regions_of_a_threshold_are_listed_highest_first(answers):
    found = ask(answers, "/api/slides/squares/regions/tumour")
    assert found["threshold"] == 0.5
    assert [(r["x"], r["y"], r["width"]) for r in found["regions"]] == [
        (1600, 1100, 64),
        (900, 480, 256),
        (256, 256, 128),
    ]
    assert len(ask(answers, "/api/slides/squares/regions/tumour", threshold="0.85")["regions"]) == 2
    assert ask(answers, "/api/slides/squares/regions/uncertainty")["threshold"] == pytest.approx(0.2, abs=0.01)


def test_a_summary_says_how_much_is_above_the_threshold(answers):
    summary = ask(answers, "/api/slides/squares/summary")
    assert summary["highest"] == 1.0
    assert summary["above_um2"] == pytest.approx((128**2 + 256**2 + 64**2) / 16)


def test_where_nothing_was_looked_at_the_summary_and_the_regions_say_so(tmp_path, write_pyramid, levels):
    run = viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, levels)
    assert ask(Answers(find_results(run)), "/api/slides/squares/regions/tumour")["seen"] is True
    viewing.forget_all_tiles(run / "squares")
    answers = Answers(find_results(run))
    assert ask(answers, "/api/slides/squares/summary")["seen_um2"] == 0
    found = ask(answers, "/api/slides/squares/regions/tumour")
    assert (found["seen"], found["regions"]) == (False, [])


def test_the_tiles_come_by_column_without_logits(answers):
    tiles = ask(answers, "/api/slides/squares/tiles")
    assert sorted(tiles) == ["height", "mask_mean", "posterior_tumor", "uncertainty", "width", "x", "y"]
    assert tiles["posterior_tumor"][0] == 0.25
    assert len(tiles["x"]) == len(tiles["y"]) > 50


def test_the_annotation_comes_as_rings(answers):
    (ring,) = ask(answers, "/api/slides/squares/annotation")
    assert sorted(map(tuple, ring[:-1])) == [(900, 480), (900, 736), (1156, 480), (1156, 736)]
    with pytest.raises(NotThereError):
        answers.get("/api/slides/other%20name/annotation", {})


@pytest.mark.parametrize(
    "path",
    [
        "/nonsense",
        "/js%5cslide.js",
        "/api/slides/..%5csquares",
        "/js",
        "/../pyproject.toml",
        "/js/../slide.html",
        "/%2e%2e/__init__.py",
        "/js%2fslide.js",
        "/api/slides/nobody",
        "/api/slides/..",
        "/api/slides/squares/regions/nonsense",
        "/slides/squares/pixels/0/9_9.jpg",
        "/slides/squares/pixels/x/0_0.jpg",
        "/slides/squares/pixels/0/00.jpg",
        "/slides/squares/values/tumour/0/0_0_0",
        "/store/squares",
        "/store/squares/",
        "/store/squares/heatmap.ome.zarr",
        "/store/squares/heatmap.ome.zarr/0",
        "/store/squares/run.json",
        "/store/squares/tilemaps.zarr/.zattrs",
        "/store/squares/heatmap.ome.zarr/../run.json",
        "/store/squares/heatmap.ome.zarr/%2e%2e/run.json",
        "/store/squares/heatmap.ome.zarr/..%2frun.json",
        "/store/squares/heatmap.ome.zarr/..%5crun.json",
        "/store/squares/heatmap.ome.zarr//etc/passwd",
        "/store/squares/heatmap.ome.zarr/.zattrs%00",
        f"/store/squares/heatmap.ome.zarr/{'a' * 400}",
        "/store/%2fetc/heatmap.ome.zarr/passwd",
    ],
)
def test_what_is_none_of_the_page_or_outside_the_results_is_not_there(answers, path):
    with pytest.raises(NotThereError):
        answers.get(path, {})


@pytest.mark.parametrize("threshold", ["nonsense", "nan", "inf", "-1", "2"])
def test_a_threshold_that_is_none_is_not_there(answers, threshold):
    with pytest.raises(NotThereError):
        answers.get("/api/slides/squares/regions/tumour", {"threshold": threshold})


def test_files_of_the_store_are_there_and_links_out_of_it_are_not(answers, run_folder):
    store = run_folder / "run" / "squares" / "heatmap.ome.zarr"
    assert answers.get("/store/squares/heatmap.ome.zarr/.zattrs", {}).body == store / ".zattrs"
    (store / "out").symlink_to("/etc/passwd")
    try:
        with pytest.raises(NotThereError):
            answers.get("/store/squares/heatmap.ome.zarr/out", {})
    finally:
        (store / "out").unlink()


def test_no_answer_of_a_hashed_run_names_the_slide(tmp_path, write_pyramid, levels):
    secret = "Smith_John_1950"
    run = viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, levels, names=(secret,), hashed=True)
    slide_id = hash_slide_id(secret)
    answers = Answers(find_results(run))
    paths = [f"/api/slides/{slide_id}{rest}" for rest in ("", "/summary", "/tiles", "/regions/tumour")]
    for path in ["/api/slides", *paths]:
        assert secret not in json.dumps(ask(answers, path))
    assert ask(answers, f"/slides/{slide_id}/pixels/2/0_0.jpg")


def test_facts_are_only_those_that_are_listed():
    facts = {
        "settings": {"model": "m", "secret": "patient", "engine": "torch", "precision": "fp32"},
        "slide": {"file": "patient.tif"},
        "mpp": {"requested": None, "slide": 0.25},
        "elapsed_seconds": 12.34,
    }
    assert run_facts(facts) == [
        ("Model", "m"),
        ("Engine", "torch fp32"),
        ("Time", "12.3 s"),
        ("µm a pixel, slide", "0.25"),
    ]
    assert run_facts({"mpp": 1.944}) == [("µm a pixel, heatmap", "1.944")]
    assert run_facts({}) == []


def test_a_moved_slide_leaves_the_map_alone_and_says_so(tmp_path, write_pyramid, levels):
    run = viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, levels)
    (tmp_path / "squares.tif").rename(tmp_path / "moved.tif")
    said = []
    (shown,) = find_results(run, say=said.append)
    assert shown.source is None
    assert "squares: its slide is not there" in said[0]
    answers = Answers([shown])
    about = ask(answers, "/api/slides/squares")
    assert (about["slide"], about["size"]) == (None, [2048, 1536])
    with pytest.raises(NotThereError):
        answers.get("/slides/squares/pixels/0/0_0.jpg", {})
    (shown,) = find_results(run, slide=str(tmp_path / "moved.tif"))
    assert ask(Answers([shown]), "/api/slides/squares")["slide"] is not None


def test_the_slides_of_a_run_may_be_given_by_their_folder(tmp_path, write_pyramid, levels):
    run = viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, levels, names=("a", "b"), hashed=True)
    (tmp_path / "moved").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"{name}.tif").rename(tmp_path / "moved" / f"{name}.tif")
    found = find_results(run, slide=str(tmp_path / "moved"))
    assert {shown.slide_id: shown.source.name for shown in found} == {
        hash_slide_id("a"): "a.tif",
        hash_slide_id("b"): "b.tif",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="a backslash separates folders")
def test_a_slide_whose_name_holds_a_backslash_is_shown(tmp_path, write_pyramid, levels):
    answers = Answers(
        find_results(viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, levels, names=("a\\b",)))
    )
    assert ask(answers, "/api/slides/a%5cb")["id"] == "a\\b"
    assert ask(answers, "/slides/a%5cb/pixels/2/0_0.jpg")[:2] == b"\xff\xd8"
    assert answers.get("/store/a%5cb/heatmap.ome.zarr/.zattrs", {}).body.is_file()


def test_another_slide_than_the_maps_is_refused(tmp_path, run_folder, stained, write_pyramid):
    other = write_pyramid(tmp_path / "other.tif", [stained(600, 500)])
    (shown,) = find_results(run_folder / "run" / "squares", slide=str(other))
    with pytest.raises(
        InputError, match="not the slide of the heatmap of squares; got 600 × 500 px; expected about 2048"
    ):
        Opened(shown)
    (shown,) = find_results(run_folder / "run" / "squares", slide=str(tmp_path / "missing.tif"))
    with pytest.raises(SlideError, match="no such slide"):
        Opened(shown)


def test_a_heatmap_that_was_stitched_elsewhere_is_shown_by_what_its_store_says(tmp_path, run_folder):
    (tmp_path / "squares").mkdir()
    store = run_folder / "run" / "squares" / "heatmap.ome.zarr"
    (tmp_path / "squares" / "heatmap.ome.zarr").symlink_to(store)
    (tmp_path / "squares" / "run.json").write_text('{"status": "done"}')
    answers = Answers(find_results(tmp_path / "squares"))
    about = ask(answers, "/api/slides/squares")
    assert (about["size"], about["threshold"], about["tiles"]) == ([2048, 1536], None, False)
    assert ask(answers, "/api/slides/squares/regions/tumour")["threshold"] == 0.5


def test_nothing_to_show_and_one_annotation_for_several_are_refused(tmp_path, run_folder):
    with pytest.raises(InputError, match="no heatmap in this folder"):
        find_results(tmp_path)
    with pytest.raises(InputError, match="one annotation for several slides"):
        find_results(run_folder / "run", annotations=run_folder / "xml" / "squares.xml")
