"""Many slides in one run: each is attempted, every outcome is kept, a second run knows what is done."""

import fcntl
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from wsi_maxmin.errors import InputError, OutputExistsError, WsiMaxminError
from wsi_maxmin.progress import Progress
from wsi_maxmin.runinfo import RUN_FILE, environment, read_json, write_json

Existing = Literal["refuse", "resume", "overwrite"]
Status = Literal["done", "skipped", "failed"]

_log = logging.getLogger(__name__)
_LOCK = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one slide.

    Attributes
    ----------
    slide_id, path : str
    status : {"done", "skipped", "failed"}
        ``skipped`` was done by an earlier run.
    why : str
        The error's message, or a remark.
    bad_input : bool
        The slide failed for what it is, not for what we did.
    seconds : float
    """

    slide_id: str
    path: str
    status: Status
    why: str = ""
    bad_input: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortResult:
    """Outcomes of all slides, in order."""

    out: Path
    outcomes: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        """0 all done; 1 some failed; 2 none could be attempted because of what they are."""
        failed = [outcome for outcome in self.outcomes if outcome.status == "failed"]
        if len(failed) == len(self.outcomes) and all(outcome.bad_input for outcome in failed):
            return 2
        return 1 if failed else 0


def unique_slide_ids(paths: Sequence[Path]) -> dict[str, Path]:
    """Name each slide by its file's stem, with its folder in front where two would clash; a repeated file counts once.

    Raises
    ------
    InputError
        If no slide is given, or two remain alike.
    """
    if not paths:
        raise InputError("no slide given", expected="at least one slide file")
    distinct = list({path.resolve(): path for path in paths}.values())
    counts = Counter(path.stem for path in distinct)
    named: dict[str, Path] = {}
    for path in distinct:
        slide_id = path.stem if counts[path.stem] == 1 else f"{path.resolve().parent.name}_{path.stem}"
        if slide_id in named:
            slide_id += path.suffix.replace(".", "_")
        if slide_id in named:
            raise InputError("two slides have the same name", got=f"{named[slide_id]} and {path}", remedy="rename one")
        named[slide_id] = path
    return named


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder while this one writes to it; the lock goes with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputExistsError(f"another run is writing to {folder}", remedy="wait for it to end") from None
        yield


def claim(folder: Path, settings: Mapping[str, Any], existing: Existing, *, may_change: Sequence[str] = ()) -> bool:
    """Decide what a run does with a folder that may hold an earlier one; say whether to start it afresh.

    Parameters
    ----------
    folder : Path
    settings : mapping
        What decides the results; its ``command`` tells runs of different commands apart.
    existing : {"refuse", "resume", "overwrite"}
    may_change : sequence of str
        Settings in which a resumed run may differ.

    Raises
    ------
    OutputExistsError
        If an earlier run is there and neither resume nor overwrite was asked for, or the files are not of this command.
    InputError
        If it is to be resumed with other settings.
    """
    earlier = read_json(folder / RUN_FILE)
    present = earlier is not None or (folder.is_dir() and any(path.name != _LOCK for path in folder.iterdir()))
    if not present:
        return True
    before = (earlier or {}).get("settings", {})
    if earlier is None or before.get("command") != settings.get("command"):
        raise OutputExistsError(
            f"{folder} is not empty and holds no run of {settings.get('command', 'this command')}",
            remedy="use another folder; nothing was deleted",
        )
    if existing == "overwrite":
        return True
    if existing == "refuse":
        raise OutputExistsError(
            f"{folder} holds a run",
            got=f"status {earlier.get('status')}",
            remedy="--resume continues it, --overwrite replaces it",
        )
    keys = sorted({*before, *settings} - set(may_change))
    if changed := [key for key in keys if before.get(key) != settings.get(key)]:
        key = changed[0]
        raise InputError(
            f"{folder} was started with other settings",
            got=f"{key} = {settings.get(key)}",
            expected=f"{before.get(key)}",
            remedy="repeat the earlier settings, use --overwrite or another folder",
        )
    return False


def same_slide(slide_id: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that the file behind a finished result is still the same.

    Raises
    ------
    InputError
        If it is another one.
    """
    if dict(before) != dict(now):
        raise InputError(
            f"{slide_id} is done, but from another file",
            got=dict(now),
            expected=dict(before),
            remedy="use --overwrite or another folder",
        )


def run_cohort(
    slides: Mapping[str, Path],
    work: Callable[[str, Path], Status],
    *,
    out: Path,
    settings: Mapping[str, Any],
    progress: Progress,
) -> CohortResult:
    """Attempt every slide and keep ``run.json`` of the whole run up to date after each.

    Parameters
    ----------
    slides : mapping of slide_id to path
    work : callable
        Does one slide; an exception makes that slide failed, and the next is tried.
    """
    facts = {"settings": dict(settings), "environment": environment()}
    outcomes: list[Outcome] = []
    write_json(out / RUN_FILE, {"status": "running", **facts})
    status = "interrupted"
    try:
        for slide_id, path in slides.items():
            outcomes.append(_attempt(slide_id, path, work))
            if outcomes[-1].status == "failed" and len(slides) > 1:
                progress.say(f"{slide_id}: failed: {outcomes[-1].why}")
            write_json(out / RUN_FILE, {"status": "running", **facts, "slides": [asdict(o) for o in outcomes]})
        status = "failed" if any(outcome.status == "failed" for outcome in outcomes) else "done"
    finally:
        write_json(out / RUN_FILE, {"status": status, **facts, "slides": [asdict(o) for o in outcomes]})
    return CohortResult(out=out, outcomes=tuple(outcomes))


def _attempt(slide_id: str, path: Path, work: Callable[[str, Path], Status]) -> Outcome:
    start = time.perf_counter()
    try:
        status, why, bad_input = work(slide_id, path), "", False
    except Exception as error:
        _log.error("%s failed\n%s", path, traceback.format_exc())
        bad_input = isinstance(error, WsiMaxminError)
        status, why = "failed", str(error) if bad_input else f"{type(error).__name__}: {error}"
    return Outcome(
        slide_id=slide_id,
        path=str(path),
        status=status,
        why=why,
        bad_input=bad_input,
        seconds=round(time.perf_counter() - start, 2),
    )
