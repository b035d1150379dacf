"""Many slides in one run: each is attempted, every outcome is kept, a second run knows what is done."""

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from wsi_maxmin.errors import InputError, WsiMaxminError, in_one_line
from wsi_maxmin.locks import Existing, claim, locked, same_slide
from wsi_maxmin.progress import Progress
from wsi_maxmin.runinfo import FAILURES, RUN_FILE, environment, read_json, write_json
from wsi_maxmin.slide_ids import P, source_key, unique_slide_ids

__all__ = [
    "FAILURES",
    "CohortResult",
    "Existing",
    "Outcome",
    "Status",
    "attempt_one",
    "claim",
    "locked",
    "run_cohort",
    "same_slide",
    "unique_slide_ids",
]

Status = Literal["done", "skipped", "failed"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one slide.

    Attributes
    ----------
    slide_id : str
    path : str
        Absolute, or a URL without user and query; empty where paths are hidden.
    status : {"done", "skipped", "failed"}
        ``skipped`` was done by an earlier run.
    why : str
        The error's message, or a remark.
    bad_input : bool
        The slide failed for what it is, not for what we did.
    seconds : float
        What it took; of a skipped slide, what it took the run that did it, 0 where that is not known.
    """

    slide_id: str
    path: str
    status: Status
    why: str = ""
    bad_input: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortResult:
    """Outcomes of all slides, in order.

    Attributes
    ----------
    out : Path
    outcomes : tuple of Outcome
    log : Path or None
        Where the tracebacks are; None where no slide failed, or there was no room to keep them.
    """

    out: Path
    outcomes: tuple[Outcome, ...]
    log: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 all done; 1 some failed; 2 none could be attempted because of what they are."""
        failed = [outcome for outcome in self.outcomes if outcome.status == "failed"]
        if len(failed) == len(self.outcomes) and all(outcome.bad_input for outcome in failed):
            return 2
        return 1 if failed else 0


def run_cohort(
    slides: Mapping[str, P],
    work: Callable[[str, P], Status],
    *,
    out: Path,
    settings: Mapping[str, Any],
    progress: Progress,
    parallel: int = 1,
    fresh: bool = False,
    stop: Callable[[], None] | None = None,
    hide_paths: bool = False,
) -> CohortResult:
    """Attempt every slide and keep ``run.json`` of the whole folder up to date after each.

    Its slides are those of this run and of earlier runs of the same command; its status is that of this run.
    Tracebacks are added to ``failures.log``.

    Parameters
    ----------
    slides : mapping of slide_id to path
    work : callable
        Does one slide; an exception makes that slide failed, and the next is tried.
    out : Path
        Folder of the run, locked by the caller.
    settings : mapping
        What decides the results; see `claim`.
    progress : Progress
        Told of failures, from the calling thread.
    parallel : int
        Slides at once, each in a thread; with 1 in the calling thread. An interruption waits for those that have begun.
    fresh : bool
        Forget the slides of earlier runs, because their results are gone.
    stop : callable, optional
        Called when several slides at once are interrupted: makes `work` end early, by an exception, on those begun.
    hide_paths : bool
        Keep no slide's path in outcomes and files.

    Raises
    ------
    InputError
        If `parallel` is less than 1.
    """
    if parallel < 1:
        raise InputError("cannot work on so few slides at once", got=parallel, expected="at least 1")
    facts = {"settings": dict(settings), "environment": environment()}
    before = read_json(out / RUN_FILE) or {}
    same_command = before.get("settings", {}).get("command") == settings.get("command")
    earlier = _slides_of(before) if same_command and not fresh else {}
    outcomes: dict[str, Outcome] = {}
    log: Path | None = None
    attempt = partial(attempt_one, work=work, hide_path=hide_paths)

    def write(status: str) -> None:
        known = earlier | {slide_id: asdict(outcomes[slide_id]) for slide_id in slides if slide_id in outcomes}
        try:
            write_json(out / RUN_FILE, {"status": status, **facts, "slides": list(known.values())})
        except OSError as error:
            # The slides go on: each has its own file, and a run that is not marked done can be resumed.
            progress.say(f"WARNING: {out / RUN_FILE} is not up to date: {in_one_line(error)}")

    def keep(outcome: Outcome, trace: str) -> None:
        nonlocal log
        slide_id, then = outcome.slide_id, earlier.get(outcome.slide_id, {})
        if outcome.status == "skipped":
            seconds = then.get("seconds", 0.0) if then.get("status") != "failed" else 0.0
            outcome = replace(outcome, why="done by an earlier run", seconds=seconds)
        if trace:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            with suppress(OSError):
                with (out / FAILURES).open("a", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(f"{now}  {slide_id}  {outcome.path}\n{trace}\n")
                log = out / FAILURES
        outcomes[slide_id] = outcome
        if outcome.status == "failed" and len(slides) > 1:
            progress.say(f"{slide_id}: failed: {outcome.why}")
        write("running")

    write("running")
    status = "interrupted"
    try:
        if parallel == 1:
            for slide_id, path in slides.items():
                keep(*attempt(slide_id, path))
        else:
            _in_threads(slides, attempt, keep, parallel, stop)
        status = "failed" if any(outcome.status == "failed" for outcome in outcomes.values()) else "done"
    finally:
        write(status)
    return CohortResult(out=out, outcomes=tuple(outcomes[slide_id] for slide_id in slides), log=log)


def _in_threads(
    slides: Mapping[str, P],
    attempt: Callable[[str, P], tuple[Outcome, str]],
    keep: Callable[[Outcome, str], None],
    parallel: int,
    stop: Callable[[], None] | None,
) -> None:
    """Attempt several slides at once; keep each outcome in the calling thread as soon as it is there."""
    with ThreadPoolExecutor(parallel) as pool:
        open_ones = {pool.submit(attempt, slide_id, path) for slide_id, path in slides.items()}
        try:
            for future in as_completed(set(open_ones)):
                open_ones.remove(future)
                keep(*future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            if stop is not None:
                stop()
            pool.shutdown()
            for future in open_ones:
                if future.cancelled() or future.exception() is not None:
                    continue
                outcome, trace = future.result()
                # A slide that was stopped did not fail; like one interrupted in the calling thread it has no outcome.
                if stop is None or outcome.status != "failed":
                    keep(outcome, trace)
            raise


def _slides_of(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the outcomes in a run.json, be it of any command or version."""
    slides: Iterable[Any] = run.get("slides", ())
    whole = (slide for slide in slides if isinstance(slide, dict) and {"slide_id", "path", "status"} <= slide.keys())
    return {slide["slide_id"]: slide for slide in whole}


def attempt_one(slide_id: str, path: P, *, work: Callable[[str, P], Status], hide_path: bool) -> tuple[Outcome, str]:
    """Do one slide; return its outcome and the traceback of its failure."""
    start = time.perf_counter()
    where, trace = "" if hide_path else source_key(path), ""
    try:
        status, why, bad_input = work(slide_id, path), "", False
    except Exception as error:
        trace = traceback.format_exc()
        _log.error("%s failed\n%s", where or slide_id, trace)
        bad_input = isinstance(error, WsiMaxminError)
        status, why = "failed", str(error) if bad_input else in_one_line(error)
    seconds = round(time.perf_counter() - start, 2)
    outcome = Outcome(slide_id=slide_id, path=where, status=status, why=why, bad_input=bad_input, seconds=seconds)
    return outcome, trace
