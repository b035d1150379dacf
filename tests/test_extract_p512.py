"""The P512 protocol over a cohort: tumour slides first, and as many patches without tumour as they give."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import contents
from tests.test_extract_options import Listener
from tests.test_extract_patches import extract, outline, table
from wsi_maxmin.extract_inputs import ExtractInputs
from wsi_maxmin.extraction import ExtractSettings, SlideJob
from wsi_maxmin.pipelines.plan_patches import plan_patches

P512 = ExtractSettings(protocol="p512", without_annotation="normal", format="jpeg", preview=False)
SIZE = (2100, 1600)
TISSUE = (20, 20, 2060, 1560)
OUTLINES = {"t1": (300, 300, 700, 900), "t2": (900, 200, 900, 700)}
SPLITS = {"n1": "train", "n2": "train", "n3": "valid", "t1": "train", "t2": "valid"}


@pytest.fixture(scope="module")
def cohort(
    tmp_path_factory: pytest.TempPathFactory, stained: Callable[..., np.ndarray], write_pyramid: Callable[..., Path]
) -> Path:
    """Return a folder of two slides with tumour and three without, with annotations and splits."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "xml").mkdir()
    for seed, name in enumerate(SPLITS):
        write_pyramid(folder / f"{name}.tif", [stained(*SIZE, TISSUE, seed=seed)], 0.25, tile=512)
    for name, corners in OUTLINES.items():
        outline(folder / "xml" / f"{name}.xml", *corners)
    (folder / "splits.csv").write_text("slide,split\n" + "".join(f"{name},{SPLITS[name]}\n" for name in SPLITS))
    return folder


@pytest.fixture(scope="module")
def whole(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run of one worker."""
    out = tmp_path_factory.mktemp("run") / "whole"
    assert run(cohort, out) == dict.fromkeys(SPLITS, "done")
    return out


def run(cohort: Path, out: Path, *names: str, **options: object) -> dict[str, str]:
    """Return what became of each slide."""
    slides = [cohort / f"{name}.tif" for name in names or SPLITS]
    inputs = {"annotations": cohort / "xml", "splits": cohort / "splits.csv", "settings": P512, **options}
    result = extract(slides, out, **inputs)
    return {outcome.slide_id: outcome.status for outcome in result.outcomes}


def counts(out: Path) -> dict[str, int]:
    found: dict[str, int] = table(out).rows["slide_id"].value_counts().to_dict()
    return found


def test_each_split_has_as_many_patches_without_tumour_as_with_dealt_evenly(whole: Path) -> None:
    rows, patches = table(whole).rows, counts(whole)
    assert min(patches["t1"], patches["t2"]) > 2
    assert patches["t1"] != patches["t2"]
    assert patches["n1"] + patches["n2"] == patches["t1"]
    assert 0 <= patches["n1"] - patches["n2"] <= 1
    assert patches["n3"] == patches["t2"]
    labels = rows.groupby("slide_id")["label"].unique().map(list).to_dict()
    assert labels == {name: ["tumor" if name in OUTLINES else "normal"] for name in SPLITS}
    assert rows.groupby("slide_id")["split"].unique().map(list).to_dict() == {n: [s] for n, s in SPLITS.items()}


def test_without_splits_all_slides_share_one_balance(cohort: Path, tmp_path: Path) -> None:
    run(cohort, tmp_path / "out", splits=None)
    patches = counts(tmp_path / "out")
    normal = sorted((patches[name] for name in ("n1", "n2", "n3")), reverse=True)
    assert sum(normal) == patches["t1"] + patches["t2"]
    assert normal[0] - normal[-1] <= 1


def test_neither_workers_nor_the_order_of_slides_change_a_byte(cohort: Path, whole: Path, tmp_path: Path) -> None:
    run(cohort, tmp_path / "two", *reversed(SPLITS), workers=2)
    assert contents(tmp_path / "two") == contents(whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tumour_slide_that_fails_holds_no_other_up_and_changes_no_quota_when_it_is_mended(
    cohort: Path, tmp_path: Path, workers: int
) -> None:
    folder, out = tmp_path / "cohort", tmp_path / "out"
    (folder / "xml").mkdir(parents=True)
    for path in (*cohort.glob("*.tif"), *cohort.glob("*.csv"), *cohort.glob("xml/*")):
        (folder / path.relative_to(cohort)).symlink_to(path)
    (folder / "t1.tif").unlink()
    (folder / "t1.tif").write_text("not a slide")
    listener = Listener()
    status = run(folder, out, workers=workers, progress=listener)
    assert any("1 that may hold tumour failed, first t1" in said for said in listener.said)
    assert status == {"t1": "failed", "t2": "done", "n1": "done", "n2": "done", "n3": "done"}
    first = counts(out)
    # No tumour patch of their split, so no patch of theirs.
    assert set(first) == {"t2", "n3"}
    assert first["n3"] == first["t2"]
    quota = (out / "normal_quota.json").read_text()
    assert json.loads(quota) == {"n1": 0, "n2": 0, "n3": first["n3"]}

    (folder / "t1.tif").unlink()
    (folder / "t1.tif").symlink_to(cohort / "t1.tif")
    status = run(folder, out, workers=workers, existing="resume")
    assert status == {"t1": "done", **dict.fromkeys(("t2", "n1", "n2", "n3"), "skipped")}
    assert (out / "normal_quota.json").read_text() == quota
    assert counts(out) == {**first, "t1": counts(out)["t1"]}


def test_a_normal_slide_that_comes_later_gets_its_share_and_the_others_keep_theirs(
    cohort: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(cohort, out, "t1", "t2", "n1", "n3")
    first = counts(out)
    assert first["n1"] == first["t1"]
    run(cohort, out, existing="resume")
    assert counts(out) == {**first, "n2": counts(whole)["n2"]}


def test_an_error_before_the_first_slide_is_that_slides_failure_and_not_the_runs(
    cohort: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor may a slide of which nobody knows whether it holds tumour be cut as if it had no quota."""

    def holds_tumour(job: SlideJob, settings: ExtractSettings) -> bool:
        if job.slide_id == "n1":
            raise ZeroDivisionError("as a codec might")
        return job.slide_id in OUTLINES

    monkeypatch.setattr("wsi_maxmin.cutting.holds_tumour", holds_tumour)
    status = run(cohort, tmp_path / "out")
    assert status == {"n1": "failed", **dict.fromkeys(("t1", "t2", "n2", "n3"), "done")}
    assert "ZeroDivisionError" in (tmp_path / "out" / "failures.log").read_text()
    assert counts(tmp_path / "out")["n2"] == counts(whole)["t1"]


def test_a_slide_without_annotation_fails_unless_it_is_said_to_be_normal(cohort: Path, tmp_path: Path) -> None:
    settings = replace(P512, without_annotation="unlabelled")
    status = run(cohort, tmp_path / "out", "t1", "n1", settings=settings)
    assert status == {"t1": "done", "n1": "failed"}
    assert "--no-annotation normal" in (tmp_path / "out" / "failures.log").read_text()
    inputs = ExtractInputs(slides=[cohort / "t1.tif", cohort / "n1.tif"], annotations=cohort / "xml")
    foreseen = plan_patches(inputs, settings=settings, workers=1).slides
    assert foreseen[0].number == counts(tmp_path / "out")["t1"]
    assert foreseen[1].remark.startswith("fails: n1 has no annotation")
