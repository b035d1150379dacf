"""What each option makes of the same slide."""

import io
import json
import os
import platform
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from tests.conftest import contents
from tests.test_extract_patches import SMALL, TISSUE, TUMOUR, extract, outline, table
from tests.test_tiff_reader import write_jpeg
from wsi_maxmin import formats, stores
from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.extraction import ExtractSettings
from wsi_maxmin.formats.jpeg import encode_jpeg
from wsi_maxmin.geometry import Box
from wsi_maxmin.progress import Quiet
from wsi_maxmin.readers import open_slide

MakeSlide = Callable[..., Path]
FORMS = [
    (form, store)
    for form in formats.plugins.names()
    for store in stores.plugins.names()
    if (form, store) != ("none", "shard")
]


class Listener(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def part(out: Path, row: pd.Series, kind: str) -> bytes:
    """Return the bytes of a patch's image or mask, from where the table says that they are."""
    data = (out / row[f"{kind}_path"]).read_bytes()
    return data[row[f"{kind}_offset"] :][: row[f"{kind}_bytes"]]


def facts_of(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[[name for name in rows if not name.startswith(("image_", "mask_"))]]


@pytest.fixture(scope="module")
def jpeg_slide(tmp_path_factory: pytest.TempPathFactory, stained: Callable[..., np.ndarray]) -> Path:
    """Return a slide of 512×384 px in JPEG tiles of 64 px."""
    return write_jpeg(tmp_path_factory.mktemp("slide") / "one.tif", stained(512, 384, TISSUE))


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, jpeg_slide: Path) -> dict[tuple[str, str], Path]:
    """Return the folders of one slide in every format and store."""
    root = tmp_path_factory.mktemp("forms")
    xml = outline(root / "one.xml", *TUMOUR)
    for form, store in FORMS:
        settings = replace(SMALL, format=form, store=store, shard_patches=5)
        result = extract([jpeg_slide], root / form / store, settings=settings, annotations=xml, slide_mpp=2.0)
        assert result.exit_code == 0
    return {(form, store): root / form / store for form, store in FORMS}


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_format_and_store_change_nothing_but_where_bytes_are(
    cut: dict[tuple[str, str], Path], form: tuple[str, str]
) -> None:
    plain, rows = table(cut["png", "files"]).rows, table(cut[form]).rows
    pd.testing.assert_frame_equal(facts_of(rows), facts_of(plain))
    assert set(rows["image_format"]) == {form[0]}
    assert (rows["mask_path"] != "").sum() == 2
    for (_, one), (_, other) in zip(plain.iterrows(), rows.iterrows(), strict=True):
        assert (one["mask_path"] == "") == (other["mask_path"] == "")
        if one["mask_path"]:
            assert part(cut["png", "files"], one, "mask") == part(cut[form], other, "mask")


@pytest.mark.parametrize("form", [form for form in FORMS if form[0] != "none"], ids="-".join)
def test_images_are_the_slides_pixels_in_every_form(
    cut: dict[tuple[str, str], Path], form: tuple[str, str], jpeg_slide: Path
) -> None:
    slide = open_slide(jpeg_slide)
    for _, row in table(cut[form]).rows.iterrows():
        data, pixels = part(cut[form], row, "image"), slide.read_level(0, row["x"], row["y"], 64, 64)
        expected = {"jpeg": encode_jpeg(pixels, 90), "raw-jpeg": slide.jpeg(0, row["x"], row["y"], 64, 64)}
        if form[0] in expected:
            assert data == expected[form[0]]
        if form[0] != "jpeg":
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_without_a_format_only_masks_are_stored(cut: dict[tuple[str, str], Path]) -> None:
    out = cut["none", "files"]
    rows = table(out).rows
    assert (rows["image_path"] == "").all()
    assert (rows["image_bytes"] == 0).all()
    assert not (out / "images").exists()
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.png")} == {
        "previews/one.png",
        *rows.loc[rows["mask_path"] != "", "mask_path"],
    }


@pytest.mark.parametrize("form", ["png", "jpeg", "raw-jpeg"])
def test_shards_hold_what_the_table_says_under_the_patches_names(cut: dict[tuple[str, str], Path], form: str) -> None:
    out = cut[form, "shard"]
    rows = table(out).rows
    assert rows["image_path"].value_counts().to_dict() == {
        f"shards/one/one-0000{number}.tar": patches for number, patches in enumerate((5, 5, 2))
    }
    for name, among in rows.groupby("image_path"):
        with tarfile.open(out / name) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        suffix = ".png" if form == "png" else ".jpg"
        for _, row in among.iterrows():
            assert members.pop(row["patch_id"] + suffix) == part(out, row, "image")
            if row["mask_path"]:
                assert row["mask_path"] == name
                assert members.pop(row["patch_id"] + ".mask.png") == part(out, row, "mask")
            told = json.loads(members.pop(row["patch_id"] + ".json"))
            assert told == {key: row[key] for key in told}
            assert {"x", "y", "label", "slide_label", "tissue_fraction", "tumour_fraction"} <= set(told)
        assert not members


def test_no_image_cannot_go_into_shards() -> None:
    with pytest.raises(InputError, match="nothing to store; got --format none, --store shard; leave --store out"):
        ExtractSettings(format="none", store="shard")


def test_patches_that_are_no_tiles_of_the_slide_are_counted(jpeg_slide: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, format="raw-jpeg", stride_px=32, min_tissue=1.0)
    listener = Listener()
    extract([jpeg_slide], tmp_path / "out", settings=settings, slide_mpp=2.0, progress=listener)
    formats_of = table(tmp_path / "out").rows["image_format"].value_counts()
    assert formats_of["raw-jpeg"] > 0 < formats_of["jpeg"]
    copied, patches, again = formats_of["raw-jpeg"], formats_of.sum(), formats_of["jpeg"]
    assert listener.said[-1] == (
        f"one: {copied} of {patches} patches are copies of the slide's own tiles, "
        f"{again} are none and were compressed at quality 95"
    )


def test_only_patches_in_the_region_are_cut(make_slide: MakeSlide, tmp_path: Path) -> None:
    settings = replace(SMALL, region=Box(x=190, y=0, width=130, height=200))
    extract([make_slide("one", TISSUE)], tmp_path / "out", settings=settings)
    rows = table(tmp_path / "out").rows
    assert list(zip(rows["x"], rows["y"], strict=True)) == [(192, 64), (256, 64), (192, 128), (256, 128)]
    assert extract([tmp_path / "one.tif"], tmp_path / "out", settings=settings, existing="resume").exit_code == 0


def test_a_mask_image_gives_what_the_outline_gives_that_it_was_drawn_from(
    make_slide: MakeSlide, tmp_path: Path
) -> None:
    slides = [make_slide("one", TISSUE), make_slide("two", TISSUE, seed=1)]
    for name in ("xml", "masks"):
        (tmp_path / name).mkdir()
    outline(tmp_path / "xml" / "one.xml", *TUMOUR)
    (tmp_path / "xml" / "two.xml").write_text("<ASAP_Annotations/>")
    x, y, width, height = TUMOUR
    drawn = np.zeros((384, 512), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "masks" / "two_mask.tif", drawn, tile=(64, 64), compression="deflate")
    drawn[y : y + height, x : x + width] = 255
    tifffile.imwrite(tmp_path / "masks" / "one_mask.tif", drawn, tile=(64, 64), compression="deflate")
    extract(slides, tmp_path / "by_xml", annotations=tmp_path / "xml")
    extract(slides, tmp_path / "by_mask", masks=tmp_path / "masks")
    pd.testing.assert_frame_equal(table(tmp_path / "by_mask").rows, table(tmp_path / "by_xml").rows)
    assert len(contents(tmp_path / "by_xml" / "masks")) == 2
    assert contents(tmp_path / "by_mask" / "masks") == contents(tmp_path / "by_xml" / "masks")


def test_a_given_tissue_mask_decides_and_a_slide_without_one_fails(make_slide: MakeSlide, tmp_path: Path) -> None:
    slides, masks = [make_slide("one", TISSUE), make_slide("two", TISSUE)], tmp_path / "tissue"
    masks.mkdir()
    tissue = np.zeros((48, 64), dtype=np.uint8)
    tissue[:16, :8] = 1
    Image.fromarray(tissue).save(masks / "one_tissue.png")
    result = extract(slides, tmp_path / "out", tissue_masks=masks)
    rows = table(tmp_path / "out").rows
    assert list(zip(rows["slide_id"], rows["x"], rows["y"], strict=True)) == [("one", 0, 0), ("one", 0, 64)]
    assert [outcome.status for outcome in result.outcomes] == ["done", "failed"]
    assert f"two has no tissue mask; got {masks}; expected two_tissue.png, two.png, or" in result.outcomes[1].why


def test_a_tissue_mask_may_lie_beside_its_slide(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide("one", TISSUE)
    tissue = np.zeros((384, 512), dtype=np.uint8)
    tissue[:64, :64] = 1
    tifffile.imwrite(tmp_path / "one_tissue.tif", tissue, tile=(64, 64))
    extract([path], tmp_path / "out", tissue_masks=tmp_path)
    rows = table(tmp_path / "out").rows
    assert list(zip(rows["x"], rows["y"], strict=True)) == [(0, 0)]


def test_a_group_that_is_given_a_meaning_on_resume_mends_its_slide(make_slide: MakeSlide, tmp_path: Path) -> None:
    path, out = make_slide("one", TISSUE), tmp_path / "out"
    xml = outline(tmp_path / "one.xml", *TUMOUR)
    xml.write_text(xml.read_text().replace('"Tumor"', '"Odd"'))
    failed = extract([path], out, annotations=xml)
    assert "--group 'Odd=tumour'" in failed.outcomes[0].why
    settings = replace(SMALL, groups=(("Odd", "tumour"),))
    assert extract([path], out, annotations=xml, settings=settings, existing="resume").exit_code == 0
    assert table(out).rows["tumour_fraction"].sum() == 120 * 64 / 64**2


def test_a_slide_without_annotation_may_be_said_to_be_normal(make_slide: MakeSlide, tmp_path: Path) -> None:
    extract([make_slide("one", TISSUE)], tmp_path / "out", settings=replace(SMALL, without_annotation="normal"))
    rows = table(tmp_path / "out").rows
    assert set(rows["label"]) == set(rows["slide_label"]) == {"normal"}
    assert set(rows["tumour_fraction"]) == {0.0}
    assert set(rows["mask_path"]) == {""}


def test_on_a_partly_annotated_slide_no_tumour_does_not_mean_normal(make_slide: MakeSlide, tmp_path: Path) -> None:
    slides = [make_slide("partly", TISSUE), make_slide("wholly", TISSUE)]
    (tmp_path / "xml").mkdir()
    for slide in slides:
        outline(tmp_path / "xml" / f"{slide.stem}.xml", *TUMOUR)
    settings = replace(SMALL, partly_annotated=("partly",))
    listener = Listener()
    extract(slides, tmp_path / "out", annotations=tmp_path / "xml", settings=settings, progress=listener)
    rows = table(tmp_path / "out").rows
    counts = {name: among["label"].value_counts().to_dict() for name, among in rows.groupby("slide_id")}
    assert counts == {"partly": {"unlabelled": 10, "tumor": 2}, "wholly": {"normal": 10, "tumor": 2}}
    assert set(rows["slide_label"]) == {"tumor"}
    assert ["partly annotated" in line for line in listener.said] == [True, False]


def test_a_picture_a_slide_is_drawn_unless_it_is_not_wanted(make_slide: MakeSlide, tmp_path: Path) -> None:
    slides = [make_slide("one", TISSUE), make_slide("two", TISSUE)]
    extract(slides, tmp_path / "with")
    extract(slides, tmp_path / "without", settings=replace(SMALL, preview=False))
    with_them, without = contents(tmp_path / "with"), contents(tmp_path / "without")
    assert with_them.keys() - without.keys() == {"previews/one.png", "previews/two.png"}
    assert without.keys() <= with_them.keys()


def test_a_slide_behind_a_url_gives_what_its_file_gives(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide("one", TISSUE)
    fsspec.filesystem("memory").pipe("/extract/one.tif", path.read_bytes())
    result = extract(["memory://extract/one.tif"], tmp_path / "by_url")
    extract([path], tmp_path / "by_path")
    assert result.exit_code == 0
    by_url, by_path = table(tmp_path / "by_url"), table(tmp_path / "by_path")
    pd.testing.assert_frame_equal(by_url.rows, by_path.rows)
    assert by_url.facts == by_path.facts
    assert contents(tmp_path / "by_url" / "images") == contents(tmp_path / "by_path" / "images")
    assert "memory://extract/one.tif" in (tmp_path / "by_url" / "slides.csv").read_text()
    assert extract(["memory://extract/one.tif"], tmp_path / "by_url", existing="resume").exit_code == 0


def test_a_second_run_into_the_same_folder_is_told_who_writes_there(make_slide: MakeSlide, tmp_path: Path) -> None:
    path, out = make_slide("one", TISSUE), tmp_path / "out"
    refused: list[str] = []

    class Second(Quiet):
        @contextmanager
        def track(self, *_: object, **__: object) -> Iterator[Callable[..., None]]:
            """Start a second run in the midst of the first."""
            for existing in ("refuse", "resume", "overwrite"):
                with pytest.raises(OutputExistsError) as error:
                    extract([path], out, existing=existing)
                refused.append(str(error.value))
            yield lambda *_, **__: None

    assert extract([path], out, progress=Second()).exit_code == 0
    assert len(refused) == 3
    for message in refused:
        assert f"another run is writing to {out}; got pid {os.getpid()} on {platform.node()}" in message
    extract([path], tmp_path / "alone")
    assert contents(out) == contents(tmp_path / "alone")


def test_a_slides_mpp_reaches_the_table_and_the_list_of_slides(make_slide: MakeSlide, tmp_path: Path) -> None:
    make_slide("one", TISSUE)
    make_slide("two", TISSUE)
    (tmp_path / "list.csv").write_text("slide,mpp\none.tif,1\ntwo.tif,1\n")
    (tmp_path / "overrides.csv").write_text("slide,mpp\ntwo,4\n")
    extract([tmp_path / "list.csv"], tmp_path / "out", overrides=tmp_path / "overrides.csv")
    rows = table(tmp_path / "out").rows
    assert rows.groupby("slide_id")["mpp"].unique().map(list).to_dict() == {"one": [1.0], "two": [4.0]}
    listed = pd.read_csv(tmp_path / "out" / "slides.csv").set_index("slide_id")
    assert listed["mpp"].to_dict() == {"one": 1.0, "two": 4.0}


def test_another_mpp_on_resume_mends_the_slides_that_failed_and_leaves_those_that_are_done(
    make_slide: MakeSlide, tmp_path: Path, stained: Callable[..., np.ndarray], write_pyramid: Callable[..., Path]
) -> None:
    mute = write_pyramid(tmp_path / "mute.tif", [stained(512, 384, TISSUE)], None)
    slides, out = [make_slide("one", TISSUE), mute], tmp_path / "out"
    first = extract(slides, out)
    assert [outcome.status for outcome in first.outcomes] == ["done", "failed"]
    second = extract(slides, out, slide_mpp=1.0, existing="resume")
    assert [outcome.status for outcome in second.outcomes] == ["skipped", "done"]
    rows = table(out).rows
    assert rows.groupby("slide_id")["mpp"].unique().map(list).to_dict() == {"one": [2.0], "mute": [1.0]}
    listed = pd.read_csv(out / "slides.csv").set_index("slide_id")["mpp"]
    assert np.isnan(listed["one"])
    assert listed["mute"] == 1.0


def test_an_overwrite_that_finds_no_slide_changes_neither_settings_nor_folds(
    make_slide: MakeSlide, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    extract([make_slide("one", TISSUE), make_slide("two", TISSUE)], out, folds=2)
    before, facts = contents(out), json.loads((out / "run.json").read_text())["settings"]
    gone, other = [tmp_path / f"gone_{number}.tif" for number in range(3)], replace(SMALL, patch_px=32)
    assert extract(gone, out, settings=other, folds=3, existing="overwrite").exit_code == 2
    assert contents(out) == before
    assert json.loads((out / "run.json").read_text())["settings"] == facts


def test_an_overwrite_that_breaks_off_before_its_first_slide_is_resumed_as_what_it_is(
    make_slide: MakeSlide, tmp_path: Path
) -> None:
    class Interrupt(Quiet):
        def say(self, message: str) -> None:
            raise KeyboardInterrupt(message)

    slides, out = [make_slide("one", TISSUE)], tmp_path / "out"
    extract(slides, out)
    (tmp_path / "splits.csv").write_text("slide,split\nother,test\n")
    options = {"settings": replace(SMALL, patch_px=32), "splits": tmp_path / "splits.csv"}
    with pytest.raises(KeyboardInterrupt):
        extract(slides, out, existing="overwrite", progress=Interrupt(), **options)
    extract(slides, out, existing="resume", **options)
    extract(slides, tmp_path / "at_once", **options)
    assert contents(out) == contents(tmp_path / "at_once")


def test_an_overwrite_forgets_earlier_failures(make_slide: MakeSlide, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract([make_slide("one", TISSUE), tmp_path / "gone.tif"], out)
    assert (out / "failures.log").is_file()
    extract([tmp_path / "one.tif"], out, existing="overwrite")
    assert not (out / "failures.log").exists()


def test_what_acts_on_nothing_may_differ_on_resume(make_slide: MakeSlide, tmp_path: Path) -> None:
    slide, out = make_slide("a", TISSUE), tmp_path / "out"
    extract([slide], out)
    other = replace(SMALL, jpeg_quality=50, shard_patches=7)
    (outcome,) = extract([slide], out, settings=other, existing="resume").outcomes
    assert outcome.status == "skipped"
    for settings in (replace(SMALL, format="jpeg"), replace(SMALL, store="shard")):
        assert {"jpeg_quality", "shard_patches"} & set(settings.to_json())


def test_annotations_of_no_slide_are_said(make_slide: MakeSlide, tmp_path: Path) -> None:
    listener = Listener()
    for name in ("a", "b", "c"):
        outline(tmp_path / f"{name}.xml", *TUMOUR)
    extract([make_slide("a", TISSUE)], tmp_path / "out", annotations=tmp_path, progress=listener)
    assert "2 files of annotations are of no slide that is given, first b.xml" in listener.said
