"""What slides are called in a folder of patches: names that last, and names that say nothing."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import contents
from tests.test_extract_patches import SMALL, TISSUE, TUMOUR, extract, outline, table
from wsi_maxmin.extraction import ExtractSettings, SlideJob
from wsi_maxmin.pipelines import extract_patches as pipeline
from wsi_maxmin.slide_list import hash_slide_id

MakeSlide = Callable[..., Path]
HASHED = replace(SMALL, hash_slide_ids=True)
NAME = "Erika-Mustermann"


def traces(out: Path, *names: str) -> list[str]:
    """Return the files and folders below a folder, but for slides.csv, in which one of the names is to be read."""
    found = []
    for path in out.rglob("*"):
        text = str(path.relative_to(out)).encode()
        if path.is_file() and path.name != "slides.csv":
            text += path.read_bytes()
        if path.suffix == ".parquet":
            # Its columns are compressed.
            read = pq.read_table(path)
            text += repr((read.to_pylist(), read.schema.metadata)).encode()
        if any(name.encode() in text for name in names):
            found.append(str(path.relative_to(out)))
    return found


def listed(out: Path) -> dict[str, str]:
    with (out / "slides.csv").open() as file:
        return {row["name"]: row["slide_id"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("store", ["files", "shard"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_hashed_name_stands_in_no_file_but_the_list_of_slides(
    make_slide: MakeSlide, tmp_path: Path, store: str, workers: int
) -> None:
    (tmp_path / NAME).mkdir()
    slides = [make_slide(NAME, TISSUE), make_slide(f"{NAME}-2", TISSUE), tmp_path / f"{NAME}-gone.tif"]
    slides += [tmp_path / f"{NAME}-{what}.tif" for what in ("broken", "odd", "mute")]
    slides[3].write_text("not a slide")
    make_slide(f"{NAME}-odd", TISSUE)
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(slides[5])
    folder = tmp_path / "xml"
    folder.mkdir()
    outline(folder / f"{NAME}.xml", *TUMOUR)
    (folder / f"{NAME}-odd.xml").write_text("<ASAP")
    (tmp_path / "splits.csv").write_text(f"slide,split,patient_id\n{NAME},train,{NAME}\n{NAME}-2,test,{NAME}-2\n")
    result = extract(
        slides,
        tmp_path / "out",
        annotations=folder,
        splits=tmp_path / "splits.csv",
        settings=replace(HASHED, store=store, partly_annotated=(f"{NAME}-2",)),
        workers=workers,
    )
    assert [outcome.status for outcome in result.outcomes] == ["done", "done", *["failed"] * 4]
    assert traces(tmp_path / "out", NAME, "Mustermann") == []
    assert traces(tmp_path / "out", hash_slide_id(NAME))
    # The one that is missing is in no list either.
    assert listed(tmp_path / "out") == {slide.stem: hash_slide_id(slide.stem) for slide in (*slides[:2], *slides[3:])}
    rows = table(tmp_path / "out").rows.set_index("slide_id")
    assert set(rows.loc[hash_slide_id(NAME), "slide_label"]) == {"tumor"}
    assert set(rows.loc[hash_slide_id(f"{NAME}-2"), "label"]) == {"unlabelled"}
    assert rows.groupby("slide_id")["split"].unique().map(list).to_dict() == {
        hash_slide_id(NAME): ["train"],
        hash_slide_id(f"{NAME}-2"): ["test"],
    }


def test_an_error_of_any_kind_is_logged_without_the_name(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: SlideJob, _settings: object) -> None:
        raise PermissionError(13, "Permission denied", str(job.path))

    monkeypatch.setattr(pipeline, "plan_slide", fail)
    result = extract([make_slide(NAME, TISSUE)], tmp_path / "out", settings=HASHED)
    assert result.exit_code == 1
    assert "Permission denied" in result.outcomes[0].why
    log = (tmp_path / "out" / "failures.log").read_text()
    # Where it happened is still to be read.
    assert "in fail" in log
    assert traces(tmp_path / "out", NAME) == []


def test_patients_of_hashed_slides_are_hashed_and_still_belong_together(make_slide: MakeSlide, tmp_path: Path) -> None:
    rows = ["slide,patient_id"]
    for number in range(4):
        make_slide(f"s{number}", TISSUE)
        rows.append(f"s{number}.tif,{NAME}-{number // 2}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    extract([tmp_path / "list.csv"], tmp_path / "out", settings=HASHED, folds=2)
    found = table(tmp_path / "out").rows
    assert traces(tmp_path / "out", NAME) == []
    patients = found.groupby("slide_id")["patient_id"].unique().map(list).to_dict()
    assert patients == {hash_slide_id(f"s{n}"): [hash_slide_id(f"{NAME}-{n // 2}")] for n in range(4)}
    assert set(found.groupby("patient_id")["split"].nunique()) == {1}


def test_a_resumed_run_knows_hashed_slides_again(make_slide: MakeSlide, tmp_path: Path) -> None:
    one, out = make_slide("one", TISSUE), tmp_path / "out"
    extract([one], out, settings=HASHED)
    before = contents(out)
    result = extract([one], out, settings=HASHED, existing="resume")
    assert [outcome.status for outcome in result.outcomes] == ["skipped"]
    assert contents(out) == before


def test_a_slide_of_the_same_name_that_comes_later_leaves_the_first_its_name_and_rows(
    make_slide: MakeSlide, tmp_path: Path
) -> None:
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
    left, right = make_slide("left/one", TISSUE), make_slide("right/one", TISSUE, seed=1)
    out = tmp_path / "out"
    extract([left], out)
    before = contents(out)
    result = extract([right, left], out, existing="resume")
    assert [(outcome.slide_id, outcome.status) for outcome in result.outcomes] == [
        ("right_one", "done"),
        ("one", "skipped"),
    ]
    after = contents(out)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"patches.parquet", "slides.csv"}
    assert table(out).rows["slide_id"].value_counts().to_dict() == {"one": 12, "right_one": 12}


@pytest.mark.parametrize("settings", [SMALL, HASHED])
def test_a_slide_that_moved_is_not_cut_again(make_slide: MakeSlide, tmp_path: Path, settings: ExtractSettings) -> None:
    one, out = make_slide("one", TISSUE), tmp_path / "out"
    extract([one], out, settings=settings)
    before = contents(out)
    (tmp_path / "new").mkdir()
    moved = one.rename(tmp_path / "new" / "one.tif")
    result = extract([moved], out, settings=settings, existing="resume")
    assert [outcome.status for outcome in result.outcomes] == ["skipped"]
    after = contents(out)
    assert {name for name in before if after[name] != before[name]} == {"slides.csv"}
    assert set(after) == set(before)
    assert str(moved) in (out / "slides.csv").read_text()


def test_folders_and_lists_are_searched_and_named_as_one_cohort(make_slide: MakeSlide, tmp_path: Path) -> None:
    for name in ("slides/a", "slides/b", "more"):
        (tmp_path / name).mkdir(parents=True)
    for seed, name in enumerate(("slides/a/one", "slides/b/one", "slides/b/two", "more/three")):
        make_slide(name, TISSUE, seed=seed)
    make_slide("slides/b/two_mask")
    (tmp_path / "slides" / "b" / "two_mask.tif").rename(tmp_path / "slides" / "b" / "two_mask.tiff")
    (tmp_path / "more" / "list.csv").write_text(
        "slide,slide_id,patient_id\nthree.tif,third,P3\n../slides/b/two.tif,,P2\n"
    )
    extract([tmp_path / "slides", tmp_path / "more" / "list.csv"], tmp_path / "out")
    rows = table(tmp_path / "out").rows
    assert rows.groupby("slide_id")["patient_id"].unique().map(list).to_dict() == {
        "a_one": ["a_one"],
        "b_one": ["b_one"],
        "third": ["P3"],
        "two": ["P2"],
    }
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [slide["path"] for slide in run["slides"]] == [
        str(tmp_path / name) for name in ("slides/a/one.tif", "slides/b/one.tif", "slides/b/two.tif", "more/three.tif")
    ]
