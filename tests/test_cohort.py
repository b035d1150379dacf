"""Many slides in one run: outcomes, exit codes, and what a second run does."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Barrier, Event, current_thread, main_thread
from typing import Any

import pytest

from wsi_maxmin.cohort import CohortResult, Existing, Outcome, Status, claim, locked, run_cohort
from wsi_maxmin.errors import InputError, OutputExistsError, SlideError
from wsi_maxmin.progress import Quiet
from wsi_maxmin.runinfo import write_json

SLIDES = {name: Path(f"{name}.tif") for name in ("a", "b", "c")}


class Heard(Quiet):
    """Keep what a user would see."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def run(
    out: Path,
    failures: Mapping[str, BaseException],
    progress: Quiet | None = None,
    *,
    slides: Sequence[str] = "abc",
    **options: Any,
) -> CohortResult:
    def work(slide_id: str, path: Path) -> Status:
        if slide_id in failures:
            raise failures[slide_id]
        return "skipped" if slide_id == "c" else "done"

    named = {name: SLIDES.get(name, Path(f"{name}.tif")) for name in slides}
    return run_cohort(named, work, out=out, settings={"px": 1}, progress=progress or Quiet(), **options)


def run_json(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "run.json").read_text())
    return values


def test_every_slide_is_attempted_and_every_outcome_kept(tmp_path: Path) -> None:
    heard = Heard()
    result = run(tmp_path, {"a": SlideError("a.tif is torn"), "b": ZeroDivisionError("oops")}, heard)
    assert [(o.slide_id, o.status, o.why, o.bad_input) for o in result.outcomes] == [
        ("a", "failed", "a.tif is torn", True),
        ("b", "failed", "ZeroDivisionError: oops", False),
        ("c", "skipped", "done by an earlier run", False),
    ]
    assert heard.said == ["a: failed: a.tif is torn", "b: failed: ZeroDivisionError: oops"]
    kept = run_json(tmp_path)
    assert kept["status"] == "failed"
    assert [slide["status"] for slide in kept["slides"]] == ["failed", "failed", "skipped"]
    assert kept["settings"] == {"px": 1}
    assert kept["environment"]["python"]
    log = (tmp_path / "failures.log").read_text()
    assert result.log == tmp_path / "failures.log"
    assert log.count("Traceback") == 2
    assert f"  a  {SLIDES['a'].absolute()}\nTraceback" in log
    assert "ZeroDivisionError: oops" in log


def test_the_log_keeps_the_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, {"b": ZeroDivisionError("oops")})
    assert "b.tif failed" in caplog.text
    assert "raise failures[slide_id]" in caplog.text


@pytest.mark.parametrize("parallel", [1, 2])
def test_hidden_paths_stand_in_no_outcome_no_file_and_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parallel: int
) -> None:
    result = run(tmp_path, {"b": ZeroDivisionError("oops")}, parallel=parallel, hide_paths=True)
    assert [outcome.path for outcome in result.outcomes] == ["", "", ""]
    here = str(Path.cwd())
    assert here not in (tmp_path / "run.json").read_text()
    assert "b.tif" not in (tmp_path / "failures.log").read_text() + caplog.text
    assert "b failed" in caplog.text


def test_a_run_without_failures_is_done(tmp_path: Path) -> None:
    assert run(tmp_path, {}).exit_code == 0
    assert run_json(tmp_path)["status"] == "done"
    assert not (tmp_path / "failures.log").exists()


def test_an_interrupted_run_says_so_and_keeps_what_was_done(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, {"b": KeyboardInterrupt()})
    assert run_json(tmp_path)["status"] == "interrupted"
    assert [slide["slide_id"] for slide in run_json(tmp_path)["slides"]] == ["a"]


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["done", "skipped"], 0),
        (["done", "bad input"], 1),
        (["skipped", "failed"], 1),
        (["failed"], 1),
        (["bad input", "failed"], 1),
        (["bad input"], 2),
        (["bad input", "bad input"], 2),
    ],
)
def test_the_exit_code_tells_all_some_and_nothing_attempted_apart(outcomes: list[str], code: int) -> None:
    result = CohortResult(
        out=Path("out"),
        outcomes=tuple(
            Outcome(
                slide_id="s",
                path="s.tif",
                status="failed" if kind == "bad input" else kind,  # type: ignore[arg-type]
                bad_input=kind == "bad input",
            )
            for kind in outcomes
        ),
    )
    assert result.exit_code == code


@pytest.mark.parametrize("existing", ["resume", "overwrite"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, existing: Existing) -> None:
    (tmp_path / "precious.png").touch()
    with pytest.raises(OutputExistsError, match=r"no run of this; use another folder; nothing was deleted"):
        claim(tmp_path, {"command": "this"}, existing)
    write_json(tmp_path / "run.json", {"settings": {"command": "that"}})
    with pytest.raises(OutputExistsError, match="no run of this"):
        claim(tmp_path, {"command": "this"}, existing)


def test_a_resumed_run_may_differ_only_where_it_is_said(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"settings": {"command": "this", "mpp": None, "px": 1}})
    assert not claim(tmp_path, {"command": "this", "mpp": 0.25, "px": 1}, "resume", may_change=("mpp",))
    with pytest.raises(InputError, match=r"got --mpp 0\.25; expected no --mpp"):
        claim(tmp_path, {"command": "this", "mpp": 0.25, "px": 1}, "resume")


def test_what_has_changed_is_called_as_users_type_it(tmp_path: Path) -> None:
    before: dict[str, Any] = {"command": "this", "patch_px": 64, "region": None, "preview": True, "groups": []}
    now = {"command": "this", "patch_px": 32, "region": {"x": 1, "y": 2}, "preview": False, "groups": ["a", "b"]}
    write_json(tmp_path / "run.json", {"settings": before})
    with pytest.raises(InputError) as refused:
        claim(tmp_path, now, "resume")
    got = "got --group a,b, --patch-size 32, no --preview, --region 1,2"
    expected = "expected no --group, --patch-size 64, --preview, no --region"
    assert f"{got}; {expected}" in str(refused.value)
    write_json(tmp_path / "run.json", {"settings": {"command": "train", "training": {"epochs": 2, "seed": 0}}})
    with pytest.raises(InputError, match=r"got training\.epochs=3; expected training\.epochs=2; repeat"):
        claim(tmp_path, {"command": "train", "training": {"epochs": 3, "seed": 0}}, "resume")


def test_a_key_that_a_config_did_not_have_is_no_value_that_is_none(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"settings": {"command": "train", "model": {"params": {}, "weights": None}}})
    now = {"command": "train", "model": {"params": {"sigma": 0.3}, "weights": "imagenet"}}
    got = r"got model\.params\.sigma=0\.3, model\.weights=imagenet"
    with pytest.raises(InputError, match=rf"{got}; expected no model\.params\.sigma, model\.weights=null; repeat"):
        claim(tmp_path, now, "resume")


@pytest.mark.parametrize("existing", ["refuse", "resume", "overwrite"])
def test_an_empty_or_missing_folder_is_started_afresh_whatever_was_asked(tmp_path: Path, existing: Existing) -> None:
    assert claim(tmp_path / "new", {"px": 1}, existing)
    with locked(tmp_path / "new"):
        assert claim(tmp_path / "new", {"px": 1}, existing)


def test_a_folder_with_a_run_is_refused_resumed_or_overwritten(tmp_path: Path) -> None:
    run(tmp_path, {"b": ValueError()})
    with pytest.raises(OutputExistsError, match=r"holds a run; got status failed; --resume .*--overwrite"):
        claim(tmp_path, {"px": 1}, "refuse")
    assert not claim(tmp_path, {"px": 1}, "resume")
    assert claim(tmp_path, {"px": 1}, "overwrite")


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(OutputExistsError, match="is not empty"):
        claim(tmp_path, {"px": 1}, "refuse")


@pytest.mark.parametrize(("settings", "named"), [({"px": 2}, "got --px 2; expected --px 1"), ({}, "got no --px")])
def test_a_run_is_not_resumed_with_other_settings(tmp_path: Path, settings: dict[str, int], named: str) -> None:
    run(tmp_path, {})
    with pytest.raises(InputError, match=f"started with other settings; {named}"):
        claim(tmp_path, settings, "resume")


def test_a_second_run_is_kept_out_while_the_first_one_lives_and_no_longer(tmp_path: Path) -> None:
    """The lock of a process that was killed is gone with it."""
    held = "import sys; from pathlib import Path; from wsi_maxmin.cohort import locked\n"
    held += "with locked(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        says = rf"another run is writing to .*; got pid {other.pid} on \S+ since 20\S+; wait"
        for _ in range(2):
            with pytest.raises(OutputExistsError, match=says), locked(tmp_path):
                pass
        other.kill()
        other.wait()
    with locked(tmp_path), pytest.raises(OutputExistsError), locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_holder_that_has_not_written_its_name_is_still_a_holder(tmp_path: Path, content: str) -> None:
    with (tmp_path / ".lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        holder.write(content)
        holder.flush()
        with pytest.raises(OutputExistsError, match=r"another run is writing to [^;]*; wait"), locked(tmp_path):
            pass


def test_a_file_system_without_locks_is_told_from_a_held_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InputError, match=r"the file system of .* has no locks; got .*No locks.*local disk"):
        locked(tmp_path).__enter__()


def kept(out: Path) -> dict[str, str]:
    return {slide["slide_id"]: slide["status"] for slide in run_json(out)["slides"]}


def test_slides_of_earlier_runs_stay_in_run_json_until_a_fresh_start(tmp_path: Path) -> None:
    run(tmp_path, {"b": ValueError()}, slides="ab")
    assert run(tmp_path, {}, slides="bd").exit_code == 0
    assert kept(tmp_path) == {"a": "done", "b": "done", "d": "done"}
    assert run_json(tmp_path)["status"] == "done"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, {"d": KeyboardInterrupt()}, slides="eda")
    assert list(kept(tmp_path)) == ["a", "b", "d", "e"]
    run(tmp_path, {}, slides="d", fresh=True)
    assert kept(tmp_path) == {"d": "done"}


def test_slides_of_another_command_are_not_taken_over(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"settings": {"command": "that"}, "slides": [{"slide_id": "z"}]})
    run(tmp_path, {}, slides="a")
    assert kept(tmp_path) == {"a": "done"}


@pytest.mark.parametrize(("before", "seconds"), [("done", 61.5), ("skipped", 61.5), ("failed", 0), (None, 0)])
def test_a_skipped_slide_keeps_the_time_that_it_took(tmp_path: Path, before: str | None, seconds: float) -> None:
    slides = [{"slide_id": "c", "path": "c.tif", "status": before, "seconds": 61.5}] if before else [{}, None]
    write_json(tmp_path / "run.json", {"settings": {}, "slides": slides})
    (outcome,) = run(tmp_path, {}, slides="c").outcomes
    assert (outcome.status, outcome.seconds) == ("skipped", seconds)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full is Linux's")
def test_an_empty_log_is_not_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "failures.log").symlink_to("/dev/full")
    result = run(tmp_path, {"a": SlideError("torn")})
    assert (result.exit_code, result.log) == (1, None)


def test_failures_of_several_runs_share_a_log(tmp_path: Path) -> None:
    run(tmp_path, {"a": ValueError("first")}, slides="a")
    run(tmp_path, {"a": ValueError("second")}, slides="a")
    log = (tmp_path / "failures.log").read_text()
    assert 0 < log.index("ValueError: first") < log.index("ValueError: second")
    assert run(tmp_path, {}, slides="a").log is None


def in_parallel(out: Path, work: Callable[[str, Path], Status], parallel: int = 2) -> CohortResult:
    return run_cohort(SLIDES, work, out=out, settings={}, progress=Quiet(), parallel=parallel)


def test_one_slide_at_a_time_is_done_in_the_calling_thread(tmp_path: Path) -> None:
    def work(slide_id: str, path: Path) -> Status:
        return "done" if current_thread() is main_thread() else "skipped"

    assert {outcome.status for outcome in in_parallel(tmp_path, work, 1).outcomes} == {"done"}


def test_slides_at_once_come_out_in_order_whichever_is_done_first(tmp_path: Path) -> None:
    """All three meet before one goes on; the first is done last, when the others are in ``run.json``."""
    meet, rest = Barrier(3), tmp_path / "run.json"

    def work(slide_id: str, path: Path) -> Status:
        meet.wait(10)
        while slide_id == "a" and len(json.loads(rest.read_text())["slides"]) < 2:
            pass
        if slide_id == "b":
            raise SlideError("torn")
        return "done"

    result = in_parallel(tmp_path, work, 3)
    assert [(o.slide_id, o.status) for o in result.outcomes] == [("a", "done"), ("b", "failed"), ("c", "done")]
    assert list(kept(tmp_path)) == ["a", "b", "c"]
    assert "SlideError: torn" in (tmp_path / "failures.log").read_text()


def test_an_interruption_begins_no_further_slide_and_waits_for_those_begun(tmp_path: Path) -> None:
    begun, interrupted = Event(), Event()

    def work(slide_id: str, path: Path) -> Status:
        if slide_id == "a":
            begun.wait(10)
            interrupted.set()
            raise KeyboardInterrupt
        begun.set()
        interrupted.wait(10)
        # Long enough for the calling thread to cancel what has not begun.
        time.sleep(0.5)
        return "done"

    slides = SLIDES | {"d": Path("d.tif"), "e": Path("e.tif")}
    with pytest.raises(KeyboardInterrupt):
        run_cohort(slides, work, out=tmp_path, settings={}, progress=Quiet(), parallel=2)
    assert run_json(tmp_path)["status"] == "interrupted"
    assert "b" in kept(tmp_path)
    assert "e" not in kept(tmp_path)


def test_an_interruption_can_end_the_slides_that_have_begun(tmp_path: Path) -> None:
    begun, stop = Event(), Event()

    def work(slide_id: str, path: Path) -> Status:
        if slide_id == "a":
            begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        assert stop.wait(10)
        raise SlideError("stopped")

    slides = {name: Path(f"{name}.tif") for name in "abcdef"}
    with pytest.raises(KeyboardInterrupt):
        run_cohort(slides, work, out=tmp_path, settings={}, progress=Quiet(), parallel=2, stop=stop.set)
    assert "b" not in kept(tmp_path)
    assert not (tmp_path / "failures.log").exists()


def test_no_slide_at_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got 0; expected at least 1"):
        run(tmp_path, {}, parallel=0)
