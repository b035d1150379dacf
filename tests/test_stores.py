"""Every store keeps the bytes that it was given where it says that they are."""

import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.formats import Encoded
from wsi_maxmin.stores import NOWHERE, Place, plugins
from wsi_maxmin.stores.shard import _header

IMAGE = Encoded(b"an image" * 100, "png", ".png")
MASK = b"a mask"


@pytest.fixture(params=plugins.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def bytes_at(out: Path, place: Place) -> bytes:
    data = (out / place.path).read_bytes()
    return data[place.offset : place.offset + place.size]


def test_bytes_are_where_the_store_says(name: str, tmp_path: Path) -> None:
    with plugins.load(name).open(tmp_path, "slide", 0) as store:
        first = store.put("slide_0_0", IMAGE, MASK, {"x": 0})
        second = store.put("slide_512_0", IMAGE._replace(data=b"other"), None, {"x": 512})
    assert [bytes_at(tmp_path, place) for place in first] == [IMAGE.data, MASK]
    assert bytes_at(tmp_path, second[0]) == b"other"
    assert second[1] == NOWHERE


def test_everything_is_under_the_stores_own_folders_by_slide(name: str, tmp_path: Path) -> None:
    module = plugins.load(name)
    with module.open(tmp_path, "slide", 0) as store:
        store.put("slide_0_0", IMAGE, MASK, {})
    assert {path.name for path in tmp_path.iterdir()} <= set(module.FOLDERS)
    assert all((path / "slide").is_dir() for path in tmp_path.iterdir())


def test_no_folder_is_made_for_what_there_is_none_of(tmp_path: Path) -> None:
    with plugins.load("files").open(tmp_path, "slide", 0) as store:
        assert store.put("slide_0_0", None, MASK, {})[0] == NOWHERE
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_a_shard_is_a_tar_in_webdatasets_layout(tmp_path: Path) -> None:
    with plugins.load("shard").open(tmp_path, "a.b", 3) as store:
        store.put("a.b_0_0", IMAGE, MASK, {"x": 0, "tumour_fraction": float("nan")})
        store.put("a.b_512_0", IMAGE._replace(suffix=".jpg"), None, {"x": 512})
    path = tmp_path / "shards" / "a.b" / "a.b-00003.tar"
    with tarfile.open(path) as tar:
        names = tar.getnames()
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}
        facts = json.load(tar.extractfile("a_b_0_0.json"))
        assert tar.extractfile("a_b_0_0.png").read() == IMAGE.data
    assert names == ["a_b_0_0.png", "a_b_0_0.mask.png", "a_b_0_0.json", "a_b_512_0.jpg", "a_b_512_0.json"]
    assert facts == {"x": 0, "tumour_fraction": None}


@pytest.mark.parametrize("name", ["a.jpg", "x" * 99, "x" * 100, "x" * 300, "schnitt_ä.png", ""])
@pytest.mark.parametrize("size", [0, 1, 511, 38_000, 8**11 - 1, 8**11])
def test_headers_are_tarfiles_own(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    assert _header(name, size) == member.tobuf(tarfile.PAX_FORMAT)


def test_a_long_name_still_has_its_place(tmp_path: Path) -> None:
    """Names over 100 characters, as TCGA's are with their UUIDs and positions, take a header of more blocks."""
    slide_id = "x" * 120
    with plugins.load("shard").open(tmp_path, slide_id, 0) as store:
        image, _ = store.put(f"{slide_id}_0_0", IMAGE, None, {})
        store.put(f"{slide_id}_1_0", IMAGE, None, {})
    assert bytes_at(tmp_path, image) == IMAGE.data
    with tarfile.open(tmp_path / image.path) as tar:
        assert tar.getnames()[0] == f"{slide_id}_0_0.png"


@given(st.sampled_from(plugins.names()), st.integers(0, 5000), st.integers(1, 700))
def test_chunks_hold_every_patch_and_none_is_empty(store: str, count: int, shard_patches: int) -> None:
    sizes = plugins.load(store).chunk_sizes(count, shard_patches)
    assert sum(sizes) == count
    assert all(size > 0 for size in sizes)


def test_shards_are_as_large_as_was_asked_and_files_begin_and_end_in_small_chunks() -> None:
    assert plugins.load("shard").chunk_sizes(1200, 500) == [500, 500, 200]
    first, *sizes = plugins.load("files").chunk_sizes(2000, 500)
    assert sizes == sorted(sizes, reverse=True)
    assert (first, sizes[0], sizes[-2]) == (16, 128, 16)


def test_the_same_patches_are_the_same_bytes(name: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with plugins.load(name).open(tmp_path / folder, "slide", 0) as store:
            store.put("slide_0_0", IMAGE, MASK, {"x": 0})
    one, two = (sorted((tmp_path / folder).rglob("*.*")) for folder in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
