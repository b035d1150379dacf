"""Which slides a run is about, what they are called, and what a CSV says of them."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from wsi_maxmin.errors import InputError
from wsi_maxmin.runinfo import write_json
from wsi_maxmin.slide_ids import source_key
from wsi_maxmin.slide_list import (
    ListedSlide,
    as_source,
    find_slides,
    hash_slide_id,
    mpp_for,
    read_overrides,
    unique_slide_ids,
    unused_rows,
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def ids_of(slides: list[ListedSlide]) -> list[str]:
    return [slide.slide_id for slide in slides]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "list.csv"


def test_a_url_is_a_upath_and_everything_else_a_path() -> None:
    assert as_source("x/a.svs") == as_source(Path("x/a.svs")) == Path("x/a.svs")
    assert as_source("file:///x/a%20b.svs") == Path("/x/a b.svs")
    url = as_source("s3://bucket/a.tif")
    assert isinstance(url, UPath)
    assert not isinstance(url, Path)
    assert as_source(url) is url
    with pytest.raises(InputError, match=r"no such kind of URL; got gopher://a\.tif; expected .*s3://"):
        as_source("gopher://a.tif")


def test_passwords_and_signatures_of_a_url_are_not_kept() -> None:
    url = as_source("https://me:secret@host.org/x/a%20b.tif?signature=secret#top")
    assert source_key(url) == "https://host.org/x/a%20b.tif"
    assert list(unique_slide_ids([url])) == ["a b"]
    assert mpp_for(url, "id", {"a b.tif": 0.25}) == 0.25


def test_a_folder_is_searched_for_slides_in_all_its_folders(tmp_path: Path) -> None:
    slides = ["a.svs", "b/B.TIF", "b/c/d.ndpi", "b/c.mrxs"]
    others = [".a.svs", ".git/x.svs", "a_mask.tif", "b/c/Data0001.dat", "notes.txt", "h.zarr/x.tif", "x.npz"]
    touch(tmp_path, *slides, *others)
    assert [slide.path for slide in find_slides([tmp_path])] == [tmp_path / name for name in slides]


@pytest.mark.parametrize("command", ["extract-patches", "infer-slide", "stitch"])
def test_what_our_own_commands_wrote_holds_no_slides(tmp_path: Path, command: str) -> None:
    touch(tmp_path, "a.svs", "runs/heat/a/tumour.tif", "runs/b.svs")
    write_json(tmp_path / "runs" / "heat" / "run.json", {"status": "running", "settings": {"command": command}})
    assert [slide.path.name for slide in find_slides([tmp_path])] == ["a.svs", "b.svs"]
    with pytest.raises(InputError, match=r"no slide in .*heat; .* not in a folder that .* infer-slide or stitch wrote"):
        find_slides([tmp_path / "runs" / "heat"])
    assert ids_of(find_slides([tmp_path / "runs" / "heat" / "a" / "tumour.tif"])) == ["tumour"]


@pytest.mark.parametrize("text", ["", "[]", '{"settings": "fast"}', '{"settings": {"command": ["scan"]}}'])
def test_a_run_file_of_someone_else_hides_no_slide(tmp_path: Path, text: str) -> None:
    touch(tmp_path, "scan/a.svs")
    (tmp_path / "scan" / "run.json").write_text(text)
    assert ids_of(find_slides([tmp_path])) == ["a"]


def test_links_that_lead_back_end_the_search_and_broken_ones_are_still_slides(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.svs")
    (tmp_path / "x" / "back").symlink_to(tmp_path)
    (tmp_path / "x" / "lost.svs").symlink_to(tmp_path / "gone")
    assert [slide.path.name for slide in find_slides([str(tmp_path)])] == ["a.svs", "lost.svs"]


def test_the_dicom_files_of_a_folder_are_one_slide_named_by_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "p1/2.dcm", "p1/1.dcm", "p2.x/1.dcm", "p2.x/a.svs")
    found = {slide.slide_id: str(slide.path.relative_to(tmp_path)) for slide in find_slides([tmp_path])}
    assert found == {"p1": "p1/1.dcm", "p2.x": "p2.x/1.dcm", "a": "p2.x/a.svs"}


def test_a_folder_without_slides_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no slide in .*; expected files that end in \.svs \.tif"):
        find_slides([tmp_path])


def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def iterdir(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(InputError, match=r"cannot be searched for slides; got .* \(Permission denied\)"):
        find_slides([tmp_path])


def test_a_named_file_is_listed_whatever_its_suffix_and_even_if_it_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "a.xyz", "b_mask.tif")
    sources = [tmp_path / "a.xyz", str(tmp_path / "gone.svs"), "memory://x/u.tif", tmp_path / "b_mask.tif"]
    assert ids_of(find_slides(sources)) == ["a", "gone", "u", "b_mask"]


def test_a_path_that_cannot_be_followed_is_listed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    paths = [tmp_path / "loop" / "a.svs", tmp_path / ("x" * 300 + ".svs")]
    assert [slide.path for slide in find_slides(paths)] == paths


def test_no_source_is_no_slide() -> None:
    with pytest.raises(InputError, match="no slide given"):
        find_slides([])


def test_a_list_names_slides_relative_to_itself_with_what_is_known_of_them(csv: Path) -> None:
    csv.write_text("slide,slide_id,patient_id,mpp\nx/a.svs,one,p,0.5\n/y/b.svs,,,\ns3://b/c.tif,,,\n")
    assert find_slides([csv]) == [
        ListedSlide(path=csv.parent / "x/a.svs", slide_id="one", patient_id="p", mpp=0.5),
        ListedSlide(path=Path("/y/b.svs"), slide_id="b"),
        ListedSlide(path=UPath("s3://b/c.tif"), slide_id="c"),
    ]
    assert [slide.patient for slide in find_slides([csv])] == ["p", "b", "c"]


def test_a_slide_that_is_named_twice_counts_once_with_all_that_was_said(tmp_path: Path, csv: Path) -> None:
    touch(tmp_path, "a.svs", "x/a.svs")
    csv.write_text("slide,slide_id,mpp\na.svs,a,0.5\n")
    slides = find_slides([tmp_path, csv, tmp_path / "x" / ".." / "a.svs"])
    assert [(slide.slide_id, slide.mpp) for slide in slides] == [("a", 0.5), ("x_a", None)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slide\n", "lists no slide; expected a row a slide"),
        ("slide,mpp\na.svs,250\n", r"line 2: mpp; got '250'; expected µm per pixel from 0\.05 to 20"),
        ("slide,mpp\na.svs,nan\n", "line 2: mpp; got 'nan'"),
        ("slide,slide_id\na.svs,x/y\n", "line 2: slide_id cannot name a folder; got 'x/y'; expected a plain name"),
        ("slide,slide_id\na.svs,..\n", "line 2: slide_id cannot name a folder"),
        *[
            (f"slide,slide_id\na.svs,{name}\n", f"line 2: slide_id cannot name a folder; got '{name}'")
            for name in ("run.json", "slides.csv", "failures.log", "RUN.json")
        ],
        ("slide,slide_id\na.svs,s\nb.svs,s\n", r"two slides with the slide_id s; got .*a\.svs and .*b\.svs"),
        ("slide,patient_id\na.svs,p\na.svs,q\n", r"a\.svs is listed twice.* another patient_id; got p and q"),
    ],
)
def test_a_list_with_a_mistake_is_refused(csv: Path, text: str, says: str) -> None:
    csv.write_text(text)
    with pytest.raises(InputError, match=says):
        find_slides([csv])


def test_a_list_at_a_url_is_refused() -> None:
    with pytest.raises(InputError, match=r"a list of slides cannot be a URL; got memory://x/list\.csv; download it"):
        find_slides(["memory://x/list.csv"])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/one.tif", "x/two.svs", "y/one.tif"], ["x_one", "two", "y_one"]),
        (["x/a.tif", "x/a.svs"], ["x_a", "x_a_svs"]),
        (["x/a.tif", "x/a.tif"], ["a"]),
        (["x/a.tif", "y/a.tif", "x_a.tif"], ["x_a", "y_a", "x_a_tif"]),
        (["p/HE/a.tif", "q/HE/a.tif"], ["p_HE_a", "q_HE_a"]),
        (["/a.tif", "/x/a.tif"], ["a", "x_a"]),
        (["x/run.json.tif", "x/Slides.csv.svs"], ["run.json_tif", "Slides.csv_svs"]),
    ],
)
def test_a_slide_is_called_by_its_stem_and_by_folders_too_where_two_clash(paths: list[str], names: list[str]) -> None:
    assert list(unique_slide_ids([Path(path) for path in paths])) == names


@pytest.mark.parametrize(
    "paths", [["x_y_a_tif.svs", "x_y/a.tif", "z/a.tif", "z/y_a.tif", "x/y_a.tif"], ["https://x/y?1", "https://x/y?2"]]
)
def test_slides_that_remain_alike_are_both_named(paths: list[str]) -> None:
    with pytest.raises(InputError, match=r"two slides have the same name; got .* and .*; rename one"):
        unique_slide_ids([as_source(path) for path in paths])


def test_a_slide_that_comes_later_does_not_rename_the_first() -> None:
    first, second = Path("a/x.tif"), Path("b/x.tif")
    known = {slide_id: str(path) for slide_id, path in unique_slide_ids([first]).items()}
    assert unique_slide_ids([first, second], known) == {"x": first, "b_x": second}
    assert unique_slide_ids([second], known) == {"b_x": second}
    assert list(unique_slide_ids([as_source("https://h/x.tif?new")], {"s": "https://h/x.tif"})) == ["s"]


def test_an_id_from_a_list_is_not_given_to_another_slide(csv: Path) -> None:
    csv.write_text("slide,slide_id\nx/a.svs,b\nx/b.svs,\n")
    assert ids_of(find_slides([csv])) == ["b", "b_svs"]


folders = st.lists(st.sampled_from("pq"), max_size=3).map("/".join)
paths = st.builds("/r/{}/{}{}".format, folders, st.sampled_from(["a", "b"]), st.sampled_from([".tif", ".svs"])).map(
    Path
)


@given(runs=st.lists(st.lists(paths, min_size=1), min_size=2, max_size=4))
def test_ids_are_unique_and_stay_whatever_is_added_later(runs: list[list[Path]]) -> None:
    known: dict[str, str] = {}
    for added in runs:
        named = unique_slide_ids(added, known)
        assert set(named.values()) == set(added)
        for slide_id, path in named.items():
            assert known.setdefault(slide_id, str(path)) == str(path)
    assert len(set(known.values())) == len(known)


def test_a_pseudonym_is_the_same_in_every_run_and_hangs_on_the_key() -> None:
    names = ["tumor_001", "tumor_002", "\udcff"]
    hashes = [hash_slide_id(name, key) for name in names for key in ("", "k")]
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in hashes)
    assert all(one != other for one, other in pairwise(sorted(hashes)))
    assert hash_slide_id("tumor_001") == "9eb213729db3adb3"
    with pytest.raises(InputError, match="too long; got 65 bytes; expected ≤ 64"):
        hash_slide_id("a", "k" * 65)


def test_overrides_name_slides_by_id_or_file_name_or_stem(csv: Path) -> None:
    csv.write_text("slide,mpp\nx_a,0.25\na.svs,0.5\nb,2\nodd,3\n")
    overrides = read_overrides(csv)
    slides = [ListedSlide(path=Path(path), slide_id=name) for path, name in [("x/a.svs", "x_a"), ("y/a.svs", "y_a")]]
    assert [mpp_for(slide.path, slide.slide_id, overrides) for slide in slides] == [0.25, 0.5]
    assert mpp_for(Path("b.tif"), "other", overrides) == 2
    assert mpp_for(Path("c.tif"), "c", overrides) is None
    assert unused_rows(overrides, slides) == ["b", "odd"]


def test_two_names_of_one_slide_must_say_the_same() -> None:
    table = {"a.svs": 0.5, "a": 1.0}
    with pytest.raises(InputError, match=r"two rows say different things of a; got a\.svs and a|got a and a\.svs"):
        mpp_for(Path("a.svs"), "a", table)
    assert mpp_for(Path("a.svs"), "a", {"a.svs": 0.5, "a": 0.5}) == 0.5
    assert mpp_for(Path("a.svs"), "x_a", {**table, "x_a": 2.0}) == 2.0
    assert unused_rows(table, [ListedSlide(path=Path("a.svs"), slide_id="a")]) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slide,mpp\na,0.5\na,0.5\n", "line 3: slide there twice; got a; keep one"),
        ("slide,mpp\na,0.01\n", "line 2: mpp; got '0.01'"),
        ("slide,mpp\na,0.5 µm\n", "line 2: mpp; got '0.5 µm'"),
        ("slide,mpp\na,\n", "line 2: no mpp"),
    ],
)
def test_overrides_with_a_mistake_are_refused(csv: Path, text: str, says: str) -> None:
    csv.write_text(text)
    with pytest.raises(InputError, match=says):
        read_overrides(csv)
