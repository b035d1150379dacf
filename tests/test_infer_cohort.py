"""Heatmaps of many slides: which ones, what they are called, which tiles of them, and what a dry run foresees."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import zarr
from click.testing import CliRunner
from PIL import Image

from tests.conftest import contents
from tests.test_extract_names import traces
from tests.test_extract_options import Listener
from wsi_maxmin.cli import group
from wsi_maxmin.cohort import CohortResult, Existing
from wsi_maxmin.engines.torch import TorchEngine
from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.geometry import Box
from wsi_maxmin.pipelines import _one_slide as one_slide
from wsi_maxmin.pipelines import plan_heatmaps as dry_module
from wsi_maxmin.pipelines._dry_run import DryRun, Expected
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, load_for_slides, slide_result
from wsi_maxmin.pipelines.plan_heatmaps import plan_heatmaps
from wsi_maxmin.progress import Advance, Quiet
from wsi_maxmin.readers import open_slide
from wsi_maxmin.slide_list import hash_slide_id
from wsi_maxmin.tilemaps import TileMaps
from wsi_maxmin.tiling import make_grid, touching
from wsi_maxmin.time_left import in_words, showing_time_left
from wsi_maxmin.tissue import find_tissue

pytestmark = pytest.mark.usefixtures("one_thread")

MakeSlide = Callable[..., Path]
TISSUE = (64, 64, 384, 256)
NAME = "Erika-Mustermann"
DRAW = one_slide.picture.write


@pytest.fixture(autouse=True)
def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep the titles of pictures instead of drawing them, which takes longer than all else here."""
    drawn: list[str] = []
    monkeypatch.setattr(one_slide.picture, "write", lambda *_, title, **__: drawn.append(title))
    return drawn


@pytest.fixture
def settings(tiny_model: Path) -> InferSettings:
    return InferSettings(model=str(tiny_model), overlap=0.0, engine="torch", precision="fp32")


@pytest.fixture
def make(
    tmp_path: Path,
    stained: Callable[..., np.ndarray],
    make_pyramid: Callable[..., list[np.ndarray]],
    write_pyramid: Callable[..., Path],
) -> MakeSlide:
    """Return a function that writes a slide of 512×384 px with a rectangle of tissue, two levels."""

    def write(name: str, mpp: float | None = 0.25, seed: int = 0) -> Path:
        path = tmp_path / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_pyramid(path, make_pyramid(stained(512, 384, TISSUE, seed=seed), 2), mpp)

    return write


def infer(
    slides: list[Path], out: Path, settings: InferSettings, existing: Existing = "refuse", **options: Any
) -> CohortResult:
    return infer_slide(slides, out, settings=settings, device="cpu", existing=existing, **options)


def statuses(result: CohortResult) -> dict[str, str]:
    return {outcome.slide_id: outcome.status for outcome in result.outcomes}


def listed(out: Path) -> dict[str, dict[str, str]]:
    with (out / "slides.csv").open() as file:
        return {row["slide_id"]: row for row in csv.DictReader(file)}


def corners(out: Path, slide_id: str) -> set[tuple[int, int]]:
    return {(box.x, box.y) for box in TileMaps(out / slide_id / "tilemaps.zarr").grid.boxes()}


def channels(out: Path, slide_id: str) -> np.ndarray:
    return np.asarray(zarr.open_group(out / slide_id / "heatmap.ome.zarr", mode="r")["0"][:])


# Which slides, and what they are called.


def test_folders_lists_and_files_are_one_cohort(make: MakeSlide, tmp_path: Path, settings: InferSettings) -> None:
    for seed, name in enumerate(("slides/a/one", "slides/b/one", "more/three", "four")):
        make(name, seed=seed)
    make("slides/b/one_mask")
    (tmp_path / "more" / "list.csv").write_text("slide,slide_id,patient_id\nthree.tif,third,P3\n")
    sources = [tmp_path / "slides", tmp_path / "more" / "list.csv", tmp_path / "four.tif", tmp_path / "four.tif"]
    result = infer(sources, tmp_path / "out", settings)
    assert statuses(result) == dict.fromkeys(("a_one", "b_one", "third", "four"), "done")
    assert {name: Path(row["path"]) for name, row in listed(tmp_path / "out").items()} == {
        "a_one": tmp_path / "slides" / "a" / "one.tif",
        "b_one": tmp_path / "slides" / "b" / "one.tif",
        "third": tmp_path / "more" / "three.tif",
        "four": tmp_path / "four.tif",
    }
    assert all((tmp_path / "out" / name / "heatmap.ome.zarr").is_dir() for name in statuses(result))


def test_maps_that_were_written_among_the_slides_are_not_taken_for_slides(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    slides, out = make("slides/one").parent, tmp_path / "slides" / "heat"
    coarse = replace(settings, heatmap_mpp=0.25)
    assert statuses(infer([slides], out, coarse, exports=["tiff"])) == {"one": "done"}
    assert (out / "one" / "tumour.tif").is_file()
    assert statuses(infer([slides], out, coarse, "resume", exports=["tiff"])) == {"one": "skipped"}
    assert set(listed(out)) == {"one"}
    # Versions that mapped their own exports listed them.
    with (out / "slides.csv").open("a") as file:
        file.write(f"tumour,{out / 'one' / 'tumour.tif'},,tumour\n")
    assert statuses(infer([slides], out, coarse, "resume")) == {"one": "skipped"}
    assert set(listed(out)) == {"one", "tumour"}


def test_a_slide_that_comes_later_does_not_rename_the_first(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    left, right, out = make("left/one"), make("right/one", seed=1), tmp_path / "out"
    infer([left], out, settings)
    before = contents(out / "one")
    result = infer([right, left], out, settings, "resume")
    assert statuses(result) == {"right_one": "done", "one": "skipped"}
    assert contents(out / "one") == before
    assert set(listed(out)) == {"one", "right_one"}


@pytest.mark.parametrize("hashed", [False, True])
def test_a_slide_that_moved_is_not_mapped_again(
    make: MakeSlide, tmp_path: Path, settings: InferSettings, hashed: bool
) -> None:
    one, out, listener = make("one"), tmp_path / "out", Listener()
    settings, name = replace(settings, hash_slide_ids=hashed), hash_slide_id("one") if hashed else "one"
    infer([one], out, settings)
    before = contents(out / name)
    (tmp_path / "new").mkdir()
    moved = one.rename(tmp_path / "new" / "one.tif")
    assert statuses(infer([moved], out, settings, "resume", progress=listener)) == {name: "skipped"}
    assert {name: row["path"] for name, row in listed(out).items()} == {name: str(moved)}
    assert contents(out / name) == before
    said = "1 slides lie elsewhere than in the earlier run and keep their names"
    assert [line for line in listener.said if "elsewhere" in line] == [said + ("" if hashed else ", first one")]
    listener.said.clear()
    infer([moved], out, settings, "resume", progress=listener)
    assert not [line for line in listener.said if "elsewhere" in line]


def test_a_slide_that_was_copied_without_its_time_is_named_as_changed_and_not_mapped_under_another_name(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    one, out = make("one"), tmp_path / "out"
    infer([one], out, settings)
    (tmp_path / "new").mkdir()
    moved = one.rename(tmp_path / "new" / "one.tif")
    os.utime(moved, (0, 0))
    result = infer([moved], out, settings, "resume")
    assert statuses(result) == {"one": "failed"}
    assert result.outcomes[0].why.startswith("one is done, but from another file; got modified 1970-01-01")


def test_a_slide_that_failed_keeps_its_name_where_it_is_given_again(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    one, out = make("one", mpp=None), tmp_path / "out"
    assert statuses(infer([one], out, settings)) == {"one": "failed"}
    (tmp_path / "new").mkdir()
    moved = one.rename(tmp_path / "new" / "one.tif")
    assert statuses(infer([moved], out, replace(settings, slide_mpp=0.25), "resume")) == {"one": "done"}
    assert set(listed(out)) == {"one"}


def test_a_slide_behind_a_url_gets_the_map_of_the_same_file(
    make: MakeSlide, tmp_path: Path, settings: InferSettings, tiny_model: Path
) -> None:
    one, url = make("one", mpp=None), "memory://cohort/one.tif"
    fsspec.filesystem("memory").pipe("/cohort/one.tif", one.read_bytes())
    options = ["--out", tmp_path / "url", "--model", tiny_model, "--device", "cpu", "--overlap", 0, "--slide-mpp", 0.25]
    result = CliRunner().invoke(group, ["infer-slide", url, *map(str, options)])
    assert result.exit_code == 0, result.output
    infer([one], tmp_path / "file", replace(settings, slide_mpp=0.25))
    np.testing.assert_array_equal(channels(tmp_path / "url", "one"), channels(tmp_path / "file", "one"))
    assert listed(tmp_path / "url")["one"]["path"] == url


def test_a_run_of_an_earlier_version_is_resumed(make: MakeSlide, tmp_path: Path, settings: InferSettings) -> None:
    one, out = make("one"), tmp_path / "out"
    infer([one], out, settings)
    kept = json.loads((out / "one" / "run.json").read_text())
    # As they were before there were regions, levels and pseudonyms.
    names = {"command", "blend", "heatmap_mpp", "ngff", "model", "overlap", "min_tissue", "slide_mpp"}
    names |= {"engine", "precision"}
    assert set(kept["settings"]) == names
    later = {"sampled", "modified"}
    assert set(kept["slide"]) == {"file", "bytes", "size_px"} | later
    kept["slide"] = {key: value for key, value in kept["slide"].items() if key not in later}
    (out / "one" / "run.json").write_text(json.dumps(kept))
    (out / "slides.csv").unlink()
    assert statuses(infer([one], out, settings, "resume")) == {"one": "skipped"}
    assert set(listed(out)) == {"one"}


# µm per pixel of the slides.


def test_mpp_is_that_of_the_overrides_else_of_the_list_else_of_all_else_of_the_file(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    for name in "abc":
        make(name)
    (tmp_path / "list.csv").write_text("slide,mpp\na.tif,0.2\nb.tif,0.3\nc.tif,\n")
    (tmp_path / "overrides.csv").write_text("slide,mpp\na,0.4\ntpyo,1\n")

    def found(out: Path) -> list[float]:
        return [slide_result(out, name).facts["mpp"]["slide"] for name in "abc"]

    listener, overrides = Listener(), tmp_path / "overrides.csv"
    infer([tmp_path / "list.csv"], tmp_path / "one", settings, overrides=overrides, progress=listener)
    assert found(tmp_path / "one") == [0.4, 0.3, pytest.approx(0.25)]
    assert listener.said[0] == "the overrides name 1 slides that are not among those given, first tpyo"
    assert [row["mpp"] for row in listed(tmp_path / "one").values()] == ["0.4", "0.3", ""]
    infer([tmp_path / "list.csv"], tmp_path / "two", replace(settings, slide_mpp=0.5))
    assert found(tmp_path / "two") == [0.2, 0.3, 0.5]


def test_one_mpp_and_a_list_of_them_exclude_each_other(tmp_path: Path, settings: InferSettings) -> None:
    (tmp_path / "overrides.csv").write_text("slide,mpp\na,0.4\n")
    both = {"overrides": tmp_path / "overrides.csv"}
    with pytest.raises(InputError, match="slide_mpp and overrides exclude each other"):
        infer([tmp_path / "a.tif"], tmp_path / "out", replace(settings, slide_mpp=0.25), **both)
    with pytest.raises(InputError, match=r"no such file or folder of overrides; got .*gone\.csv"):
        infer([tmp_path / "a.tif"], tmp_path / "out", settings, overrides=tmp_path / "gone.csv")
    assert not (tmp_path / "out").exists()


def test_overrides_mend_what_failed_and_leave_alone_what_is_done(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    slides, out = [make("good"), make("mute", mpp=None)], tmp_path / "out"
    assert statuses(infer(slides, out, settings)) == {"good": "done", "mute": "failed"}
    (tmp_path / "overrides.csv").write_text("slide,mpp\nmute,0.25\ngood,0.4\n")
    result = infer(slides, out, settings, "resume", overrides=tmp_path / "overrides.csv")
    assert statuses(result) == {"good": "skipped", "mute": "done"}
    assert {name: row["mpp"] for name, row in listed(out).items()} == {"good": "", "mute": "0.25"}
    again = infer(slides, out, settings, "overwrite", overrides=tmp_path / "overrides.csv")
    assert statuses(again) == {"good": "done", "mute": "done"}
    assert listed(out)["good"]["mpp"] == "0.4"


# Which tiles.


def mask(path: Path, *box: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    pixels = np.zeros((384, 512), dtype=np.uint8)
    x, y, width, height = box
    pixels[y : y + height, x : x + width] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_a_given_tissue_mask_says_where_tiles_are_and_a_missing_one_fails_its_slide(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    folder = mask(tmp_path / "masks" / "one_tissue.png", 0, 0, 128, 64).parent
    result = infer([make("one"), make("two")], tmp_path / "out", settings, tissue_masks=folder)
    assert statuses(result) == {"one": "done", "two": "failed"}
    assert result.exit_code == 1
    assert result.outcomes[1].why.startswith("two has no tissue mask; got")
    assert corners(tmp_path / "out", "one") == {(0, 0), (64, 0)}
    maps = TileMaps(tmp_path / "out" / "one" / "tilemaps.zarr")
    assert maps.tissue().mask[:, :100].any()
    with pytest.raises(InputError, match="one file of tissue masks for several slides"):
        infer([make("one"), make("two")], tmp_path / "out", settings, tissue_masks=folder / "one_tissue.png")


def test_another_tissue_mask_is_not_mixed_into_what_is_done(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    one, out = make("one"), tmp_path / "out"
    given = mask(tmp_path / "masks" / "one.png", 0, 0, 128, 64)
    infer([one], out, settings, tissue_masks=given)
    assert statuses(infer([one], out, settings, "resume", tissue_masks=given)) == {"one": "skipped"}
    mask(given, 0, 0, 192, 64)
    result = infer([one], out, settings, "resume", tissue_masks=given)
    assert result.outcomes[0].why.startswith("one is done, but from another file")
    infer([one], out, settings, "overwrite", tissue_masks=given)
    assert len(corners(out, "one")) == 3


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_inside_a_region_the_map_is_that_of_the_whole_slide(
    make: MakeSlide, tmp_path: Path, settings: InferSettings, overlap: float
) -> None:
    one, settings = make("one"), replace(settings, overlap=overlap)
    region = Box(x=128, y=80, width=65, height=40)
    infer([one], tmp_path / "whole", settings)
    infer([one], tmp_path / "part", replace(settings, region=region))
    some, every = corners(tmp_path / "part", "one"), corners(tmp_path / "whole", "one")
    touching_ones = {(x, y) for x, y in every if 128 - 64 < x < 193 and 80 - 64 < y < 120}
    assert some == touching_ones < every
    whole, part = channels(tmp_path / "whole", "one"), channels(tmp_path / "part", "one")
    inside = (slice(None), slice(80 // 8, 120 // 8), slice(128 // 8, 192 // 8))
    np.testing.assert_array_equal(part[inside], whole[inside])
    assert part[3][inside[1:]].all()
    assert not part[3][:, (192 + 64) // 8 + 1 :].any()


def test_tiles_that_only_meet_a_region_at_its_edge_do_not_touch_it(make: MakeSlide) -> None:
    with open_slide(make("one")) as slide:
        grid = make_grid(slide.info, find_tissue(slide), mpp=None, tile_px=64, stride_px=48)
    for region in (Box(x=96, y=96, width=48, height=1), Box(x=-50, y=-50, width=115, height=400)):
        kept = [grid.box(row, column) for row, column in touching(grid, region).keep]
        assert kept == [
            box
            for box in grid.boxes()
            if min(box.right, region.right) > max(box.x, region.x)
            and min(box.bottom, region.bottom) > max(box.y, region.y)
        ]
        assert 0 < len(kept) < len(grid)


def test_a_region_without_tissue_is_warned_of_and_gives_an_empty_map(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    listener = Listener()
    off = replace(settings, region=Box(x=5000, y=0, width=10, height=10))
    assert infer([make("one")], tmp_path / "out", off, progress=listener).exit_code == 0
    assert "one: WARNING: no tile with tissue touches --region: nothing was looked at" in listener.said
    assert not channels(tmp_path / "out", "one").any()


def test_what_decides_the_tiles_is_not_changed_by_a_resumed_run(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    one, out = make("one"), tmp_path / "out"
    region = replace(settings, region=Box(x=0, y=0, width=100, height=100))
    infer([one], out, region)
    assert statuses(infer([one], out, region, "resume")) == {"one": "skipped"}
    others = {
        "--region 0,0,200,100": replace(settings, region=Box(x=0, y=0, width=200, height=100)),
        "--mpp 0.5": replace(region, mpp=0.5),
        "--level 0": replace(region, level=0),
        "--hash-slide-ids": replace(region, hash_slide_ids=True),
    }
    for typed, other in others.items():
        with pytest.raises(InputError, match=f"started with other settings; got {typed}; expected "):
            infer([one], out, other, "resume")
    with pytest.raises(InputError, match="started with other settings; got no --region"):
        infer([one], out, settings, "resume")


# At which µm per pixel.


@pytest.mark.parametrize(
    ("asked", "requested", "effective", "warned"),
    [
        ({"mpp": 0.5}, 0.5, 0.5, "--mpp 0.5 runs it at 0.5 µm"),
        ({"level": 1}, 0.5, 0.5, "--level 1 runs it at 0.5 µm"),
        ({"level": 0}, None, 0.25, ""),
        ({"mpp": 0.26}, 0.26, 0.25, ""),
        ({}, 0.25, 0.25, ""),
    ],
)
def test_tiles_may_have_another_resolution_than_the_models_and_that_is_warned_of(
    make: MakeSlide,
    tmp_path: Path,
    settings: InferSettings,
    asked: dict[str, float],
    requested: float | None,
    effective: float,
    warned: str,
) -> None:
    listener = Listener()
    infer([make("one")], tmp_path / "out", replace(settings, **asked), progress=listener)
    facts = slide_result(tmp_path / "out", "one").facts
    assert facts["mpp"]["requested"] == (requested and pytest.approx(requested))
    assert facts["mpp"]["effective"] == pytest.approx(effective)
    grid = TileMaps(tmp_path / "out" / "one" / "tilemaps.zarr").grid
    assert grid.box(0, 0).width == 64 * effective / 0.25
    warnings = [line for line in listener.said if "WARNING: the model was made for 0.25 µm a pixel" in line]
    assert len(warnings) == bool(warned)
    assert all(warned in line for line in warnings)


def test_level_0_is_read_as_it_is_on_slides_that_the_model_does_not_fit(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    coarse = make("coarse", mpp=1.0)
    assert infer([coarse], tmp_path / "one", settings).exit_code == 2
    assert infer([coarse], tmp_path / "two", replace(settings, level=0)).exit_code == 0
    assert slide_result(tmp_path / "two", "coarse").facts["mpp"] == {"requested": None, "slide": 1.0, "effective": 1.0}


def test_a_level_that_a_slide_lacks_fails_that_slide(make: MakeSlide, tmp_path: Path, settings: InferSettings) -> None:
    result = infer([make("one")], tmp_path / "out", replace(settings, level=2))
    assert result.outcomes[0].why == ("one has no such level; got 2; expected 0 to 1; use --mpp, which needs no level")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"mpp": 0.5, "level": 0}, "level and mpp exclude each other"),
        ({"mpp": 30.0}, "µm per pixel are out of range; got 30.0; expected 0.05 to 20"),
        ({"level": -1}, "no such level; got -1"),
    ],
)
def test_a_resolution_that_makes_no_sense_is_refused(
    tmp_path: Path, settings: InferSettings, asked: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        infer([tmp_path / "one.tif"], tmp_path / "out", replace(settings, **asked))
    assert not (tmp_path / "out").exists()


# Pseudonyms.


def test_a_hashed_name_stands_in_no_file_and_no_message(
    make: MakeSlide, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_slide.picture, "write", DRAW)
    slides = [make(f"in/{NAME}"), make(f"in/{NAME}-mute", mpp=None), tmp_path / f"{NAME}-gone.tif"]
    slides.append(tmp_path / f"{NAME}-broken.tif")
    slides[3].write_text("not a slide")
    (tmp_path / "overrides.csv").write_text(f"slide,mpp\n{NAME},0.25\n{NAME}-other,1\n")
    masks = tmp_path / "masks"
    mask(masks / f"{NAME}.png", 64, 64, 128, 128)
    options = ["--out", tmp_path / "out", "--model", tiny_model, "--device", "cpu", "--hash-slide-ids"]
    options += ["--overrides", tmp_path / "overrides.csv", "--tissue-masks", masks]
    result = CliRunner().invoke(group, ["infer-slide", *map(str, (*slides, *options))])
    assert result.exit_code == 1, result.output
    out, name = tmp_path / "out", hash_slide_id(NAME)
    assert "the overrides name 1 slides that are not among those given\n" in result.output
    assert name in result.output
    assert "Mustermann" not in result.output
    assert traces(out, "Mustermann", str(slides[0].parent)) == []
    assert slide_result(out, name).facts["mpp"]["slide"] == 0.25
    assert {row["name"] for row in listed(out).values()} == {slide.stem for slide in (*slides[:2], slides[3])}
    again = CliRunner().invoke(group, ["infer-slide", *map(str, (*slides, *options)), "--resume"])
    assert f"{name}  skipped" in again.output
    assert "Mustermann" not in again.output


def test_the_picture_and_the_heatmap_are_titled_with_the_hash(
    make: MakeSlide, tmp_path: Path, settings: InferSettings, titles: list[str]
) -> None:
    infer([make(NAME)], tmp_path / "out", replace(settings, hash_slide_ids=True))
    name = hash_slide_id(NAME)
    assert titles == [name]
    store = zarr.open_group(tmp_path / "out" / name / "heatmap.ome.zarr", mode="r")
    assert store.attrs["omero"]["name"] == name


def test_an_error_of_any_kind_is_logged_without_the_name(
    make: MakeSlide, tmp_path: Path, settings: InferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(slide: Any, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(slide.info.path))

    monkeypatch.setattr(one_slide, "plan_tiles", fail)
    result = infer([make(NAME)], tmp_path / "out", replace(settings, hash_slide_ids=True))
    assert result.exit_code == 1
    assert "Permission denied" in result.outcomes[0].why
    assert "in fail" in (tmp_path / "out" / "failures.log").read_text()
    assert traces(tmp_path / "out", NAME) == []


def test_hashed_names_are_not_mixed_with_others_in_a_folder(
    make: MakeSlide, tmp_path: Path, settings: InferSettings
) -> None:
    one, hashed = make("one"), replace(settings, hash_slide_ids=True)
    infer([one], tmp_path / "plain", settings)
    with pytest.raises(InputError, match="holds slides under their own names; got --hash-slide-ids; use another"):
        infer([one], tmp_path / "plain", hashed, "overwrite")
    infer([one], tmp_path / "hashed", hashed)
    assert statuses(infer([one], tmp_path / "hashed", hashed, "overwrite")) == {hash_slide_id("one"): "done"}
    with pytest.raises(InputError, match="holds slides under their hashed names; got no --hash-slide-ids"):
        infer([one], tmp_path / "hashed", settings, "overwrite")


# The dry run.


@pytest.fixture
def slides(make: MakeSlide, tmp_path: Path) -> list[Path]:
    """Return two slides with tissue, one without µm per pixel, and one that is none."""
    (tmp_path / "broken.tif").write_text("not a slide")
    return [make("one"), make("mute", mpp=None), make("two", seed=1), tmp_path / "broken.tif"]


@pytest.mark.parametrize("asked", [{}, {"overlap": 0.5}, {"level": 1}, {"region": Box(x=0, y=0, width=99, height=99)}])
def test_counts_and_failures_are_those_of_the_real_run(
    slides: list[Path], tmp_path: Path, settings: InferSettings, asked: dict[str, Any]
) -> None:
    settings = replace(settings, **asked)
    foreseen = plan_heatmaps(slides, settings=settings, device="cpu")
    result = infer(slides, tmp_path / "out", settings)
    for slide, outcome in zip(foreseen.slides, result.outcomes, strict=True):
        assert slide.slide_id == outcome.slide_id
        assert slide.fails == (outcome.status == "failed")
        assert (slide.remark == f"fails: {outcome.why}") == slide.fails
        assert slide.number == (0 if slide.fails else slide_result(tmp_path / "out", slide.slide_id).facts["tiles"])
        assert (slide.seconds > 0) == (slide.disk_bytes > 0) == (not slide.fails)
    assert foreseen.failed
    assert not replace(foreseen, slides=foreseen.slides[:1]).failed


def test_disk_is_foreseen_but_for_the_picture_within_a_third(
    tmp_path: Path,
    settings: InferSettings,
    monkeypatch: pytest.MonkeyPatch,
    stained: Callable[..., np.ndarray],
    write_pyramid: Callable[..., Path],
) -> None:
    monkeypatch.setattr(dry_module, "_PICTURE_BYTES", 0.0)
    large = write_pyramid(tmp_path / "large.tif", [stained(1500, 1200, (100, 100, 1300, 1000))])
    settings = replace(settings, overlap=0.5)
    foreseen = plan_heatmaps([large], settings=settings, device="cpu").slides[0].disk_bytes
    infer([large], tmp_path / "out", settings)
    files = [path for path in (tmp_path / "out" / "large").rglob("*") if path.is_file()]
    assert foreseen == pytest.approx(sum(path.stat().st_size for path in files), rel=1 / 3)


def test_time_is_that_of_the_slower_of_reading_and_model_for_each_tile(
    make: MakeSlide, settings: InferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_module._Trial, "tile_bytes", 1.0)
    monkeypatch.setattr(dry_module._Trial, "pixel_bytes", 1.0)
    monkeypatch.setattr(dry_module._Trial, "seconds", 10.0)
    one = plan_heatmaps([make("one")], settings=settings, device="cpu").slides[0]
    assert one.number == 24
    assert 240 < one.seconds < 250
    monkeypatch.setattr(dry_module._Trial, "seconds", 0.0)
    monkeypatch.setattr(dry_module, "_read_some", lambda *_: 30.0)
    one = plan_heatmaps([make("one")], settings=settings, device="cpu", readers=3).slides[0]
    assert 240 < one.seconds < 250


def _grey() -> np.ndarray:
    return np.full((64, 64, 3), 128, dtype=np.uint8)


def test_the_model_is_tried_once_and_in_whole_batches_where_a_device_computes_them(
    slides: list[Path], settings: InferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, submit = [], TorchEngine.submit

    def counted(engine: TorchEngine, images: list[np.ndarray]) -> Any:
        sizes.append(len(images))
        return submit(engine, images)

    monkeypatch.setattr(TorchEngine, "submit", counted)
    plan_heatmaps(slides, settings=settings, device="cpu", batch_size=4)
    assert sizes == [1] * 9  # the first to get ready
    sizes.clear()
    checkpoint, device = load_for_slides(settings, "cpu")
    trial = dry_module._Trial(checkpoint, TorchEngine(checkpoint, device, "fp32", 8), 9)
    trial.use([_grey(), _grey()])
    assert trial.seconds > 0 < trial.tile_bytes
    assert sizes == [9, 9]


@pytest.mark.parametrize(("device", "given", "expected"), [("cpu", 64, 1), ("cuda", None, 32), ("cuda", 48, 48)])
def test_a_whole_batch_is_what_the_device_computes_at_once(device: str, given: int | None, expected: int) -> None:
    assert dry_module._whole_batch(torch.device(device), given) == expected


def test_nothing_is_written(
    slides: list[Path], tmp_path: Path, settings: InferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    plan_heatmaps(slides, settings=settings, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))} == before


def test_a_dry_run_shows_no_hidden_name_and_goes_on_after_errors_of_any_kind(
    slides: list[Path], settings: InferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(slide: Any, *_: object) -> None:
        raise PermissionError(13, "Permission\ndenied", str(slide.info.path))

    monkeypatch.setattr(dry_module, "plan_tiles", fail)
    for given in (settings, replace(settings, hash_slide_ids=True)):
        foreseen = plan_heatmaps(slides, settings=given, device="cpu")
        assert foreseen.slides[0].remark.startswith("fails: PermissionError: [Errno 13] Permission denied")
        assert len(foreseen.table().splitlines()) == 2 + len(slides)
        assert ("broken" in foreseen.table()) != given.hash_slide_ids


def test_the_dry_run_of_the_command_prints_a_line_a_slide_and_exits_with_1_if_one_would_fail(
    slides: list[Path], tmp_path: Path, tiny_model: Path
) -> None:
    options = ["--out", tmp_path / "out", "--model", tiny_model, "--device", "cpu", "--dry-run", "--mpp", 0.5]
    for given, code in ((slides, 1), (slides[:1], 0)):
        result = CliRunner().invoke(group, ["infer-slide", *map(str, (*given, *options))])
        assert result.exit_code == code, result.output
        lines = result.stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["slide", *(path.stem for path in given), "together"]
        assert "WARNING: the model was made for 0.25 µm a pixel" in lines[1]
    assert not (tmp_path / "out").exists()


def test_the_table_of_a_dry_run_sums_up() -> None:
    slides = (Expected("a", 1000, 2e6, 30.0, "why"), Expected("b", 234, 1e6, 10.0, "", fails=True))
    lines = DryRun(slides=slides, unit="tiles", where="on cuda").table().splitlines()
    assert [line.split() for line in lines] == [
        ["slide", "tiles", "disk", "time"],
        ["a", "1,000", "2", "MB", "30", "s", "why"],
        ["b", "234", "1", "MB", "10", "s"],
        ["together", "1,234", "3", "MB", "40", "s", "on", "cuda"],
    ]


# The command, and the time left.


def test_the_command_hands_over_what_it_is_given(make: MakeSlide, tmp_path: Path, tiny_model: Path) -> None:
    make("in/one")
    options = ["--out", tmp_path / "out", "--model", tiny_model, "--device", "cpu", "--overlap", 0]
    options += ["--region", "0,0,100,100", "--level", 0, "--slide-mpp", 0.3]
    result = CliRunner().invoke(group, ["infer-slide", *map(str, (tmp_path / "in", *options))])
    assert result.exit_code == 0, result.output
    facts = slide_result(tmp_path / "out", "one").facts
    assert facts["settings"]["region"] == {"x": 0, "y": 0, "width": 100, "height": 100}
    assert (facts["settings"]["level"], facts["mpp"]["effective"]) == (0, 0.3)
    assert corners(tmp_path / "out", "one") == {(64, 64)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mpp", "0.5", "--level", "0"), "--level and --mpp exclude each other"),
        (("--region", "1,2,3"), "expected X,Y,WIDTH,HEIGHT in whole level-0 pixels"),
        (("--slide-mpp", "0.5", "--overrides", "slides.csv"), "slide_mpp and overrides exclude each other"),
    ],
)
def test_a_command_that_contradicts_itself_is_bad_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slides.csv").write_text("slide,mpp\na,1\n")
    result = CliRunner().invoke(group, ["infer-slide", "a.tif", "--out", "out", *options])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


class Bars(Quiet):
    """Keeps the notes beside each bar."""

    def __init__(self) -> None:
        self.notes: dict[str, list[str]] = {}

    @contextmanager
    def track(self, what: str, total: int, *, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        self.notes[what] = []

        def advance(count: int = 1, *, note: str = "") -> None:
            self.notes[what].append(note)

        yield advance


def test_a_cohort_shows_how_long_its_rest_takes_by_the_slides_that_were_done(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 600.0, 600.0, 700.0, 1500.0])
    monkeypatch.setattr("wsi_maxmin.time_left.time.perf_counter", lambda: next(clock))

    def work(slide_id: str, _path: None) -> Any:
        if slide_id == "broken":
            raise SlideError("broken")
        return "skipped" if slide_id == "earlier" else "done"

    bars = Bars()
    with showing_time_left(work, 4, bars) as timed:
        assert timed("earlier", None) == "skipped"
        assert timed("first", None) == "done"
        with pytest.raises(SlideError):
            timed("broken", None)
        assert timed("last", None) == "done"
    assert bars.notes == {"all slides": ["", "about 20 min left", "about 10 min left", ""]}


def test_one_slide_has_no_bar_of_slides(make: MakeSlide, tmp_path: Path, settings: InferSettings) -> None:
    bars = Bars()
    infer([make("one")], tmp_path / "out", settings, progress=bars)
    infer([make("one"), make("two")], tmp_path / "two", settings, progress=bars)
    assert set(bars.notes) == {"one", "two", "all slides"}


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (11100, "3 h 05 min")]
)
def test_times_are_said_as_people_do(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
