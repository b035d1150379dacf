"""Planned runs done one after the other; one that fails does not end the others."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from wsi_maxmin.cohort import FAILURES
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._reproduce_plan import Given, PlannedRun, source_of, why_of
from wsi_maxmin.pipelines._row_runs import RowRun
from wsi_maxmin.progress import Progress
from wsi_maxmin.runinfo import write_text

Status = Literal["done", "kept", "stopped", "left out", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What became of a run; ``kept`` was done before, `why` says more."""

    name: str
    status: Status
    why: str = ""


class Worker:
    """Does planned runs and keeps what became of each; tracebacks go to ``failures.log``.

    Parameters
    ----------
    out : Path
    given : mapping
        Finished runs of elsewhere, whose weights another row may take.
    max_minutes : float or None
        No epoch begins that would end later.
    progress : Progress

    Attributes
    ----------
    outcomes : list of RunOutcome
    """

    def __init__(self, out: Path, given: Given, *, max_minutes: float | None, progress: Progress) -> None:
        self._out, self._given = out, given
        self._end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._progress = progress
        self.outcomes: list[RunOutcome] = []

    def do(self, plan: PlannedRun) -> None:
        """Do what is missing of a run."""
        self.attempt(plan.run.name, lambda: self._do(plan))

    def attempt(self, name: str, work: Callable[[], tuple[Status, str]]) -> None:
        """Keep the outcome of some work, or its failure."""
        try:
            status, why = work()
        except Exception as error:
            status, why = "failed", why_of(error)
            self._log(name)
            self._progress.say(f"{name}: failed: {why}")
        self.outcomes.append(RunOutcome(name=name, status=status, why=why))

    def _do(self, plan: PlannedRun) -> tuple[Status, str]:
        run = plan.run
        if plan.state in ("done", "given"):
            return "kept", "finished elsewhere" if plan.state == "given" else ""
        if plan.state == "refused":
            raise InputError(plan.why)
        if plan.trains:
            left = None if self._end is None else (self._end - time.monotonic()) / 60
            if left is not None and left <= 0:
                return "left out", "out of time"
            result = run.train(minutes=left, progress=self._progress)
            if result.stopped:
                return "stopped", f"out of time after {result.done} of {plan.epochs} epochs"
        elif plan.state == "to make" and (missing := self._make(run)):
            return "left out", missing
        run.score(progress=self._progress)
        return "done", ""

    def _make(self, run: RowRun) -> str:
        """Make what needs no training of its own, or say what is missing."""
        if run.source is None:
            run.make_untrained()
            return ""
        trained = source_of(run, self._given)
        if trained is None:
            return f"its weights are those of {run.source}, which is not here"
        run.take_weights(trained)
        return ""

    def _log(self, name: str) -> None:
        path = self._out / FAILURES
        earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        write_text(path, f"{earlier}{now}  {name}\n{traceback.format_exc()}\n")
