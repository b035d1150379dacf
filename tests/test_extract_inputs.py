"""What a user hands over, and the job of each slide that follows from it."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.extract_inputs import ExtractInputs, JobMaker
from wsi_maxmin.extraction import ExtractSettings
from wsi_maxmin.slide_list import hash_slide_id

SETTINGS = ExtractSettings()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., JobMaker]:
    """Return a function that makes jobs of slides (of which none is there), from paths relative to one folder."""

    def make(*slides: str, settings: ExtractSettings = SETTINGS, **inputs: object) -> JobMaker:
        given = ExtractInputs(slides=[tmp_path / slide for slide in slides], **inputs)
        return JobMaker(given, settings, {})

    return make


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("names", [("annotations", "masks"), ("splits", "folds"), ("slide_mpp", "overrides")])
def test_what_excludes_each_other_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    values = {"folds": 3, "slide_mpp": 0.5}
    with pytest.raises(InputError, match=f"{names[0]} and {names[1]} exclude each other; give one of them"):
        ExtractInputs(slides=["a.tif"], **{name: values.get(name, tmp_path) for name in names})


@pytest.mark.parametrize("name", ["annotations", "masks", "tissue_masks", "splits", "overrides"])
def test_what_is_not_there_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"no such file or folder of {name.replace('_', ' ')}; got .*gone"):
        ExtractInputs(slides=["a.tif"], **{name: tmp_path / "gone"})


def test_a_list_of_patches_that_is_not_there_is_refused_also_beside_one_that_is(tmp_path: Path) -> None:
    lists = (write(tmp_path / "here.csv", "slide,x,y\na,0,0\n"), tmp_path / "gone.csv")
    with pytest.raises(InputError, match=r"no such list of patches; got .*gone\.csv"):
        ExtractInputs(slides=["a.tif"], lists=lists)


def test_one_fold_is_refused() -> None:
    with pytest.raises(InputError, match="too few folds; got 1; expected at least 2"):
        ExtractInputs(slides=["a.tif"], folds=1)


def test_what_decides_patches_is_told_apart_by_content_and_not_by_path(tmp_path: Path) -> None:
    def facts(*texts: str) -> dict[str, object]:
        lists = tuple(write(tmp_path / f"{text}.csv", f"slide,x,y\n{text},0,0\n") for text in texts)
        return ExtractInputs(slides=["a.tif"], lists=lists).to_json()

    assert facts("a", "b") == facts("b", "a") != facts("a", "c")
    moved = write(tmp_path / "moved.csv", "slide,x,y\na,0,0\n")
    assert ExtractInputs(slides=["b.tif"], lists=(moved,)).to_json() == facts("a")


def test_mpp_is_that_of_the_overrides_else_of_the_list_else_of_all(
    make: Callable[..., JobMaker], tmp_path: Path
) -> None:
    write(tmp_path / "list.csv", "slide,mpp\na.tif,1\nb.tif,1\nc.tif,\n")
    overrides = write(tmp_path / "overrides.csv", "slide,mpp\na,2\n")

    def given(**inputs: object) -> list[float | None]:
        maker = make("list.csv", **inputs)
        return [maker.job(slide_id).slide_mpp for slide_id in "abc"]

    assert given() == [1, 1, None]
    assert given(overrides=overrides) == [2, 1, None]
    assert given(slide_mpp=4.0) == [1, 1, 4]


def test_a_job_names_what_belongs_to_its_slide(make: Callable[..., JobMaker], tmp_path: Path) -> None:
    xml, tissue = write(tmp_path / "xml" / "a.xml"), write(tmp_path / "tissue" / "a.png")
    patches = write(tmp_path / "patches.csv", "slide,x,y,tissue_fraction\na.tif,0,512,0.5\nb,1,2,\n")
    settings = replace(SETTINGS, partly_annotated=("a",))
    job = make("a.tif", settings=settings, annotations=xml.parent, tissue_masks=tissue.parent, lists=(patches,)).job(
        "a"
    )
    assert (job.slide_id, job.path) == ("a", tmp_path / "a.tif")
    assert (job.truth, job.tissue_mask, job.partly_annotated) == (xml, tissue, True)
    assert job.listed == ((0, 512, 512, 512, 0.5),)
    assert make("b.tif", annotations=xml.parent).job("b").truth is None


def test_rows_of_a_list_count_whichever_name_they_give_the_slide(make: Callable[..., JobMaker], tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "slide,x,y\na,0,0\na.tif,512,0\nb.svs,0,512\n")
    maker = make("a.tif", "b.svs", lists=(path,))
    assert [[patch[:2] for patch in maker.job(name).listed] for name in "ab"] == [[(0, 0), (512, 0)], [(0, 512)]]
    assert maker.notes == []


def test_lists_of_patches_are_put_together(make: Callable[..., JobMaker], tmp_path: Path) -> None:
    lists = [write(tmp_path / f"{x}.csv", f"slide,x,y\na,{x},0\n") for x in (0, 512)]
    assert [patch.x for patch in make("a.tif", lists=tuple(lists)).job("a").listed] == [0, 512]


def test_one_file_for_several_slides_is_refused(make: Callable[..., JobMaker], tmp_path: Path) -> None:
    one = write(tmp_path / "one.tif")
    assert make("a.tif", masks=one).job("a").truth == one
    for name in ("annotations", "masks", "tissue_masks"):
        with pytest.raises(InputError, match=f"one file of {name.replace('_', ' ')} for several slides"):
            make("a.tif", "b.tif", **{name: one})


@pytest.mark.parametrize(
    ("name", "header", "what"),
    [("overrides", "slide,mpp\n{},1", "overrides"), ("splits", "slide,split\n{},test", "splits")],
)
def test_rows_of_slides_that_are_not_given_are_counted(
    make: Callable[..., JobMaker], tmp_path: Path, name: str, header: str, what: str
) -> None:
    text = write(tmp_path / "table.csv", header.format("tpyo"))
    notes = make("a.tif", **{name: text}).notes
    assert notes[0] == f"the {what} name 1 slides that are not among those given, first tpyo"
    assert make("tpyo.tif", **{name: text}).notes == []


def test_hashed_slides_keep_what_belongs_to_their_plain_names(make: Callable[..., JobMaker], tmp_path: Path) -> None:
    xml = write(tmp_path / "xml" / "a.xml")
    overrides = write(tmp_path / "overrides.csv", "slide,mpp\na,2\n")
    splits = write(tmp_path / "splits.csv", "slide,split,patient_id\na,test,P\n")
    settings = replace(SETTINGS, hash_slide_ids=True, partly_annotated=("a",))
    maker = make("a.tif", settings=settings, annotations=xml.parent, overrides=overrides, splits=splits)
    name = hash_slide_id("a")
    job = maker.job(name)
    assert (job.slide_id, job.truth, job.slide_mpp, job.partly_annotated) == (name, xml, 2.0, True)
    assert maker.given_splits() == ({name: "test"}, {name: hash_slide_id("P")})
    assert maker.plain_name(name) == "a"


def test_an_error_without_names_keeps_its_kind_and_where_it_came_from(
    make: Callable[..., JobMaker], tmp_path: Path
) -> None:
    name = hash_slide_id("Erika")
    maker = make("Erika.tif", settings=replace(SETTINGS, hash_slide_ids=True))
    for error, kind in [(SlideError("no", got=tmp_path / "Erika.tif"), InputError), (KeyError("Erika"), RuntimeError)]:
        nameless = maker.without_names(error, name)
        assert isinstance(nameless, kind)
        assert name in str(nameless)
        text = str(nameless) + "".join(nameless.__notes__)
        assert type(error).__name__ in text
        assert "Erika" not in text


def test_the_list_of_a_slide_says_its_patient_before_the_list_of_splits(
    make: Callable[..., JobMaker], tmp_path: Path
) -> None:
    write(tmp_path / "list.csv", "slide,patient_id\na.tif,P\nb.tif,\nc.tif,\n")
    splits = write(tmp_path / "splits.csv", "slide,split,patient_id\na,train,X\nb,test,Y\n")
    assert make("list.csv", splits=splits).given_splits() == (
        {"a": "train", "b": "test", "c": ""},
        {"a": "P", "b": "Y", "c": "c"},
    )


def test_jobs_can_be_made_in_another_process(make: Callable[..., JobMaker], tmp_path: Path) -> None:
    splits = write(tmp_path / "splits.csv", "slide,split\na,test\n")
    maker = make("a.tif", splits=splits, slide_mpp=1.0)
    assert pickle.loads(pickle.dumps(maker)).job("a") == maker.job("a")
