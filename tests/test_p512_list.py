"""Lists of patches: the published ones whole, one's own, and what is wrong with others."""

import csv
import gzip
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsi_maxmin.errors import InputError
from wsi_maxmin.extraction import ExtractSettings, Planned, SlideJob
from wsi_maxmin.protocols import p512_list
from wsi_maxmin.protocols.p512_list import ListedPatch, read_list
from wsi_maxmin.readers.memory import MemoryReader

TUMOUR = (
    "Patch_file_training-tumor-tumor_062.tif_reg_0_row_8_patch_0_x_84107_y_117472"
    "_tissue_0.35_metastatic_0.20_w_512_h_512.png"
)
NORMAL = "Patch_file_training-normal-normal_001.tif_patch_0_x_69632_y_117760_tissue_0.48_w_512_h_512.png"
SETTINGS = ExtractSettings(protocol="p512-list")


def written(folder: Path, *rows: str) -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_every_fact_of_a_published_name_is_read(tmp_path: Path) -> None:
    found = read_list(written(tmp_path, f"a/b/{TUMOUR},a/b/mask.png,tumor", f"{NORMAL},,normal"))
    assert found["tumor_062"] == (ListedPatch(84107, 117472, 512, 512, 0.35, 0.2, "tumor", TUMOUR),)
    (normal,) = found["normal_001"]
    assert normal[:5] == (69632, 117760, 512, 512, 0.48)
    assert math.isnan(normal.tumour_fraction)
    assert (normal.label, normal.name) == ("normal", NORMAL)


def test_a_test_slide_of_the_survey_is_named_by_its_file(tmp_path: Path) -> None:
    name = TUMOUR.replace("training-tumor-tumor_062.tif", "testing-images-test_090.tif")
    assert list(read_list(written(tmp_path, f"{name},mask.png,tumor"))) == ["test_090"]


def test_a_list_with_a_header_needs_a_place_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "x,y,slide", "5,6,a-b", "7,8,a-b", "1,2,c")
    found = read_list(path)
    assert [patch[:4] for patch in found["a-b"]] == [(5, 6, 512, 512), (7, 8, 512, 512)]
    assert math.isnan(found["c"][0].tissue_fraction)
    path = written(tmp_path, "slide,x,y,width,height,tissue_fraction", "a,5,6,256,256,0.25", "a,5,70,,,")
    assert read_list(path)["a"][0] == ListedPatch(5, 6, 256, 256, 0.25)[:5] + read_list(path)["a"][0][5:]
    assert read_list(path)["a"][1][:4] == (5, 70, 512, 512)


@pytest.mark.parametrize(
    "row",
    [
        "Patch_1.png,,normal",
        f"{NORMAL},normal",
        f"{NORMAL},,tumor",
        f"{TUMOUR},mask.png,normal",
        f"{TUMOUR},mask.png,metastasis",
        NORMAL.replace("_x_69632", "_x_69632.5") + ",,normal",
        NORMAL.replace("_0.48_", "_0.4.8_") + ",,normal",
        NORMAL.replace("_0.48_", "_1.48_") + ",,normal",
        NORMAL.replace("w_512", "w_0") + ",,normal",
        NORMAL.replace("_y_117760", "") + ",,normal",
    ],
)
def test_a_malformed_name_is_an_error_with_file_row_and_form(tmp_path: Path, row: str) -> None:
    path = written(tmp_path, f"{NORMAL},,normal", row)
    with pytest.raises(InputError, match=r"list\.csv, row 2: malformed patch; got .*expected patch,mask,class with"):
        read_list(path)


@pytest.mark.parametrize("row", ["a,1,2.5,,", "a,one,2,,", "a,1,2,0,", "a,1,2,,1.5", "a,1,2,,-1"])
def test_a_malformed_row_of_ones_own_list_is_an_error_with_file_and_line(tmp_path: Path, row: str) -> None:
    path = written(tmp_path, "slide,x,y,width,tissue_fraction", "a,1,2,,", row)
    with pytest.raises(InputError, match=r"list\.csv, line 3: malformed patch; got .*expected whole level-0 px"):
        read_list(path)


def test_an_empty_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is empty.*header slide,x,y"):
        read_list(written(tmp_path, ""))


@pytest.fixture
def slide() -> MemoryReader:
    return MemoryReader([np.full((900, 1000, 3), 200, dtype=np.uint8)], mpp=0.25, slide_id="slide")


def job(*listed: Planned) -> SlideJob:
    return SlideJob(slide_id="slide", path=Path("slide.tif"), listed=listed)


def test_exactly_the_listed_patches_are_cut_each_once(slide: MemoryReader) -> None:
    one, two = Planned(3, 4, 512, 512, 0.5), Planned(488, 388, 512, 512, 0.1)
    plan = p512_list.plan(slide, None, job(two, one, two), SETTINGS)
    assert plan.patches == (two, one)
    assert "2 listed patches of 512 px" in plan.note
    assert "1 were listed again" in plan.note
    assert p512_list.plan(slide, None, job(), SETTINGS).patches == ()


@pytest.mark.parametrize("place", [(489, 0), (0, 389), (-1, 0), (0, -1)])
def test_a_patch_that_is_not_on_the_slide_whole_is_named(slide: MemoryReader, place: tuple[int, int]) -> None:
    message = rf"slide: the listed patch at x={place[0]}, y={place[1]} is not on the slide; got 512 px.*\(1000, 900\)"
    with pytest.raises(InputError, match=message):
        p512_list.plan(slide, None, job(Planned(*place, 512, 512, 0.5)), SETTINGS)


@pytest.mark.parametrize("size", [(512, 256), (256, 256)])
def test_a_patch_of_another_size_is_named(slide: MemoryReader, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"x=1, y=2 has another size.*got {size[0]}×{size[1]} px; expected 512×512"):
        p512_list.plan(slide, None, job(Planned(1, 2, *size, 0.5)), SETTINGS)


def test_patches_of_another_side_are_cut_when_that_is_asked_for(slide: MemoryReader) -> None:
    listed = job(Planned(1, 2, 256, 256, 0.5))
    assert p512_list.plan(slide, None, listed, replace(SETTINGS, patch_px=256)).patches == listed.listed


@pytest.mark.parametrize(("changed", "option"), [({"mpp": 0.5}, "--mpp"), ({"stride_px": 256}, "--stride")])
def test_only_level_0_is_cut_and_without_a_stride(slide: MemoryReader, changed: dict[str, object], option: str) -> None:
    with pytest.raises(InputError, match=f"p512-list does not take {option}"):
        p512_list.plan(slide, None, job(), replace(SETTINGS, **changed))  # type: ignore[arg-type]


@pytest.mark.data
@pytest.mark.parametrize(("split", "slides", "of_each"), [("train", 215, 12174), ("valid", 55, 4429)])
def test_the_published_lists_parse_to_the_last_row(data_dir: Path, split: str, slides: int, of_each: int) -> None:
    path = data_dir / "camelyon16" / "lists" / f"p512_split0_fold0_{split}.csv.gz"
    found = read_list(path)
    patches = [patch for listed in found.values() for patch in listed]
    assert len(found) == slides
    for label in ("tumor", "normal"):
        assert sum(patch.label == label for patch in patches) == of_each
    assert all(len({patch[:2] for patch in listed}) == len(listed) for listed in found.values())
    assert all(patch.width == patch.height == 512 for patch in patches)
    assert all(math.isnan(patch.tumour_fraction) == (patch.label == "normal") for patch in patches)
    assert min(patch.tissue_fraction for patch in patches) >= 0.1
    with gzip.open(path, "rt") as file:
        names = {row[0].rpartition("/")[2] for row in csv.reader(file)}
    assert {patch.name for patch in patches} == names
