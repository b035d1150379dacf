import contextlib
import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from wsi_maxmin._version import __version__
from wsi_maxmin.runinfo import (
    Stopwatch,
    digest,
    environment,
    peak_memory_bytes,
    read_json,
    watching_memory,
    write_json,
)


def test_stopwatch_adds_up_the_visits_to_a_stage_even_those_that_fail():
    watch = Stopwatch()
    with watch.stage("read"):
        time.sleep(0.01)
    with contextlib.suppress(OSError), watch.stage("read"):
        time.sleep(0.01)
        raise OSError("disk")
    watch.add("model", 3.0)
    watch.add("model", 0.5)
    assert 0.02 <= watch.seconds["read"] <= watch.elapsed
    assert watch.seconds["model"] == 3.5


def test_environment_names_the_versions_that_decide_a_result_and_survives_json():
    facts = environment()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["wsi_maxmin"] == __version__
    assert {"numpy", "torch", "timm"} <= set(facts["packages"])


def test_peak_memory_is_in_bytes():
    block = bytearray(64 * 2**20)
    assert len(block) < peak_memory_bytes() < 2**40


def test_json_comes_back_as_written_and_leaves_no_partial_file(tmp_path):
    write_json(tmp_path / "run.json", {"old": 1})
    write_json(tmp_path / "run.json", {"seconds": 1.5, "path": tmp_path})
    assert read_json(tmp_path / "run.json") == {"seconds": 1.5, "path": str(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("text", ['{"a": 1', "", "[1]", None])
def test_json_that_is_absent_or_not_whole_reads_as_none(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert read_json(tmp_path / "run.json") is None


def test_a_digest_is_of_the_content_and_of_nothing_where_nothing_is(tmp_path):
    one, other = tmp_path / "one.xml", tmp_path / "other.xml"
    one.write_text("a")
    other.write_text("a")
    assert digest(one) == digest(other) is not None
    other.write_text("b")
    assert digest(one) != digest(other)
    assert digest(None) is None
    assert digest(tmp_path / "gone.xml") is None


def test_any_number_of_threads_may_add_to_a_stage_and_which_are_summed_is_kept():
    watch = Stopwatch()

    def work(_):
        for _ in range(1000):
            watch.add("read", 1.0, summed=True)

    with ThreadPoolExecutor(8) as pool, watch.stage("model"):
        list(pool.map(work, range(8)))
    assert watch.beside() == {"read": 8000.0}
    assert list(watch.in_turn()) == ["model"]


def test_a_stopwatch_that_was_pickled_starts_anew():
    watch = Stopwatch()
    watch.add("read", 1.0, summed=True)
    copy = pickle.loads(pickle.dumps(watch))
    assert (copy.seconds, copy.summed) == ({}, set())
    assert copy.elapsed < watch.elapsed


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_the_peak_of_a_block_is_its_own_and_not_that_of_what_was_before():
    """The second block holds less than the first: the kernel's mark of the process stays where it was."""
    peaks = []
    for mebibytes in (400, 100, 0):
        with watching_memory() as peak:
            block = np.ones(mebibytes * 2**17)
            time.sleep(0.12)
            del block
            peaks.append(peak() / 2**20)
    assert 250 < peaks[0] - peaks[1] < 350
    assert 50 < peaks[1] - peaks[2] < 150
    assert peak_memory_bytes() / 2**20 >= peaks[0] - 1


def test_json_that_cannot_be_written_leaves_the_old_one_alone(tmp_path, monkeypatch):
    write_json(tmp_path / "run.json", {"old": 1})
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "run.json", {"new": 1})
    assert read_json(tmp_path / "run.json") == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
