"""As many patches without tumour as with, dealt evenly, and the same again when a run is resumed."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.quotas import QUOTA_FILE, Quotas

MakeQuotas = Callable[..., Quotas]
SPLITS = ["", "train", "valid"]
slides = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.sampled_from(SPLITS), min_size=1)


@pytest.fixture
def make(tmp_path: Path) -> MakeQuotas:
    """Return a function that makes quotas over one folder."""

    def make(tumour: str, normal: str, **splits: str) -> Quotas:
        return Quotas(tumour=tumour.split(), normal=normal.split(), splits=splits, out=tmp_path)

    return make


@given(normal=slides, tumour=st.dictionaries(st.text("xyz", min_size=1, max_size=2), st.integers(0, 50), min_size=1))
def test_every_split_is_balanced_and_no_slide_gives_two_more_than_another(
    tmp_path_factory: pytest.TempPathFactory, normal: dict[str, str], tumour: dict[str, int]
) -> None:
    splits = {**normal, **{name: SPLITS[index % 3] for index, name in enumerate(tumour)}}
    quotas = Quotas(tumour=list(tumour), normal=list(normal), splits=splits, out=tmp_path_factory.mktemp("out"))
    for slide_id, patches in tumour.items():
        quotas.report(slide_id, patches)
    dealt = {slide_id: quotas.of(slide_id) for slide_id in normal}
    for split in set(normal.values()):
        among = [count for slide_id, count in dealt.items() if normal[slide_id] == split]
        assert sum(among) == sum(count for slide_id, count in tumour.items() if splits[slide_id] == split)
        assert max(among) - min(among) <= 1


def test_what_is_dealt_hangs_neither_on_the_order_of_reports_nor_on_that_of_slides(tmp_path: Path) -> None:
    dealt = []
    for number, names in enumerate(("nml", "lnm")):
        (out := tmp_path / str(number)).mkdir()
        quotas = Quotas(tumour=["t", "u"], normal=list(names), splits={}, out=out)
        for slide_id, patches in [("t", 3), ("u", 5)][:: 1 - 2 * number]:
            quotas.report(slide_id, patches)
        dealt.append({slide_id: quotas.of(slide_id) for slide_id in "lmn"})
    assert dealt[0] == dealt[1] == {"l": 3, "m": 3, "n": 2}


def test_a_normal_slide_waits_until_the_last_tumour_slide_has_reported(make: MakeQuotas) -> None:
    quotas, answer = make("t u", "n"), []
    waiting = threading.Thread(target=lambda: answer.append(quotas.of("n")))
    waiting.start()
    quotas.report("t", 4)
    waiting.join(0.1)
    assert waiting.is_alive()
    quotas.report("u", 0)
    waiting.join(10)
    assert answer == [4]


def test_only_tumour_slides_count_and_each_once(make: MakeQuotas) -> None:
    quotas = make("t u", "n")
    for slide_id, patches in [("t", 4), ("t", 4), ("n", 100), ("u", 1)]:
        quotas.report(slide_id, patches)
    assert quotas.of("n") == 5


def test_without_tumour_slides_nothing_is_asked_for(make: MakeQuotas) -> None:
    assert make("", "n").of("n") == 0


def test_what_was_dealt_is_kept_whatever_a_later_run_counts(make: MakeQuotas, tmp_path: Path) -> None:
    first = make("t", "m n")
    first.report("t", 4)
    assert first.of("n") == 2
    later = make("t u", "m n o")
    later.report("t", 4)
    later.report("u", 8)
    # The new slide gets what it would have, had it been there from the start.
    assert [later.of(slide_id) for slide_id in "omn"] == [4, 2, 2]
    assert json.loads((tmp_path / QUOTA_FILE).read_text()) == {"m": 2, "n": 2, "o": 4}


def test_an_abandoned_run_does_not_wait_on(make: MakeQuotas) -> None:
    quotas, ended = make("t", "n"), []

    def wait() -> None:
        try:
            quotas.of("n")
        except KeyboardInterrupt:
            ended.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    quotas.abandon()
    waiting.join(10)
    assert ended == [True]
