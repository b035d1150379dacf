"""The folders of slides in results, and the slides of a run that have no result, with the reason."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_maxmin.cohort import Outcome
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._file_names import HEATMAP, TILEMAPS
from wsi_maxmin.runinfo import RUN_FILE, command_of, read_json
from wsi_maxmin.slides_csv import read_slides

RESUME = "run infer-slide on this slide with --resume"
STITCH_ON = "run stitch with --resume"
_COMMANDS = {"infer-slide": RESUME, "stitch": STITCH_ON}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """A slide that has neither heatmap nor tile maps.

    Attributes
    ----------
    folder : Path
        Where they would be.
    why : str
        What became of it.
    remedy : str
    """

    folder: Path
    why: str
    remedy: str

    @property
    def outcome(self) -> Outcome:
        """What becomes of it in a command that needs a heatmap."""
        why = f"{self.folder.name} has no heatmap; {self.why}; {self.remedy}"
        return Outcome(slide_id=self.folder.name, path=str(self.folder), status="failed", why=why, bad_input=True)


def result_folders(
    results: Sequence[Path], *, holding: Sequence[str], what: str, say: Callable[[str], object] = lambda _: None
) -> dict[str, Path]:
    """Return the folders of slides by name, where slides without result are left out.

    Parameters are those of `split_results`, and `say`, which is told what is left out.

    Raises
    ------
    InputError
        If a folder holds none, or two hold a slide of the same name.
    """
    found: list[Path] = []
    for result in results:
        inside, lacking = split_results([result], holding=holding, what=what)
        if not inside:
            raise InputError(lacking[0].outcome.why)
        for each in lacking:
            say(f"left out: {each.outcome.why}")
        found += inside
    return by_name(found)


def by_name(folders: Sequence[Path]) -> dict[str, Path]:
    """Return folders of slides by name, where what is made of them needs names of their own.

    Raises
    ------
    InputError
        If two hold a slide of the same name.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if found.setdefault(folder.name, folder) != folder:
            raise InputError(
                "two results are of a slide of the same name",
                got=f"{found[folder.name]} and {folder}",
                remedy="use a folder of its own for each",
            )
    return found


def split_results(results: Sequence[Path], *, holding: Sequence[str], what: str) -> tuple[list[Path], list[Lacking]]:
    """Return the folders of slides, each once, those inside the folders of runs included, and slides without result.

    Parameters
    ----------
    results : sequence of Path
        Folders of slides, or of whole runs.
    holding : sequence of str
        What a slide's folder has at least one of.
    what : str
        What these are called in messages.

    Raises
    ------
    InputError
        If a folder is of no slide, and of no run of any.
    """
    found: dict[Path, None] = {}
    without: dict[Path, Lacking] = {}
    for result in results:
        own = any((result / name).exists() for name in holding)
        inside = [result] if own else sorted({path.parent for name in holding for path in result.glob(f"*/{name}")})
        lacking = [] if own else _lacking(result.resolve())
        if not inside and not lacking:
            raise InputError(
                f"no {what} in this folder",
                got=result,
                expected="a folder that infer-slide wrote, of a slide or of a run",
            )
        found |= dict.fromkeys(path.resolve() for path in inside)
        without |= {each.folder: each for each in lacking}
    return list(found), list(without.values())


def _lacking(result: Path) -> list[Lacking]:
    """Return the slides of a run that have neither heatmap nor tile maps, or the one that a folder is of."""
    own = _is_slide(result) or result.name in names_of(result.parent)
    folders = [result] if own else [result / name for name in sorted({*names_of(result), *_begun(result)})]
    return [
        describe_lacking(folder)
        for folder in folders
        if not any((folder / name).exists() for name in (HEATMAP, TILEMAPS))
    ]


def names_of(run: Path) -> set[str]:
    """Return the slides that a run has attempted, or is to; none where this is no run."""
    if command_of(run) not in _COMMANDS:
        return set()
    names = set(outcomes_of(run))
    with suppress(InputError):  # found by the check of each slide
        names |= set(read_slides(run))
    return {name for name in names if Path(name).name == name}  # none may lead elsewhere


def _begun(run: Path) -> Iterator[str]:
    return (path.parent.name for path in run.glob(f"*/{RUN_FILE}") if _is_slide(path.parent))


def _is_slide(folder: Path) -> bool:
    facts = read_json(folder / RUN_FILE) or {}
    return command_of(folder) in _COMMANDS and ("slide" in facts or "source" in facts)


def outcomes_of(run: Path) -> dict[str, Mapping[str, Any]]:
    """Return what a run's ``run.json`` says of each slide that it has attempted: ``status``, and ``why`` it failed."""
    slides = (read_json(run / RUN_FILE) or {}).get("slides") or ()
    return {str(slide["slide_id"]): slide for slide in slides if isinstance(slide, Mapping) and slide.get("slide_id")}


def failure_of(folder: Path) -> str | None:
    """Return why a slide has failed, as the ``run.json`` of its run says; None where it does not."""
    outcome = outcomes_of(folder.parent).get(folder.name, {})
    return f"failed: {outcome.get('why') or 'no reason is known'}" if outcome.get("status") == "failed" else None


def describe_lacking(folder: Path) -> Lacking:
    """Say why a slide has no result, and what helps."""
    run, status = read_json(folder.parent / RUN_FILE) or {}, (read_json(folder / RUN_FILE) or {}).get("status")
    remedy = _COMMANDS.get(command_of(folder) or command_of(folder.parent) or "", RESUME)
    if status == "done":  # which a resumed run would believe
        why, remedy = "status done, but its files are gone", remedy.replace("--resume", "--overwrite")
        return Lacking(folder=folder, why=why, remedy=remedy)
    if run.get("status") == "running":
        remedy = f"if the run does not go on, {remedy}"
    if (failed := failure_of(folder)) is not None:
        why = failed
    elif status is not None:
        why = f"not finished: status {status}"
    elif folder.is_dir():
        why = f"no {RUN_FILE} in {folder}"
    elif folder.name in outcomes_of(folder.parent):
        why = "its folder is gone"
    else:
        why = f"not begun: the run has status {run.get('status')}" if run else f"no such folder {folder}"
    return Lacking(folder=folder, why=why, remedy=remedy)
