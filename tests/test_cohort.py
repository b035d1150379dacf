"""Many slides in one run: outcomes, exit codes, and what a second run does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wsi_maxmin.cohort import CohortResult, Existing, Outcome, Status, claim, locked, run_cohort, unique_slide_ids
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


def run(out: Path, failures: dict[str, BaseException], progress: Quiet | None = None) -> CohortResult:
    def work(slide_id: str, path: Path) -> Status:
        if slide_id in failures:
            raise failures[slide_id]
        return "skipped" if slide_id == "c" else "done"

    return run_cohort(SLIDES, work, out=out, settings={"px": 1}, progress=progress or Quiet())


def run_json(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "run.json").read_text())
    return values


def test_every_slide_is_attempted_and_every_outcome_kept(tmp_path: Path) -> None:
    heard = Heard()
    result = run(tmp_path, {"a": SlideError("a.tif is torn"), "b": ZeroDivisionError("oops")}, heard)
    assert [(o.slide_id, o.status, o.why, o.bad_input) for o in result.outcomes] == [
        ("a", "failed", "a.tif is torn", True),
        ("b", "failed", "ZeroDivisionError: oops", False),
        ("c", "skipped", "", False),
    ]
    assert heard.said == ["a: failed: a.tif is torn", "b: failed: ZeroDivisionError: oops"]
    kept = run_json(tmp_path)
    assert kept["status"] == "failed"
    assert [slide["status"] for slide in kept["slides"]] == ["failed", "failed", "skipped"]
    assert kept["settings"] == {"px": 1}
    assert kept["environment"]["python"]


def test_the_log_keeps_the_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, {"b": ZeroDivisionError("oops")})
    assert "b.tif failed" in caplog.text
    assert "raise failures[slide_id]" in caplog.text


def test_a_run_without_failures_is_done(tmp_path: Path) -> None:
    assert run(tmp_path, {}).exit_code == 0
    assert run_json(tmp_path)["status"] == "done"


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


def test_a_slide_is_called_by_its_stem_and_by_its_folder_too_where_two_clash() -> None:
    paths = [Path("x/one.tif"), Path("x/two.svs"), Path("y/one.tif")]
    assert unique_slide_ids(paths) == {"x_one": paths[0], "two": paths[1], "y_one": paths[2]}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.tif", "x/a.svs"], ["x_a", "x_a_svs"]),
        (["x/a.tif", "x/a.tif"], ["a"]),
        (["x/a.tif", "y/a.tif", "x_a.tif"], ["x_a", "y_a", "x_a_tif"]),
    ],
)
def test_slides_whose_folders_do_not_tell_them_apart_get_their_suffix_and_repeated_ones_count_once(
    paths: list[str], names: list[str]
) -> None:
    assert list(unique_slide_ids([Path(path) for path in paths])) == names


def test_slides_that_remain_alike_are_both_named() -> None:
    paths = [Path("x/a.tif"), Path("p/x/a.tif"), Path("q/x/a.tif")]
    with pytest.raises(InputError, match=r"two slides have the same name; got p/x/a\.tif and q/x/a\.tif; rename one"):
        unique_slide_ids(paths)


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
    with pytest.raises(InputError, match=r"got mpp = 0\.25; expected None"):
        claim(tmp_path, {"command": "this", "mpp": 0.25, "px": 1}, "resume")


def test_a_cohort_of_no_slides_is_refused() -> None:
    with pytest.raises(InputError, match="no slide given"):
        unique_slide_ids([])


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


@pytest.mark.parametrize(("settings", "named"), [({"px": 2}, "got px = 2; expected 1"), ({}, "got px = None")])
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
        with pytest.raises(OutputExistsError, match=r"another run is writing to .*; wait"), locked(tmp_path):
            pass
        other.kill()
        other.wait()
    with locked(tmp_path), pytest.raises(OutputExistsError), locked(tmp_path):
        pass
