"""Slides that lie elsewhere than an earlier run says: the same slides, where there is no doubt."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_maxmin.moved_slides import follow_moved
from wsi_maxmin.readers._bytes import LocalRanges, content_facts
from wsi_maxmin.slide_ids import as_source


def write(path: Path, text: str = "pixels") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def facts(tmp_path: Path) -> dict[str, object]:
    """Return what a result says of a file that `write` writes."""
    return content_facts(LocalRanges(write(tmp_path / "any.svs")))


def test_a_file_that_moved_keeps_its_name_and_nothing_else_does(tmp_path: Path, facts: dict[str, object]) -> None:
    old = {"a": str(tmp_path / "old" / "a.svs")}
    moved = write(tmp_path / "new" / "a.svs")
    assert follow_moved(old, [moved], lambda _: facts) == {"a": str(moved)}
    for other in (write(tmp_path / "new" / "b.svs"), write(tmp_path / "x" / "a.svs", "others"), tmp_path / "no/a.svs"):
        assert follow_moved(old, [other], lambda _: facts) == old
    assert follow_moved(old, [as_source("memory://new/a.svs")], lambda _: facts) == old
    # Results of earlier versions kept no samples.
    assert follow_moved(old, [moved], lambda _: {"bytes": facts["bytes"]}) == old


def test_a_slide_that_is_still_there_did_not_move(tmp_path: Path, facts: dict[str, object]) -> None:
    old = {"a": str(write(tmp_path / "old" / "a.svs"))}
    assert follow_moved(old, [write(tmp_path / "new" / "a.svs")], lambda _: facts) == old


def test_a_slide_whose_folder_may_not_be_looked_at_did_not_move(
    tmp_path: Path, facts: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, copy, stat = {"a": str(tmp_path / "old" / "a.svs")}, write(tmp_path / "new" / "a.svs"), Path.stat

    def refuse(self: Path, **options: Any) -> os.stat_result:
        if "old" in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    assert follow_moved(old, [copy], lambda _: facts) == old


def test_where_two_could_be_it_nothing_is_guessed(tmp_path: Path, facts: dict[str, object]) -> None:
    old = {name: str(tmp_path / name / "a.svs") for name in ("one", "two")}
    new = [write(tmp_path / folder / "a.svs") for folder in ("x", "y")]
    assert follow_moved({"one": old["one"]}, new, lambda _: facts) == {"one": old["one"]}
    assert follow_moved(old, new[:1], lambda _: facts) == old
    # A file that an earlier run knows is that slide, and no second one.
    known = {"one": old["one"], "three": str(new[0])}
    assert follow_moved(known, new, lambda _: facts) == {**known, "one": str(new[1])}


def test_the_name_of_a_slide_that_is_gone_without_a_result_is_free(tmp_path: Path) -> None:
    known = {"gone": str(tmp_path / "gone.svs"), "there": str(write(tmp_path / "there.svs")), "url": "s3://b/c.tif"}
    assert set(follow_moved(known, [], lambda _: None)) == {"there", "url"}


places = st.builds("{}/{}.svs".format, st.sampled_from("pqr"), st.sampled_from("ab"))
files = st.dictionaries(places, st.sampled_from(["1", "2", "3"]))


@given(before=files, now=files)
@settings(max_examples=60)
def test_names_stay_apart_and_stand_for_the_same_content(before: dict[str, str], now: dict[str, str]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for place, text in now.items():
            write(root / place, text)
        written = {text: content_facts(LocalRanges(write(root / "any" / text, text))) for text in "123"}
        known = {place: str(root / place) for place in before}
        paths = [root / place for place in now]
        found = follow_moved(known, paths, lambda place: written[before[place]])
        assert set(found) == set(known)
        assert len(set(found.values())) == len(found)
        for place, path in found.items():
            if path != known[place]:
                assert place not in now
                assert Path(path) in paths
                assert (Path(path).name, Path(path).read_text()) == (Path(place).name, before[place])
