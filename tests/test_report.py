"""What a report says of each kind of folder, and what it refuses."""

import base64
import io
import json
import re
import shutil
from html import unescape

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests import reporting
from tests.test_evaluate_slides import PLAIN, made, options  # noqa: F401
from tests.test_evaluate_slides import invoke as evaluate
from tests.test_run_results import COMMITTED
from tests.viewing import find_results
from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.pipelines.report import kind_of, write_report
from wsi_maxmin.pipelines.stitch import MapSettings, stitch_results
from wsi_maxmin.reports import plugins
from wsi_maxmin.reports._about import MOST_ROWS, duration
from wsi_maxmin.reports._pictures import BUDGET_BYTES, MOST_BYTES, share_of, shrink
from wsi_maxmin.viewer._answers import Answers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(finished_run, tiny_model, tmp_path_factory):
    return reporting.hostile_run(finished_run, tiny_model, tmp_path_factory.mktemp("heatmaps"))


@pytest.fixture(scope="module")
def scored(made, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("scored") / "scores"
    evaluate(*options(made), *PLAIN, "--out", out)
    return out


@pytest.fixture
def report(tmp_path):
    def write(folder, **asked):
        return write_report(folder, **{"out": tmp_path / "out" / "report.html", "overwrite": True, **asked}).read_text()

    return write


def command(*arguments):
    return CliRunner().invoke(group, ["report", *map(str, arguments)])


def words(page):
    """Return what a reader sees, spaces as one; text of the page's own style and script left out."""
    body = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def headings(page):
    return [unescape(text) for text in re.findall(r"<h2[^>]*>(.*?)</h2>", page)]


def rows_of(page, caption):
    """Return the rows of the table whose caption begins so, as texts."""
    (table,) = (table for table in re.findall(r"<table.*?</table>", page, re.DOTALL) if f">{caption}" in table)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in table.split("<tr>")]
    return [[unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in cells if row]


# Recognising


@pytest.fixture(scope="module")
def folders(run, scored, tmp_path_factory):
    training = reporting.training(tmp_path_factory.mktemp("training") / "maxmin-sem-s0")
    several = tmp_path_factory.mktemp("several")
    for seed in (0, 1):
        reporting.training(several / f"maxmin-sem-s{seed}")
    return {
        "trainings": several,
        "training": training,
        "heatmaps": run,
        "evaluation": training / "scores",
        "slide-scores": scored,
    }


@pytest.mark.parametrize("name", plugins.names())
def test_a_folder_is_known_for_what_it_is_and_for_nothing_else(folders, name):
    assert {other for other in folders if plugins.load(name).is_one(folders[other])} == {name}
    assert kind_of(folders[name]) == name
    assert plugins.load(name).EXPECTED


def test_heatmaps_with_scores_among_them_are_heatmaps(made, scored, tmp_path, report):  # noqa: F811
    both = shutil.copytree(made / "maps", tmp_path / "both")
    shutil.copytree(scored, both, dirs_exist_ok=True)
    assert kind_of(both) == "heatmaps"
    assert "Scored slides" in headings(report(both))


def test_anything_else_is_an_error_that_says_what_is_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    for name in "abcd":
        (tmp_path / "other" / name).touch()
    for folder, got in (
        (tmp_path / "nowhere", "which does not exist"),
        (tmp_path / "other" / "a", "a file"),
        (tmp_path / "empty", "an empty folder"),
        (tmp_path / "other", "with a, b, c and 1 more"),
    ):
        done = command(folder)
        assert done.exit_code == 2
        assert done.output.count("\n") == 1
        assert f"nothing to report on; got {folder}" in done.output
        assert got in done.output
        assert "expected the folder of a training (train), of heatmaps (infer-slide, stitch)" in done.output
        assert done.output.rstrip().endswith("give the folder that the command's --out named")


# Heatmaps


def test_a_run_is_its_slides_by_what_their_maps_say(run, report):
    page = report(run)
    said = words(page)
    assert headings(page) == [
        "Summary", "What went wrong", "Slides", "Maps", "Where the time went", "Settings and versions",
    ]  # fmt: skip
    assert "Slides done 2 of 3" in said
    rows = rows_of(page, "3 slides")
    assert [row[0] for row in rows] == [reporting.HOSTILE, "a", "bad"]
    assert [row[1] for row in rows] == ["done", "done", "failed"]
    assert rows[2][2:] == ["–"] * 7
    assert float(rows[0][2]) > 0
    facts = json.loads((run / "a" / "run.json").read_text())
    assert rows[1][6] == str(facts["tiles"])
    assert facts["settings"]["model"] in said


def test_a_slide_that_failed_says_why_and_the_others_are_there(run, report):
    page = report(run)
    (row,) = rows_of(page, "--resume")
    assert row[:2] == ["bad", "failed"]
    assert "not a readable slide" in row[2]
    assert page.count('src="data:image/jpeg;base64,') == 2


def test_a_slide_without_a_map_that_can_be_read_is_said_and_the_others_are_there(run, tmp_path, report):
    broken = shutil.copytree(run, tmp_path / "broken")
    shutil.rmtree(broken / "a" / "heatmap.ome.zarr")
    (broken / "a" / "heatmap.ome.zarr").mkdir()
    page = report(broken)
    assert [row[:2] for row in rows_of(page, "--resume")] == [["a", "done"], ["bad", "failed"]]
    assert "its map cannot be read: not a heatmap of wsi-maxmin" in words(page)


def test_slides_that_are_not_done_and_runs_that_have_not_ended_are_said(run, tmp_path, report):
    unended = shutil.copytree(run, tmp_path / "unended")
    for name, status in ((".", "running"), ("a", "running")):
        facts = json.loads((unended / name / "run.json").read_text())
        (unended / name / "run.json").write_text(json.dumps(facts | {"status": status}))
    rows = ["slide_id,path,mpp,name", "later,later.tif,,later", "begun,begun.tif,,begun", "../run/b,x.tif,,x"]
    (unended / "slides.csv").write_text("\n".join(rows) + "\n")
    (unended / "begun").mkdir()
    (unended / "begun" / "run.json").write_text('{"status": "running"}')
    page = report(unended)
    assert "The run has not ended: --resume does the rest." in words(page)
    assert {row[0]: row[1] for row in rows_of(page, "6 slides")} == {
        "a": "unfinished", "bad": "failed", reporting.HOSTILE: "done", "later": "not begun",
        "begun": "unfinished", "../run/b": "not begun",
    }  # fmt: skip


def test_maps_of_two_models_or_at_another_resolution_are_warned_of(run, tmp_path, report):
    mixed = shutil.copytree(run, tmp_path / "mixed")
    facts = json.loads((mixed / "a" / "run.json").read_text())
    facts["settings"]["model"] = "another:1"
    facts["mpp"]["effective"] *= 2
    (mixed / "a" / "run.json").write_text(json.dumps(facts))
    said = words(report(mixed))
    assert "The maps are of 2 models:" in said
    assert "1 of 2 slides were run at other µm per pixel than the model's: 0.5." in said


def test_a_stitched_map_is_of_the_model_of_its_tile_maps_and_of_its_own_blend(run, tmp_path, report):
    stitch_results([run / "a"], tmp_path / "stitched", settings=MapSettings(blend="max"))
    page = report(tmp_path / "stitched")
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    model = json.loads((run / "a" / "run.json").read_text())["settings"]["model"]
    assert (facts["Model"], facts["Blend"], facts["Slides done"]) == (model, "max", "1 of 1")
    assert "no picture" in words(page)


def test_one_slide_has_a_report_of_its_own(run, report):
    page = report(run / "a")
    assert "Heatmap of a slide" in words(page)
    assert "Slides" not in headings(page)
    assert page.count('src="data:image/jpeg;base64,') == 1


@pytest.fixture(scope="module")
def failed_slide(finished_run, tiny_model, stained, write_pyramid, tmp_path_factory):
    """Return the folder of a slide without µm per pixel, in a run whose other slides are done."""
    folder = tmp_path_factory.mktemp("failed")
    run = shutil.copytree(finished_run, folder / "run")
    slide = write_pyramid(folder / "unscaled.tif", [stained(300, 200, (50, 50, 250, 150))], mpp=None)
    reporting.add(run, tiny_model, slide)
    return run / "unscaled"


def test_the_folder_of_a_slide_that_failed_says_that_and_why(failed_slide, report):
    page = report(failed_slide)
    said = words(page)
    (row,) = rows_of(report(failed_slide.parent), "--resume")
    assert "its µm per pixel (mpp) is missing" in row[2]
    assert f"This slide failed: {row[2]}. Once it is mended, --resume does it." in said
    assert "Slides done 0 of 1 Failed 1" in said
    assert "The run has not ended" not in said
    assert headings(page) == ["Summary", "Map", "Settings and versions"]
    environment = json.loads((failed_slide.parent / "run.json").read_text())["environment"]
    assert f"Platform {environment['platform']}" in said
    assert "command: infer-slide" in said
    assert "wsi-maxmin view" not in said


def test_a_failed_slide_away_from_its_run_says_where_the_reason_is(failed_slide, tmp_path, report):
    said = words(report(shutil.copytree(failed_slide, tmp_path / "alone" / "unscaled")))
    assert "This slide is not done:" in said
    assert "if the slide failed, the report of the run's folder says why." in said
    assert "Slides done 0 of 1 Unfinished 1" in said


def test_a_slide_alone_says_that_its_map_cannot_be_read(run, tmp_path, report):
    broken = shutil.copytree(run, tmp_path / "broken") / "a"
    shutil.rmtree(broken / "heatmap.ome.zarr")
    (broken / "heatmap.ome.zarr").mkdir()
    assert "This slide is done, but its map cannot be read: not a heatmap" in words(report(broken))


def test_names_are_text_wherever_they_stand(run, report):
    page = report(run, title="<script>alert(2)</script>", viewer_url="http://127.0.0.1:8765")
    assert "<img src=x" not in page
    assert "<script>alert(2)" not in page
    assert reporting.HOSTILE in words(page)
    assert page.count("<script>") == 1


def test_links_lead_to_files_beside_the_page_and_to_the_viewer(run, report, tmp_path):
    page = report(run, out=run / "here.html", viewer_url="http://127.0.0.1:8765")
    (run / "here.html").unlink()
    links = [unescape(link) for link in re.findall(r'href="([^"]*)"', page)]
    assert "a/overview.png" in links
    assert "http://127.0.0.1:8765/slide.html?id=a" in links
    hostile = "%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%26%27%22%23%3F%25"
    assert f"{hostile}/overview.png" in links
    assert f"http://127.0.0.1:8765/slide.html?id={hostile}" in links
    assert unescape(page).count(f"wsi-maxmin view {run}/a<") == 1
    assert "../heatmaps" not in page
    assert not re.search(r'href="\.\./[^"]*run.json', report(run))


def test_the_viewer_knows_where_the_links_lead(run, report):
    page = report(run, viewer_url="http://127.0.0.1:8765/")
    links = [unescape(link) for link in re.findall(r'href="http://127\.0\.0\.1:8765(/[^"]*)"', page)]
    answers = Answers(find_results(run))
    for link in links:
        path, _, query = link.partition("?id=")
        assert b"<html" in answers.get(path, {}).body
        assert answers.get(f"/api/slides/{query}", {}).body
    assert len(links) == 2


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "127.0.0.1:8765", "http://", "http://a/?x=1", "file:///x", "http://[a"]
)
def test_a_viewer_that_is_no_page_of_a_server_is_refused(run, url, tmp_path):
    with pytest.raises(InputError, match=r"no such viewer; got .*; expected what wsi-maxmin view printed"):
        write_report(run, out=tmp_path / "r.html", viewer_url=url)
    assert not (tmp_path / "r.html").exists()


def test_a_page_that_is_there_is_kept_unless_told_otherwise(run, tmp_path):
    page = tmp_path / "r.html"
    page.write_text("mine")
    done = command(run, "--out", page)
    assert (done.exit_code, page.read_text()) == (2, "mine")
    assert "the report is there already; got" in done.output
    assert "--overwrite replaces it" in done.output
    with pytest.raises(OutputExistsError):
        write_report(run, out=page)
    done = command(run, "--out", page, "--overwrite", "--title", "Ward 7")
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == str(page)
    assert "<h1>Ward 7</h1>" in page.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_by_default_the_page_lies_in_the_folder(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    assert command(copy).exit_code == 0
    assert "Slides done 2 of 3" in words((copy / "report.html").read_text())


def test_nothing_on_the_page_comes_from_elsewhere(run, report):
    page = report(run)
    assert re.search(r"content=\"default-src &#39;none&#39;; img-src data:; style-src &#39;sha256-[^&]*&#39;", page)
    assert not re.search(r"<link|<iframe|@import|url\(|style=\"|\son\w+=\"", page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)"', page))


# Scores


def test_scores_are_shown_with_the_heatmaps_that_they_are_of(made, scored, report):  # noqa: F811
    page = report(made / "maps", scores=scored)
    assert {"Scores", "Scored slides", "Lesions"} <= set(headings(page))
    labels = {row[0]: row[1] for row in rows_of(page, "3 slides")}
    assert labels == {"test_x": "tumor", "tumor_in_name_only": "normal", "silent": "normal"}
    assert rows_of(page, "3 slides")[0][0] == "test_x"
    assert "not of the same slides" not in words(page)


def test_scores_of_other_slides_are_refused(run, scored, tmp_path):
    done = command(run, "--scores", scored, "--out", tmp_path / "r.html")
    assert (done.exit_code, (tmp_path / "r.html").exists()) == (2, False)
    assert (
        f"the scores are of none of these slides; got {scored} with test_x.tif, tumor_in_name_only, silent; "
        f"expected some of {run}: {reporting.HOSTILE}, a, bad; give --scores what evaluate-slides wrote" in done.output
    )


def test_scores_of_some_of_the_slides_and_of_others_say_so(made, scored, tmp_path):  # noqa: F811
    maps = shutil.copytree(made / "maps", tmp_path / "maps")
    (maps / "silent").rename(maps / "another")
    (maps / "tumor_in_name_only").rename(maps / "a_third")
    done = command(maps, "--scores", scored, "--out", tmp_path / "r.html")
    said = (
        "The scores are not of the same slides as the heatmaps: 1 of 3 slides here are scored, "
        "and 2 of 3 scored slides are not here."
    )
    page = (tmp_path / "r.html").read_text()
    assert done.exit_code == 0
    assert f"WARNING: {said}" in " ".join(done.output.split())
    assert page.count(f'<p class="note warning">{said}</p>') == 2
    assert {row[0]: row[1] for row in rows_of(page, "3 slides")} == {"test_x": "tumor", "another": "–", "a_third": "–"}


def test_scores_of_other_slides_that_lie_with_the_heatmaps_are_left_out(run, scored, tmp_path, report):
    both = shutil.copytree(run, tmp_path / "both")
    shutil.copytree(scored, both / "scores")
    page = report(both)
    assert f"The scores in {both / 'scores'} are of none of these slides, and are left out." in words(page)
    assert "Scores" not in headings(page)


def test_scores_go_with_hashed_slides_by_the_names_that_the_run_keeps(made, scored, tmp_path, report):  # noqa: F811
    maps = shutil.copytree(made / "maps", tmp_path / "maps")
    names = ("test_x", "tumor_in_name_only", "silent")
    for index, name in enumerate(names):
        (maps / name).rename(maps / f"h{index}")
    rows = [f"h{index},{name}.tif,,{name}" for index, name in enumerate(names)]
    (maps / "slides.csv").write_text("\n".join(["slide_id,path,mpp,name", *rows]) + "\n")
    page = report(maps, scores=scored)
    assert {row[0]: row[1] for row in rows_of(page, "3 slides")} == {"h0": "tumor", "h1": "normal", "h2": "normal"}
    assert "not of the same slides" not in words(page)


def test_scores_alone_are_tables_with_intervals_and_curves(scored, report):
    page = report(scored)
    scores = json.loads((scored / "scores.json").read_text())
    assert rows_of(page, "Scores over")[0] == ["FROC score", "1.000", "–", "–"]
    assert len(rows_of(page, "Scores over")) == sum(
        isinstance(value, dict) and "low" in value for value in scores.values()
    )
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert titles == ["FROC: lesions hit", "ROC: tumour slides called", "Precision of tissue pixels"]
    assert len(rows_of(page, "Slides: 3")) == 3
    assert {row[5] for row in rows_of(page, "Lesions: 2")} == {"yes", "no"}
    assert "There are no intervals" in words(page)


def test_intervals_are_shown_where_there_are_any(scored, tmp_path, report):
    copy = shutil.copytree(scored, tmp_path / "scores")
    scores = json.loads((copy / "scores.json").read_text())
    scores["froc"] |= {"low": 0.25, "high": 0.875}
    (copy / "scores.json").write_text(json.dumps(scores))
    page = report(copy)
    assert rows_of(page, "Scores over")[0] == ["FROC score", "1.000", "0.250", "0.875"]
    assert "resamples of slides" in words(page)


def test_scores_that_are_none_or_damaged_are_errors(run, scored, tmp_path, report):
    with pytest.raises(InputError, match=r"no scores of slides; got .*; wsi-maxmin evaluate-slides"):
        report(run, scores=tmp_path)
    with pytest.raises(InputError, match="scores of slides go with heatmaps"):
        report(scored, scores=scored)
    copy = shutil.copytree(scored, tmp_path / "scores")
    (copy / "lesions.csv").write_text("slide_id,lesion\na,b,c\n")
    with pytest.raises(InputError, match=r"lesions\.csv is damaged"):
        report(copy)
    (copy / "lesions.csv").write_text("slide_id,lesion\na,b\n")
    with pytest.raises(InputError, match="a table is damaged; got 'b'; expected a number"):
        report(copy)
    (copy / "scores.json").write_text("{}")
    with pytest.raises(InputError, match=r"scores\.json is damaged"):
        report(copy)


# Trainings


def test_a_training_is_its_curves_scores_images_and_settings(tmp_path, report):
    page = report(reporting.training(tmp_path / "maxmin-sem-s0"))
    said = words(page)
    assert headings(page) == [
        "Summary", "Training curves", "Scores", "Thresholds", "Pictures", "Images", "Where the time went",
        "Settings and versions",
    ]  # fmt: skip
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert titles == ["Loss, total", "Validation accuracy, %", "Learning rate", "F1 at thresholds of the soft mask"]
    assert "Best epoch 2 of 4" in said
    assert "60.5 %" in said
    assert rows_of(page, "All pixels") == [["background", "75.0", "50.0"], ["foreground", "25.0", "50.0"]]
    assert rows_of(page, "Images: 2") == [
        ["7", "benign", "–", "60.5", "–", "25.0", "–"], ["8", "malignant", "benign", "–", "–", "100.0", "–"],
    ]  # fmt: skip
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "<img src=x onerror" not in page
    assert 'class="note warning"' not in page


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("stopped", "Stopped at its time limit: 2 of 4 epochs"),
        ("interrupted", "Interrupted:"),
        ("running", "Not ended:"),
    ],
)
def test_a_training_that_did_not_end_says_so(tmp_path, report, status, says):
    folder = reporting.training(tmp_path / "run", status=status, scored=False)
    facts = json.loads((folder / "run.json").read_text())
    del facts["best_epoch"]
    (folder / "run.json").write_text(json.dumps(facts))
    page = report(folder)
    assert says in words(page)
    assert 'class="note warning"' in page
    assert "Best epoch 1 of 4" in words(page)
    assert "Not evaluated:" in words(page)


def test_a_training_without_an_epoch_has_no_curves(tmp_path, report):
    folder = reporting.training(tmp_path / "run", status="failed", scored=False)
    (folder / "metrics.jsonl").unlink()
    facts = json.loads((folder / "run.json").read_text())
    del facts["best_epoch"]
    (folder / "run.json").write_text(json.dumps(facts | {"epochs": []}))
    page = report(folder)
    assert "Failed: 0 of 4 epochs" in words(page)
    assert headings(page) == ["Summary", "Settings and versions"]


def test_several_trainings_are_a_row_each_and_their_curves(tmp_path, report):
    reporting.training(tmp_path / "runs" / "maxmin-sem-s0")
    reporting.training(tmp_path / "runs" / "later-s0", scored=False)
    reporting.training(tmp_path / "runs" / "stopped-s0", status="stopped")
    page = report(tmp_path / "runs")
    said = words(page)
    assert headings(page) == ["Summary", "Trainings", "Total loss", "Validation accuracy", "Settings and versions"]
    rows = rows_of(page, "2 trainings")
    assert rows[0] == ["later", "–", "0", *["–"] * 5, "2", "2", "0.1"]
    assert rows[1] == ["maxmin-sem", "–", "0", "2", "5.00", "60.50", "40.25", "–", "2", "2", "0.1"]
    assert "Finished 2 of 3 Scored 1" in said
    assert "Not finished, and left out: stopped-s0." in said
    assert f"--tables-only --runs {tmp_path / 'runs'}" in said
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == ["later, seed 0", "maxmin-sem, seed 0"] * 2


def test_gathered_trainings_have_the_scores_of_the_reproduction(report):
    page = report(COMMITTED)
    rows = {(row[0], row[2]): row for row in rows_of(page, "16 trainings")}
    assert rows["cam-avg", "0"][1:8] == ["cam", "0", "18 valid", "0.00", "64.17", "21.41", "88.1"]
    assert rows["all-ones", "0"][8:] == ["–", "–", "–"]
    assert "Finished 16 of 16 Scored 16" in words(page)


def test_a_list_of_pictures_names_none_elsewhere(tmp_path, report):
    folder = reporting.training(tmp_path / "run")
    Image.new("RGB", (50, 50), (1, 2, 3)).save(tmp_path / "secret.png")
    scores = json.loads((folder / "scores" / "scores.json").read_text())
    scores["pictures"] = ["pictures/../../../secret.png", "../../secret.png", "pictures/0.png"]
    (folder / "scores" / "scores.json").write_text(json.dumps(scores))
    assert report(folder).count('src="data:image/jpeg;base64,') == 1


def test_of_very_many_images_the_worst_are_on_the_page(tmp_path, report):
    folder = reporting.training(tmp_path / "run", pictures=0) / "scores"
    count = MOST_ROWS + 500
    rows = [f"i{index},benign,benign,{100 - index / 100},50,0.5,0.5" for index in range(count)]
    header = "image,label,predicted,f1_foreground,f1_background,predicted_fraction,true_fraction"
    (folder / "images.csv").write_text("\n".join([header, *rows]) + "\n")
    shown = rows_of(report(folder), f"Images: {MOST_ROWS:,} of {count:,} (images.csv has all)")
    assert (len(shown), shown[0][0]) == (MOST_ROWS, f"i{count - 1}")


# Pictures


def decoded(picture):
    with Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))) as image:
        return image.convert("RGB")


def test_a_picture_loses_its_white_border_and_is_no_wider_than_it_was(tmp_path):
    pixels = np.full((400, 600, 3), 255, np.uint8)
    pixels[100:200, 300:500] = (200, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    picture = shrink(tmp_path / "p.png", "red", most_bytes=MOST_BYTES)
    assert (picture.width, picture.height, picture.alt) == (216, 116, "red")
    assert decoded(picture).size == (216, 116)
    assert decoded(picture).getpixel((108, 58))[0] > 150


@pytest.mark.parametrize(("most_bytes", "width"), [(150_000, 720), (40_000, 480)])
def test_a_picture_is_as_wide_as_its_bytes_allow(tmp_path, most_bytes, width):
    pixels = np.random.default_rng(0).integers(0, 256, (500, 1500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    picture = shrink(tmp_path / "p.png", "", most_bytes=most_bytes)
    assert len(base64.b64decode(picture.uri.partition(",")[2])) <= most_bytes
    assert picture.width == width


def test_what_is_no_picture_is_none(tmp_path):
    (tmp_path / "p.png").write_bytes(b"no picture")
    assert shrink(tmp_path / "p.png", "", most_bytes=1) is None
    assert shrink(tmp_path / "missing.png", "", most_bytes=1) is None


def test_the_pictures_of_a_large_cohort_fit_a_page():
    assert share_of(400) * 400 * 4 / 3 <= 40e6
    assert share_of(1) == MOST_BYTES
    assert share_of(100_000) * 100_000 <= BUDGET_BYTES


def test_times_are_for_people():
    assert [duration(seconds) for seconds in (4.21, 318.4, 59.99, 7325)] == [
        "4.2 s",
        "5 min 18 s",
        "60.0 s",
        "2 h 2 min",
    ]
