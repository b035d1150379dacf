"""A cohort of made heatmaps, scored from end to end by the command and by its pipeline."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

from tests.test_cli import XML
from tests.test_regions import write_store
from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines.evaluate_slides import EvaluateSlidesSettings, SlidesTruth, evaluate_slides
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide

SIZE_PX = (8 * 800, 8 * 600)
# Left, top, right, bottom of the tumour, level-0 px: 480 × 320 px of 0.25 µm are isolated tumour cells.
TUMOUR, CELLS = (800, 800, 3200, 2400), (4800, 3200, 5280, 3520)


def xml_of(*boxes, kind="Tumor"):
    rings = "".join(
        f'<Annotation Name="a" Type="Polygon" PartOfGroup="{kind}"><Coordinates>'
        + "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(corners))
        + "</Coordinates></Annotation>"
        for left, top, right, bottom in boxes
        for corners in [((left, top), (right, top), (right, bottom), (left, bottom))]
    )
    return f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{rings}</Annotations></ASAP_Annotations>'


def add_slide(run, slide_id, *marks):
    """Add the result of a slide whose map has squares, (value, left, top, side) in level-0 px."""
    folder = run / slide_id
    folder.mkdir(parents=True)
    values = np.zeros((1, 600, 800), np.uint8)
    for value, *place in marks:
        left, top, side = (number // 8 for number in place)
        values[0, top : top + side, left : left + side] = value
    write_store(folder / "heatmap.ome.zarr", values, SIZE_PX)
    (folder / "run.json").write_text(json.dumps({"status": "done", "slide": {"size_px": SIZE_PX}}))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder of three heatmaps: a tumour slide that is not called so, and two normal ones."""
    root = tmp_path_factory.mktemp("cohort")
    marks = ((204, 1600, 1600, 320), (153, 5600, 800, 320), (255, 4960, 3280, 160))
    add_slide(root / "maps", "test_x", *marks)
    add_slide(root / "maps", "tumor_in_name_only", (102, 1600, 1600, 320))
    add_slide(root / "maps", "silent")
    (root / "xml").mkdir()
    (root / "xml" / "test_x.xml").write_text(xml_of(TUMOUR, CELLS))
    (root / "reference.csv").write_text("test_x.tif,Tumor\ntumor_in_name_only,Normal\nsilent,Normal\n")
    return root


@pytest.fixture
def own(made, tmp_path):
    return shutil.copytree(made, tmp_path / "own")


def invoke(*arguments, code=0):
    result = CliRunner().invoke(group, ["evaluate-slides", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def options(root):
    return [root / "maps", "--annotations", root / "xml", "--reference", root / "reference.csv"]


PLAIN = ["--threshold", 0.5, "--least-probability", 0.3, "--smooth-um", 0]


def test_a_cohort_is_scored_as_pencil_says(made, tmp_path):
    out = tmp_path / "scores"
    result = invoke(*options(made), *PLAIN, "--out", out)
    # 0.8 hits, 0.6 and 0.4 are false positives, 1.0 is on isolated tumour cells; the score of the slide is 1.0 still.
    scores = json.loads((out / "scores.json").read_text())
    assert scores["froc"]["value"] == pytest.approx(1)
    assert (scores["auc"]["value"], scores["slides"], scores["lesions"], scores["isolated"]) == (1, 3, 1, 1)
    slides = pd.read_csv(out / "slide_scores.csv").set_index("slide_id")
    assert slides["label"].to_dict() == {"test_x.tif": "tumor", "tumor_in_name_only": "normal", "silent": "normal"}
    assert slides["candidates"].tolist() == [3, 1, 0]
    assert slides["false_positives"].tolist() == [1, 1, 0]
    assert slides["score"].tolist() == pytest.approx([1, 0.4, 0])
    called, right, true = 2 * 40**2 + 20**2, 40**2 + 20**2, 300 * 200 + 60 * 40
    assert slides.loc["test_x.tif", "dice"] == pytest.approx(2 * right / (called + true))
    assert slides.loc["test_x.tif", "annotated_mm2"] == pytest.approx(true * 4e-6)
    assert scores["dice"]["value"] == pytest.approx(2 * right / (called + true))
    assert np.isnan(slides.loc["silent", "dice"])
    lesions = pd.read_csv(out / "lesions.csv")
    assert lesions["isolated"].tolist() == [False, True]
    assert lesions["probability"].tolist() == pytest.approx([0.8, 1])
    assert lesions.loc[0, ["hit_x", "hit_y"]].tolist() == [1600 + 16, 1600 + 16]
    candidates = pd.read_csv(out / "candidates.csv")
    assert candidates["lands_on"].tolist() == ["isolated", "lesion", "false positive", "false positive"]
    froc = pd.read_csv(out / "froc.csv")
    # Of three slides; the lowest of 0, 0.4, 0.6 and 0.8 is left out.
    assert froc["false_positives"].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert froc["sensitivity"].tolist() == [1, 1, 1, 0]
    assert "no intervals: 3 slides" in result.stderr
    assert pd.read_csv(out / "scores.csv")["score"].tolist()[0] == "froc"
    for name in ("froc", "roc", "precision_recall"):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 500


def test_masks_give_the_scores_of_outlines(own, tmp_path):
    invoke(*options(own), *PLAIN, "--out", tmp_path / "outlines")
    mask = np.zeros(SIZE_PX[::-1], np.uint8)
    for left, top, right, bottom in (TUMOUR, CELLS):
        mask[top:bottom, left:right] = 1
    (own / "masks").mkdir()
    tifffile.imwrite(own / "masks" / "test_x_mask.tif", mask, tile=(256, 256), compression="deflate")
    masks = [own / "maps", "--masks", own / "masks", "--reference", own / "reference.csv"]
    invoke(*masks, *PLAIN, "--out", tmp_path / "masks")
    for name in ("scores", "slide_scores", "lesions", "candidates"):
        assert (tmp_path / "masks" / f"{name}.csv").read_text() == (tmp_path / "outlines" / f"{name}.csv").read_text()


def test_a_mask_of_another_size_is_none_of_the_slide(own):
    (own / "masks").mkdir()
    tifffile.imwrite(own / "masks" / "test_x.tif", np.ones((600, 800), np.uint8), tile=(256, 256))
    masks = [own / "maps", "--masks", own / "masks", "--reference", own / "reference.csv"]
    assert "is not a mask of test_x" in invoke(*masks, *PLAIN, code=1).stderr


def test_candidates_may_come_from_files_and_a_slide_without_file_has_none(own, tmp_path):
    points = tmp_path / "points"
    points.mkdir()
    (points / "test_x.csv").write_text("0.9,2000,2000\n0.5,10,10\n")
    (points / "stranger.csv").write_text("0.9,2000,2000\n")
    out = tmp_path / "out"
    result = invoke(*options(own), *PLAIN, "--candidates", points, "--out", out)
    assert "1 of 3 slides have a file of candidates; 1 are of none" in result.stderr
    slides = pd.read_csv(out / "slide_scores.csv")
    assert slides["candidates"].tolist() == [2, 0, 0]
    assert slides["score"].tolist() == pytest.approx([0.9, 0, 0])
    assert pd.read_csv(out / "froc.csv")["false_positives"].tolist() == pytest.approx([1 / 3, 0, 0])


def test_intervals_hold_the_score_and_are_the_same_again(own):
    rng = np.random.default_rng(0)
    rows = (own / "reference.csv").read_text().splitlines()
    for index in range(9):
        value = int(rng.integers(100, 255))
        add_slide(own / "maps", f"t{index}", (value, 1600, 1600, 320), (int(rng.integers(90, 255)), 5600, 800, 320))
        (own / "xml" / f"t{index}.xml").write_text(xml_of(TUMOUR, (3600, 3200, 4800, 4400)))
        rows.append(f"t{index},Tumor")
    (own / "reference.csv").write_text("\n".join(rows))
    truth = SlidesTruth(reference=own / "reference.csv", annotations=own / "xml")
    settings = EvaluateSlidesSettings(threshold=0.5, bootstrap=200)
    first, again = (evaluate_slides(own / "maps", truth, settings=settings).scores for _ in range(2))
    assert first == again
    assert set(first) >= {"froc", "auc", "dice", "average_precision", "sensitivity_at_0.25"}
    for score in first.values():
        assert score.low <= score.value <= score.high
    assert first["froc"].low < first["froc"].high
    none = evaluate_slides(own / "maps", truth, settings=EvaluateSlidesSettings(threshold=0.5, bootstrap=0)).scores
    assert {score.low for score in none.values()} == {None}
    assert none["froc"].value == first["froc"].value


def test_a_slide_of_the_list_without_heatmap_is_an_error(own):
    (own / "reference.csv").write_text("test_x,Tumor\nlost,Normal\n")
    assert "lost" in invoke(*options(own), code=2).stderr


def test_heatmaps_that_the_list_does_not_name_are_left_out_and_said(own, tmp_path):
    (own / "reference.csv").write_text("test_x,Tumor\nsilent,Normal\n")
    result = invoke(*options(own), *PLAIN, "--out", tmp_path / "out")
    assert "1 heatmaps are of slides that the reference list does not name, such as tumor_in_name_only" in result.stderr
    assert len(pd.read_csv(tmp_path / "out" / "slide_scores.csv")) == 2


@pytest.mark.parametrize("content", [None, xml_of()])
def test_a_tumour_slide_without_annotated_tumour_fails_and_leaves_no_scores(own, tmp_path, content):
    path = own / "xml" / "test_x.xml"
    path.unlink()
    if content is not None:
        path.write_text(content)
    result = invoke(*options(own), *PLAIN, "--out", tmp_path / "out", code=1)
    assert "test_x.tif: failed" in result.stderr
    assert "1 failed" in result.output
    assert not (tmp_path / "out").exists()


def test_one_annotation_serves_one_slide_and_no_other(own):
    one = [own / "maps", "--annotations", own / "xml" / "test_x.xml", "--reference", own / "reference.csv", *PLAIN]
    assert "froc" in invoke(*one).output
    (own / "reference.csv").write_text("test_x,Tumor\nsilent,Tumor\n")
    assert "one annotation for 2 slides" in invoke(*one, code=2).stderr
    (own / "xml" / "test_x.xml").unlink()
    assert "no such annotations" in invoke(*one, code=2).stderr


def test_a_folder_of_candidates_that_is_not_there_is_an_error(made, tmp_path):
    assert "no such folder of candidates" in invoke(*options(made), "--candidates", tmp_path / "none", code=2).stderr


@pytest.mark.parametrize("name", ["other.csv", "TEST_X.CSV", "notes.txt"])
def test_that_no_slide_has_a_file_of_candidates_is_an_error_and_no_score_of_0(made, tmp_path, name):
    (tmp_path / name).write_text("0.9,1000,1000\n")
    said = " ".join(invoke(*options(made), *PLAIN, "--candidates", tmp_path, code=2).stderr.split())
    assert "no slide has a file of candidates" in said
    assert "expected test_x.tif.csv" in said


def test_a_slide_of_the_list_takes_the_map_of_no_slide_whose_name_begins_its_own(own):
    (own / "reference.csv").write_text("test_x.1,Tumor\nsilent,Normal\n")
    assert "1 of 2 slides of the reference list have no heatmap; got test_x.1" in invoke(*options(own), code=2).stderr


def test_scores_that_a_failed_evaluation_leaves_are_said_to_be_of_an_earlier_one(own, tmp_path):
    out = tmp_path / "out"
    invoke(*options(own), *PLAIN, "--out", out)
    (own / "xml" / "test_x.xml").unlink()
    assert "are of an earlier evaluation" in invoke(*options(own), *PLAIN, "--out", out, code=1).stderr
    assert (out / "scores.json").exists()


def test_two_names_of_one_slide_are_an_error(own):
    (own / "reference.csv").write_text("test_x,Tumor\ntest_x.tif,Tumor\n")
    assert "are one slide" in invoke(*options(own), code=2).stderr


def test_an_unknown_group_is_named_with_its_remedy(own):
    (own / "xml" / "test_x.xml").write_text(xml_of(TUMOUR, kind="Lesion"))
    assert "--group 'Lesion=tumour'" in invoke(*options(own), *PLAIN, code=1).stderr
    assert "froc" in invoke(*options(own), *PLAIN, "--group", "Lesion=tumour").output


def test_a_slide_that_is_not_finished_is_not_scored(own):
    (own / "maps" / "silent" / "run.json").write_text('{"status": "running"}')
    assert "silent has no finished result" in invoke(*options(own), *PLAIN, code=1).stderr


def test_a_cohort_without_tumour_has_no_froc_and_no_auc(own, tmp_path):
    (own / "reference.csv").write_text("silent,0\ntumor_in_name_only,0\n")
    out = tmp_path / "out"
    invoke(*options(made_of(own, out)), *PLAIN, "--out", out)
    scores = json.loads((out / "scores.json").read_text())
    assert {scores[name]["value"] for name in ("froc", "auc", "dice", "average_precision")} == {None}
    assert not any((out / f"{name}.png").exists() for name in ("froc", "roc", "precision_recall"))


def made_of(root, out):
    """Leave the curves of an earlier evaluation in the folder: they are to go."""
    out.mkdir()
    (out / "froc.png").write_text("old")
    return root


def test_annotations_and_masks_exclude_each_other(made):
    both = ["--annotations", made / "xml", "--masks", made / "xml"]
    for given, says in (([], "nothing says where tumour is"), (both, "exclude each other")):
        said = invoke(made / "maps", "--reference", made / "reference.csv", *given, code=2).stderr
        assert says in said
        assert "--annotations and --masks" in said
    with pytest.raises(InputError, match="no such number of resamples"):
        EvaluateSlidesSettings(bootstrap=-1)


def test_a_map_without_its_threshold_asks_for_one(made):
    assert "--threshold" in invoke(*options(made), code=2).stderr


@pytest.mark.usefixtures("one_thread")
def test_a_run_of_infer_slide_under_hashed_names_is_scored_at_the_model_s_threshold(tmp_path, tiny_model, tissue_slide):
    settings = InferSettings(model=str(tiny_model), engine="torch", precision="fp32", hash_slide_ids=True)
    infer_slide([tissue_slide], tmp_path / "maps", settings=settings)
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "slide.xml").write_text(XML.format(group="Tumor"))
    (tmp_path / "reference.csv").write_text("slide,tumor\n")
    invoke(*options(tmp_path), "--out", tmp_path / "out", "--protocol", "per-slide-mpp")
    (row,) = pd.read_csv(tmp_path / "out" / "slide_scores.csv").to_dict("records")
    assert (row["slide_id"], row["threshold"]) == ("slide", 0.2)
    annotated = row["annotated_mm2"] + row["annotated_off_tissue_mm2"]
    assert annotated == pytest.approx(256 * 384 * 0.25**2 / 1e6)
    hashed = next((tmp_path / "maps").glob("*/run.json")).parent.name
    for name in (hashed, "slide.tif"):
        (tmp_path / "reference.csv").write_text(f"{name},tumor\n")
        assert "froc" in invoke(*options(tmp_path)).output
