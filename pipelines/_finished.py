"""Which slides of a result are finished and may be looked at, and what became of the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._file_names import HEATMAP, TILEMAPS
from wsi_maxmin.pipelines._result_folders import names_of, outcomes_of
from wsi_maxmin.runinfo import RUN_FILE, command_of, read_json

_NAMED = 5
_EXPECTED = "a folder that infer-slide or stitch wrote, of a slide or of a run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The slides of a result.

    Attributes
    ----------
    folders : list of Path
        Of those that are finished, by name; never none.
    failed : mapping of str to str
        Why others failed, by slide_id.
    unfinished : list of str
        slide_id of those that were not ended, not begun, or are not here.
    """

    folders: list[Path]
    failed: Mapping[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        """How many slides there is nothing to show of."""
        return len(self.failed) + len(self.unfinished)

    def describe_left_out(self) -> str:
        """Name the slides that are left out, or the first of them."""
        parts = (("failed", list(self.failed)), ("no finished result", self.unfinished))
        return "; ".join(f"{what}: {_first(names)}" for what, names in parts if names)


def finished_slides(result: Path) -> Finished:
    """Return which slides of a result are finished, be it of one slide or of a run.

    Raises
    ------
    InputError
        If none is.
    """
    folder = result.resolve()
    facts = read_json(folder / RUN_FILE) or {}
    outcomes = _outcomes(folder.parent)
    if (folder / HEATMAP).is_dir() or (folder / TILEMAPS).is_dir() or {"slide", "source"} & facts.keys():
        if not _is_done(folder):
            raise _not_finished(folder, outcomes.get(folder.name))
        return Finished(folders=[folder])
    found = _slides_of_run(folder)
    if not found and outcomes.get(folder.name) is not None:
        raise _not_finished(folder, outcomes[folder.name])
    if not found:
        raise InputError("no heatmap in this folder", got=result, expected=_EXPECTED)
    failures = {name: why for name, why in _outcomes(folder).items() if why is not None}
    waiting = [name for name, done in found.items() if not done]
    finished = Finished(
        folders=[folder / name for name, done in found.items() if done],
        failed={name: failures[name] for name in waiting if name in failures},
        unfinished=[name for name in waiting if name not in failures],
    )
    if not finished.folders:
        raise InputError("no slide of this run is finished", got=finished.describe_left_out(), remedy=_remedy(folder))
    return finished


def tell_left_out(finished: Finished, say: Callable[[str], object]) -> None:
    """Say which slides of a run are not shown, if any."""
    if finished.left_out:
        shown = len(finished.folders)
        say(f"{shown} of {shown + finished.left_out} slides are shown; {finished.describe_left_out()}")


def _slides_of_run(run: Path) -> dict[str, bool]:
    """Return whether each slide of a run is done, sorted."""
    known = {path.parent.name for name in (HEATMAP, TILEMAPS) for path in run.glob(f"*/{name}")}
    return {name: name in known and _is_done(run / name) for name in sorted(known | names_of(run))}


def _is_done(folder: Path) -> bool:
    return (folder / HEATMAP).is_dir() and (read_json(folder / RUN_FILE) or {}).get("status") == "done"


def _outcomes(run: Path) -> dict[str, str | None]:
    """Return why each slide that a run has attempted failed; None for one that did not."""
    return {
        name: str(outcome.get("why") or "see failures.log") if outcome.get("status") == "failed" else None
        for name, outcome in outcomes_of(run).items()
    }


def _not_finished(folder: Path, why: str | None) -> InputError:
    what = "has no finished result" if why is None else "failed"
    return InputError(f"{folder.name} {what}", got=folder if why is None else why, remedy=_remedy(folder))


def _remedy(folder: Path) -> str:
    command = command_of(folder) or command_of(folder.parent) or "infer-slide"
    return f"finish it by {command} --resume"


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
