"""What `reproduce` would do: the state of each run, and about how long what is missing takes. Nothing is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wsi_maxmin.errors import WsiMaxminError, in_one_line
from wsi_maxmin.locks import changed_settings
from wsi_maxmin.pipelines._epoch_times import EpochTimer, past_seconds
from wsi_maxmin.pipelines._row_runs import RowRun, Workplace
from wsi_maxmin.progress import Progress
from wsi_maxmin.run_results import RunResult, is_finished
from wsi_maxmin.runinfo import RUN_FILE, read_json
from wsi_maxmin.time_left import in_words
from wsi_maxmin.training import BEST

State = Literal["done", "given", "to score", "to make", "to continue", "to train", "refused"]

Given = Mapping[tuple[str, int], RunResult]
"""Finished runs of elsewhere, by name and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run and what is missing of it.

    Attributes
    ----------
    run : RowRun
    state : str
        ``given`` was finished elsewhere; ``to make`` needs no training of its own; ``refused`` is there with other
        settings, and is left as it is.
    done, epochs : int
        Epochs that are done, and that the config asks for.
    seconds : float or None
        That what is missing takes; scoring counts for nothing. None where that is not known.
    measured : bool
        Whether that was measured now, and not taken from epochs that are done.
    why : str
        Why it would fail; empty if nothing is known against it.
    """

    run: RowRun
    state: State
    done: int = 0
    epochs: int = 0
    seconds: float | None = 0.0
    measured: bool = False
    why: str = ""

    @property
    def trains(self) -> bool:
        """Whether epochs are missing."""
        return self.state in ("to continue", "to train")

    def in_words(self) -> str:
        """Return the state in words."""
        counts = {"to continue": f", {self.done} of {self.epochs} epochs done", "to train": f", {self.epochs} epochs"}
        return self.state + counts.get(self.state, "")


def find_states(runs: Sequence[RowRun], given: Given) -> list[PlannedRun]:
    """Look what is there of each run."""
    planned: dict[str, PlannedRun] = {}
    for run in runs:
        planned[run.name] = _state(run, given, planned)
    return list(planned.values())


def expect(
    planned: Sequence[PlannedRun], place: Workplace, finished: Sequence[RunResult], progress: Progress
) -> list[PlannedRun]:
    """Add about how long the missing epochs take, and why a run would fail.

    Epochs that were done here count before those of other seeds, and these before a measurement on a few samples.
    """
    timer, expected = EpochTimer(place.data, place.device), list[PlannedRun]()
    with progress.track("expected time", len(planned), unit="run") as advance:
        for plan in planned:
            expected.append(_expect(plan, place, finished, timer) if plan.trains else plan)
            advance()
    return expected


def plan_table(planned: Sequence[PlannedRun], remarks: Sequence[str]) -> str:
    """Return a line a run, the time of all that are to be trained, and remarks."""
    width = max((len(plan.run.name) for plan in planned), default=0)
    states = max((len(plan.in_words()) for plan in planned), default=0)
    lines = [f"{'run':{width}}  {'state':{states}}  expected"]
    for plan in planned:
        time = "" if plan.seconds is None else f"about {in_words(plan.seconds)}"
        said = f"fails: {plan.why}" if plan.why else time if plan.trains else ""
        lines.append(f"{plan.run.name:{width}}  {plan.in_words():{states}}  {said}".rstrip())
    if known := [plan.seconds for plan in planned if plan.trains and plan.seconds is not None]:
        together = sum(known)
        lines.append(f"{'together':{width}}  {'':{states}}  about {in_words(together)}")
    if any(plan.measured for plan in planned):
        lines.append("measured now, on a few images: too long where other work runs beside it")
    return "\n".join([*lines, *remarks])


def source_of(run: RowRun, given: Given) -> Path | None:
    """Return the folder of the finished training whose weights a run takes, if it is here or where it was given."""
    key = (str(run.ordered.weights_of), run.seed)
    trained = given[key].folder if key in given else run.folder.with_name(str(run.source))
    return trained if trained is not None and (trained / BEST).is_file() and is_finished(trained) else None


def _state(run: RowRun, given: Given, before: Mapping[str, PlannedRun]) -> PlannedRun:
    if (run.ordered.run, run.seed) in given:
        return PlannedRun(run=run, state="given")
    facts = read_json(run.folder / RUN_FILE) or {}
    if run.learns:
        if facts and (changed := changed_settings(facts.get("settings") or {}, run.settings())):
            now, then = changed
            said = f"it was started with other settings; got {now}; expected {then}"
            return PlannedRun(run=run, state="refused", why=f"{said}; repeat the earlier ones, or give another --out")
        config, done = run.config(), len(facts.get("epochs", ()))
        if done < config.training.epochs or facts.get("status") != "done":
            state: State = "to continue" if done else "to train"
            return PlannedRun(run=run, state=state, done=done, epochs=config.training.epochs)
    elif run.source is not None and before[run.source].state == "refused":
        why = f"its weights are those of {run.source}, which was started with other settings"
        return PlannedRun(run=run, state="refused", why=why)
    elif not facts or (run.source is not None and _has_new_source(run, given, before[run.source])):
        return PlannedRun(run=run, state="to make")
    return PlannedRun(run=run, state="done" if run.is_scored() else "to score")


def why_of(error: Exception) -> str:
    """Say in one line why a run fails."""
    return str(error) if isinstance(error, WsiMaxminError) else in_one_line(error)


def _has_new_source(run: RowRun, given: Given, source: PlannedRun) -> bool:
    trained = source_of(run, given)
    return source.trains or (trained is not None and not run.has_weights_of(trained))


def _expect(plan: PlannedRun, place: Workplace, finished: Sequence[RunResult], timer: EpochTimer) -> PlannedRun:
    run, why = plan.run, ""
    seconds = past_seconds(run.folder, place.device) or _of_other_seeds(run, place, finished)
    measured = seconds is None
    if seconds is None:
        try:
            seconds = timer.seconds(run.config_name, run.overrides())
        except Exception as error:
            why = why_of(error)
    left = None if seconds is None else seconds * (plan.epochs - plan.done)
    return replace(plan, seconds=left, measured=measured and not why, why=why)


def _of_other_seeds(run: RowRun, place: Workplace, finished: Sequence[RunResult]) -> float | None:
    """Return the seconds of an epoch of a finished run of the same settings on this kind of device."""
    decisive, mine = ("data", "augment", "model", "training"), run.settings()
    for other in finished:
        same = other.name == run.ordered.run and other.device.partition(":")[0] == place.device.type
        if same and other.seconds and all(other.settings.get(key) == mine[key] for key in decisive):
            return other.seconds / len(other.epochs)
    return None
