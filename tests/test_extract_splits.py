"""Splits and folds of a table of patches: by slide or patient, never by patch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import contents
from tests.test_extract_options import Listener
from tests.test_extract_patches import SMALL, TISSUE, TUMOUR, extract, outline, table
from wsi_maxmin.errors import InputError

MakeSlide = Callable[..., Path]


def per_slide(out: Path, column: str) -> dict[str, list[str]]:
    return table(out).rows.groupby("slide_id")[column].unique().map(list).to_dict()


@pytest.fixture
def cohort(make_slide: MakeSlide, tmp_path: Path) -> list[Path]:
    """Return slides a to f; a list gives them to four patients, annotations say that a, b and f hold tumour."""
    (tmp_path / "xml").mkdir()
    slides = [make_slide(name, TISSUE, seed=seed) for seed, name in enumerate("abcdef")]
    rows = "".join(f"{name}.tif,{patient}\n" for name, patient in zip("abcdef", "PPQQRS", strict=True))
    (tmp_path / "list.csv").write_text("slide,patient_id\n" + rows)
    for name in "abf":
        outline(tmp_path / "xml" / f"{name}.xml", *TUMOUR)
    return slides


def test_a_list_of_splits_fills_in_splits_and_patients_and_what_does_not_fit_is_said(
    make_slide: MakeSlide, tmp_path: Path
) -> None:
    slides = [make_slide(name, TISSUE) for name in ("a", "b", "c")]
    (tmp_path / "splits.csv").write_text("slide,split,patient_id\na,train,P\nb.tif,train,P\nz,test,Q\n")
    listener = Listener()
    extract(slides, tmp_path / "out", splits=tmp_path / "splits.csv", progress=listener)
    assert per_slide(tmp_path / "out", "split") == {"a": ["train"], "b": ["train"], "c": [""]}
    assert per_slide(tmp_path / "out", "patient_id") == {"a": ["P"], "b": ["P"], "c": ["c"]}
    assert "the splits name 1 slides that are not among those given, first z" in listener.said
    assert "c is in no split" in listener.said


def test_folds_keep_patients_whole_and_spread_tumour(cohort: list[Path], tmp_path: Path) -> None:
    extract([tmp_path / "list.csv"], tmp_path / "out", annotations=tmp_path / "xml", folds=2)
    split = {slide: folds[0] for slide, folds in per_slide(tmp_path / "out", "split").items()}
    assert all(len(folds) == 1 for folds in per_slide(tmp_path / "out", "split").values())
    assert (split["a"], split["c"]) == (split["b"], split["d"])
    assert {split["a"], split["f"]} == {split["c"], split["e"]} == {"fold_0", "fold_1"}


def test_folds_depend_on_the_seed_and_neither_on_the_order_nor_on_workers_nor_on_an_interruption(
    cohort: list[Path], tmp_path: Path
) -> None:
    def folds(name: str, slides: list[Path], **options: object) -> dict[str, bytes]:
        extract(slides, tmp_path / name, folds=3, **options)
        return contents(tmp_path / name)

    first = folds("first", cohort)
    assert folds("other_way", cohort[::-1], workers=2) == first
    extract(cohort[3:], tmp_path / "in_two", folds=3)
    assert folds("in_two", cohort, existing="resume") == first
    seeds = [per_slide(tmp_path / "first", "split")]
    for seed in (1, 2):
        folds(f"seed_{seed}", cohort, settings=replace(SMALL, seed=seed))
        seeds.append(per_slide(tmp_path / f"seed_{seed}", "split"))
    assert seeds[0] != seeds[1] or seeds[0] != seeds[2]


def test_splits_of_the_grid_may_change_on_resume_and_no_patch_is_cut_again(cohort: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(cohort[:2], out)
    images = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    for name, text in (("one", "a,train\nb,test\n"), ("two", "a,valid\n")):
        (tmp_path / f"{name}.csv").write_text("slide,split\n" + text)
    found = []
    for inputs in ({"splits": tmp_path / "one.csv"}, {"splits": tmp_path / "two.csv"}, {"folds": 2}):
        extract(cohort[:2], out, existing="resume", **inputs)
        found.append({slide: splits[0] for slide, splits in per_slide(out, "split").items()})
    assert found[:2] == [{"a": "train", "b": "test"}, {"a": "valid", "b": ""}]
    assert set(found[2].values()) == {"fold_0", "fold_1"}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == images


def test_splits_that_decide_what_is_drawn_may_not_change(cohort: list[Path], tmp_path: Path) -> None:
    settings = replace(SMALL, protocol="p512", patch_px=512)
    extract(cohort[:1], tmp_path / "out", settings=settings)
    (tmp_path / "splits.csv").write_text("slide,split\na,train\n")
    with pytest.raises(InputError, match="was started with other settings; got --splits "):
        extract(cohort[:1], tmp_path / "out", settings=settings, existing="resume", splits=tmp_path / "splits.csv")


def test_more_folds_than_patients_are_refused_before_anything_is_cut(cohort: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few groups for so many folds; got 4 patients or slides, 5 folds"):
        extract([tmp_path / "list.csv"], tmp_path / "out", folds=5)
    assert not (tmp_path / "out").exists()


def test_folds_of_a_resumed_run_count_the_patients_of_earlier_ones(cohort: list[Path], tmp_path: Path) -> None:
    extract(cohort[:2], tmp_path / "out", folds=2)
    assert extract(cohort[2:3], tmp_path / "out", folds=3, existing="resume").exit_code == 0
    assert len(set(table(tmp_path / "out").rows["split"])) == 3


def test_where_too_few_slides_can_be_read_for_the_folds_the_others_still_get_their_table(
    cohort: list[Path], tmp_path: Path
) -> None:
    cohort[1].rename(tmp_path / "lost.tif")
    listener = Listener()
    result = extract(cohort[:3], tmp_path / "out", folds=3, progress=listener)
    assert [outcome.status for outcome in result.outcomes] == ["done", "failed", "done"]
    assert per_slide(tmp_path / "out", "split") == {"a": [""], "c": [""]}
    assert any("too few groups for so many folds" in line for line in listener.said)
    (tmp_path / "lost.tif").rename(cohort[1])
    assert extract(cohort[:3], tmp_path / "out", folds=3, existing="resume").exit_code == 0
    extract(cohort[:3], tmp_path / "whole", folds=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
