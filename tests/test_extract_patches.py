"""From slides and outlines to a folder of patches, and what a second run makes of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image

from tests.conftest import contents
from wsi_maxmin.annotations import read_asap_xml
from wsi_maxmin.cohort import CohortResult, Existing
from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.extract_inputs import ExtractInputs
from wsi_maxmin.extraction import ExtractSettings
from wsi_maxmin.geometry import Box
from wsi_maxmin.patches import PatchTable, read_patch_table, write_patch_table
from wsi_maxmin.pipelines.extract_patches import extract_patches
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import open_slide

Paint = Callable[..., np.ndarray]
SMALL = ExtractSettings(patch_px=64)
TISSUE = (128, 64, 256, 192)
# Covers one patch, three quarters of the next and an eighth of a third.
TUMOUR = (192, 128, 120, 64)


def outline(path: Path, x: int, y: int, width: int, height: int) -> Path:
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(corners))
    path.write_text(
        f'<ASAP_Annotations><Annotations><Annotation Name="A" Type="Polygon" PartOfGroup="Tumor"><Coordinates>{points}'
        "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    )
    return path


def extract(
    slides: Sequence[Path],
    out: Path,
    *,
    settings: ExtractSettings = SMALL,
    existing: Existing = "refuse",
    workers: int = 1,
    progress: Progress | None = None,
    **inputs: Any,
) -> CohortResult:
    given = ExtractInputs(slides=slides, **inputs)
    return extract_patches(given, out, settings=settings, existing=existing, workers=workers, progress=progress)


def table(out: Path) -> PatchTable:
    return read_patch_table(out / "patches.parquet")


def test_every_tile_with_tissue_becomes_a_row_and_an_image_of_the_slides_own_pixels(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = make_slide("one", TISSUE), tmp_path / "out"
    result = extract([path], out, settings=SMALL)
    assert result.exit_code == 0
    rows = table(out).rows
    corners = [(x, y) for y in range(64, 256, 64) for x in range(128, 384, 64)]
    assert list(zip(rows["x"], rows["y"], strict=True)) == corners
    slide = open_slide(path)
    for row in rows.itertuples():
        pixels = np.asarray(Image.open(out / row.image_path))
        np.testing.assert_array_equal(pixels, slide.read_level(0, row.x, row.y, 64, 64))
    assert len(list((out / "images").rglob("*.png"))) == 12


def test_without_annotation_the_table_says_unlabelled(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    extract([make_slide("one", TISSUE)], tmp_path / "out", settings=SMALL)
    first = table(tmp_path / "out").rows.iloc[0]
    expected = {
        "patch_id": "one_128_64",
        "slide_id": "one",
        "patient_id": "one",
        "width": 64,
        "height": 64,
        "mpp": pytest.approx(2.0),
        "patch_px": 64,
        "label": "unlabelled",
        "slide_label": "unlabelled",
        "tissue_fraction": pytest.approx(1.0, abs=0.05),
        "image_path": "images/one/one_128_64.png",
        "mask_path": "",
        "split": "",
    }
    assert {key: first[key] for key in expected} == expected
    assert np.isnan(first["tumour_fraction"])


def test_masks_and_labels_follow_the_outline(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    path, out = make_slide("one", TISSUE), tmp_path / "out"
    xml = outline(tmp_path / "any.xml", *TUMOUR)
    extract([path], out, annotations=xml, settings=ExtractSettings(patch_px=64, min_tumour=0.9))
    rows = table(out).rows.set_index("patch_id")
    assert set(rows["slide_label"]) == {"tumor"}
    drawn = np.zeros((384, 512), dtype=bool)
    drawn[128:192, 192:312] = True
    for row in rows.itertuples():
        truth = drawn[row.y : row.y + 64, row.x : row.x + 64]
        assert row.tumour_fraction == truth.mean()
        assert (row.mask_path != "") == truth.any()
        if row.mask_path:
            np.testing.assert_array_equal(np.asarray(Image.open(out / row.mask_path)), truth)
    assert rows["label"].value_counts().to_dict() == {"normal": 10, "tumor": 1, "mixed": 1}
    assert rows.loc["one_192_128", "label"] == "tumor"


def test_a_folder_of_annotations_tells_tumour_normal_and_unlabelled_slides_apart(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    slides = [make_slide(name, TISSUE) for name in ("cancer", "healthy", "unknown")]
    folder = tmp_path / "xml"
    folder.mkdir()
    outline(folder / "cancer.xml", *TUMOUR)
    (folder / "healthy.xml").write_text("<ASAP_Annotations/>")
    extract(slides, tmp_path / "out", annotations=folder, settings=SMALL)
    rows = table(tmp_path / "out").rows
    assert rows.groupby("slide_id")["slide_label"].unique().map(list).to_dict() == {
        "cancer": ["tumor"],
        "healthy": ["normal"],
        "unknown": ["unlabelled"],
    }
    assert (rows.loc[rows["slide_id"] == "healthy", "tumour_fraction"] == 0).all()


def test_another_mpp_and_stride_change_the_boxes_and_the_mask_keeps_its_place(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    settings = ExtractSettings(patch_px=32, stride_px=16, mpp=4.0, min_tissue=0.9)
    path, out = make_slide("one", TISSUE), tmp_path / "out"
    extract([path], out, annotations=outline(tmp_path / "a.xml", *TUMOUR), settings=settings)
    rows = table(out).rows
    assert set(rows["width"]) == set(rows["height"]) == {64}
    assert set(rows["mpp"]) == {4.0}
    assert set(rows["x"].diff().dropna()) >= {32}
    row = rows.set_index(["x", "y"]).loc[(160, 128)]
    mask = np.asarray(Image.open(out / row.mask_path))
    assert mask[:, 16:].all()
    assert not mask[:, :16].any()
    expected = open_slide(path).read(Box(x=160, y=128, width=64, height=64), 32, 32)
    np.testing.assert_array_equal(np.asarray(Image.open(out / row.image_path)), expected)


def test_facts_hold_settings_and_fingerprints_and_no_times(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    path = make_slide("one", TISSUE)
    extract([path], tmp_path / "out", settings=SMALL)
    facts = table(tmp_path / "out").facts
    assert facts["settings"]["patch_px"] == 64
    assert facts["slides"] == {
        "one": {
            "file": "one.tif",
            "bytes": path.stat().st_size,
            "sampled": open_slide(path).fingerprint()["sampled"],
            "size_px": [512, 384],
            "annotation": None,
            "tissue_mask": None,
        }
    }
    assert set(facts) == {"settings", "slides"}


def test_one_bad_slide_does_not_keep_the_others_from_being_done_and_resume_does_it_later(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    out, bad = tmp_path / "out", tmp_path / "bad.tif"
    slides = [make_slide("a", TISSUE), bad, tmp_path / "gone.tif", make_slide("z", TISSUE, seed=1)]
    bad.write_text("not a slide")
    first = extract(slides, out, settings=SMALL)
    assert [outcome.status for outcome in first.outcomes] == ["done", "failed", "failed", "done"]
    assert "bad.tif is not a readable slide" in first.outcomes[1].why
    assert "gone.tif" in first.outcomes[2].why
    assert first.exit_code == 1
    assert set(table(out).rows["slide_id"]) == {"a", "z"}

    for name in ("bad", "gone"):
        make_slide(name, TISSUE, seed=2)
    before = {path: path.stat().st_mtime_ns for path in (out / "images" / "a").iterdir()}
    second = extract(slides, out, settings=SMALL, existing="resume")
    assert [outcome.status for outcome in second.outcomes] == ["skipped", "done", "done", "skipped"]
    assert second.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before

    extract(slides, tmp_path / "at_once", settings=SMALL)
    assert contents(out) == contents(tmp_path / "at_once")


@pytest.mark.parametrize("content", ["", "<Annotations>"])
def test_a_slide_with_a_broken_annotation_fails_instead_of_counting_as_unlabelled(
    make_slide: Callable[..., Path], tmp_path: Path, content: str
) -> None:
    folder = tmp_path / "xml"
    folder.mkdir()
    (folder / "a.xml").write_text(content)
    slides = [make_slide("a", TISSUE), make_slide("b", TISSUE)]
    result = extract(slides, tmp_path / "out", annotations=folder, settings=SMALL)
    assert [outcome.status for outcome in result.outcomes] == ["failed", "done"]
    assert "a.xml" in result.outcomes[0].why


def test_bad_slides_alone_are_bad_usage(tmp_path: Path) -> None:
    result = extract([tmp_path / "gone.tif"], tmp_path / "out", settings=SMALL)
    assert result.exit_code == 2
    assert not (tmp_path / "out" / "patches.parquet").exists()


def test_an_interrupted_slide_is_cut_again_by_resume(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    class Interrupt(Quiet):
        @contextmanager
        def track(self, what: str, *_: object, **__: object) -> Iterator[Callable[..., None]]:
            def advance(count: int = 1, *, note: str = "") -> None:
                if what == "b":
                    raise KeyboardInterrupt

            yield advance

    slides, out = [make_slide("a", TISSUE), make_slide("b", TISSUE, seed=1)], tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        extract(slides, out, settings=SMALL, progress=Interrupt())
    result = extract(slides, out, settings=SMALL, existing="resume")
    assert [outcome.status for outcome in result.outcomes] == ["skipped", "done"]
    extract(slides, tmp_path / "at_once", settings=SMALL)
    assert contents(out) == contents(tmp_path / "at_once")


def test_the_number_of_workers_changes_no_byte(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    path = make_slide("one", TISSUE)
    for workers in (1, 2):
        extract([path], tmp_path / str(workers), settings=SMALL, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_folder_in_use_is_refused_and_left_as_it_is(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    path, out = make_slide("one", TISSUE), tmp_path / "out"
    extract([path], out, settings=SMALL)
    before = contents(out)
    with pytest.raises(OutputExistsError, match="--resume continues it, --overwrite replaces it"):
        extract([path], out, settings=SMALL)
    with pytest.raises(InputError, match="other settings; got --patch-size 32; expected --patch-size 64"):
        extract([path], out, settings=ExtractSettings(patch_px=32), existing="resume")
    assert contents(out) == before


def test_overwrite_replaces_what_a_run_wrote_and_nothing_else(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract([make_slide("one", TISSUE)], out, settings=SMALL)
    (out / "notes.txt").write_text("mine")
    (out / "images" / "mine").mkdir()
    (out / "images" / "mine" / "a.png").touch()
    (out / "previews" / "report.png").touch()
    extract([make_slide("two", TISSUE)], out, settings=SMALL, existing="overwrite")
    assert set(table(out).rows["slide_id"]) == {"two"}
    assert not (out / "images" / "one").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "images" / "mine" / "a.png").exists()
    assert (out / "previews" / "report.png").exists()
    assert not (out / "previews" / "one.png").exists()


def test_resume_keeps_patients_and_splits_that_were_filled_in_by_hand(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    out, one = tmp_path / "out", make_slide("one", TISSUE)
    extract([one], out, settings=SMALL)
    edited = table(out)
    edited.rows["patient_id"], edited.rows["split"] = "P1", "train"
    write_patch_table(out / "patches.parquet", edited)
    extract([one, make_slide("two", TISSUE)], out, settings=SMALL, existing="resume")
    rows = table(out).rows.set_index("slide_id")
    assert set(rows.loc["one", "patient_id"]) == {"P1"}
    assert set(rows.loc["one", "split"]) == {"train"}
    assert set(rows.loc["two", "patient_id"]) == {"two"}
    assert set(rows.loc["two", "split"]) == {""}


def test_an_annotation_that_came_or_changed_after_a_slide_was_done_is_not_passed_over(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "xml"
    folder.mkdir()
    arguments = {"annotations": folder, "settings": SMALL}
    extract([make_slide("one", TISSUE)], tmp_path / "out", **arguments)
    outline(folder / "one.xml", 128, 64, 64, 64)
    result = extract([tmp_path / "one.tif"], tmp_path / "out", existing="resume", **arguments)
    assert result.outcomes[0].status == "failed"
    assert "is done, but from another file" in result.outcomes[0].why


def test_an_overwrite_that_finds_no_slide_deletes_nothing(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    extract([make_slide("one", TISSUE)], tmp_path / "out", settings=SMALL)
    before = contents(tmp_path / "out")
    result = extract([tmp_path / "nope.tif"], tmp_path / "out", settings=SMALL, existing="overwrite")
    assert result.exit_code == 2
    assert contents(tmp_path / "out") == before


def test_a_slide_of_glass_is_done_and_has_no_rows(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    slides = [make_slide("glass"), make_slide("one", TISSUE)]
    result = extract(slides, tmp_path / "out", settings=SMALL)
    assert result.exit_code == 0
    both = table(tmp_path / "out")
    assert set(both.rows["slide_id"]) == {"one"}
    assert set(both.facts["slides"]) == {"glass", "one"}
    extract(slides[:1], tmp_path / "alone", settings=SMALL)
    assert table(tmp_path / "alone").rows.empty


def test_slides_of_the_same_name_keep_apart(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    slides = []
    for seed, folder in enumerate(("left", "right")):
        (tmp_path / folder).mkdir()
        slides.append(make_slide(f"{folder}/one", TISSUE, seed=seed))
    extract(slides, tmp_path / "out", settings=SMALL)
    rows = table(tmp_path / "out").rows
    assert rows["slide_id"].value_counts().to_dict() == {"left_one": 12, "right_one": 12}


def test_nothing_is_written_where_nothing_can_be_attempted(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    slides, out = [make_slide("a", TISSUE), make_slide("b", TISSUE)], tmp_path / "out"
    with pytest.raises(InputError, match=r"one file of annotations for several slides; got .*a\.xml"):
        extract(slides, out, annotations=outline(tmp_path / "a.xml", *TUMOUR))
    with pytest.raises(InputError, match=r"no such file or folder of annotations; got .*nowhere"):
        extract(slides, out, annotations=tmp_path / "nowhere")
    with pytest.raises(InputError, match="no slide given"):
        extract([], out)
    assert not out.exists()


@pytest.mark.data
def test_real_tumour_is_cut_where_a_pathologist_drew_it(data_dir: Path, tmp_path: Path) -> None:
    slides, out = data_dir / "slides", tmp_path / "out"
    xml = slides / "tumor_001_region.xml"
    settings = ExtractSettings(patch_px=256, mpp=0.486, min_tissue=0.3)
    extract([slides / "tumor_001_region.tif"], out, annotations=xml, settings=settings)
    rows = table(out).rows
    assert set(rows["label"]) == {"tumor", "mixed", "normal"}
    boxes = shapely.box(rows["x"], rows["y"], rows["x"] + rows["width"], rows["y"] + rows["height"])
    drawn = shapely.area(shapely.intersection(boxes, read_asap_xml(xml).geometry())) / 512**2
    np.testing.assert_allclose(rows["tumour_fraction"], drawn, atol=2e-3)
