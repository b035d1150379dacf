"""Two runs and one folder: they never write to it at once, and the second says what becomes of the first."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.runinfo import RUN_FILE, read_json

Existing = Literal["refuse", "resume", "overwrite"]

_LOCK = ".lock"
# Runs of earlier versions did not keep these facts of a slide.
_LATER_FACTS = ("sampled", "modified")

_ABSENT = object()

# Settings that are not called as what users type.
_FLAGS = {
    "dense_context": "--mode dense --dense-context",
    "groups": "--group",
    "lists": "--list",
    "patch_px": "--patch-size",
    "stride_px": "--stride",
    "variant": "--compile or int8 files",
    "without_annotation": "--no-annotation",
}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder while this one writes to it; the lock goes with the process.

    Raises
    ------
    OutputExistsError
        If another run has the folder; the message says which process on which machine.
    InputError
        If the folder's file system knows no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # "a+" leaves what the holder wrote for the loser to read.
    with (folder / _LOCK).open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputExistsError(
                f"another run is writing to {folder}", got=_holder(handle), remedy="wait for it to end"
            ) from None
        except OSError as error:
            raise InputError(
                f"the file system of {folder} has no locks",
                got=error,
                expected="a folder that two runs cannot write to at once",
                remedy="use a folder on a local disk",
            ) from None
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        handle.truncate(0)
        json.dump({"pid": os.getpid(), "host": platform.node(), "started": now}, handle)
        handle.flush()
        try:
            yield
        finally:
            # The next holder is not to be mistaken for this one before it has written its own.
            handle.truncate(0)


def _holder(handle: TextIO) -> str | None:
    """Say who has the lock; None where it has not written it yet."""
    try:
        handle.seek(0)
        holder = json.load(handle)
        return f"pid {holder['pid']} on {holder['host']} since {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
    # A run that was killed while it wrote its first file leaves no more than these two.
    empty = (_LOCK, f".{RUN_FILE}.partial")
    present = earlier is not None or (folder.is_dir() and any(path.name not in empty for path in folder.iterdir()))
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
    if changed := changed_settings(before, settings, may_change=may_change):
        now, then = changed
        raise InputError(
            f"{folder} was started with other settings",
            got=now,
            expected=then,
            remedy="repeat the earlier settings, use --overwrite or another folder",
        )
    return False


def changed_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], *, may_change: Sequence[str] = ()
) -> tuple[str, str] | None:
    """Return the settings in which a run differs from an earlier one, as they are now and were then; None if in none.

    Both are as users type them: a config is changed by its keys, everything else by flags.
    """
    write = _as_flag
    if now.get("command") == "train":
        before, now, write = _flat(before), _flat(now), _as_override
    keys = sorted({*before, *now} - set(may_change))
    changed = [key for key in keys if before.get(key) != now.get(key)]
    after, then = (", ".join(write(key, of.get(key, _ABSENT)) for key in changed) for of in (now, before))
    return (after, then) if changed else None


def _flat(settings: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Return settings by names such as ``training.batch_size``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{within}{key}.") if isinstance(value, Mapping) else {f"{within}{key}": value}
    return flat


def _as_override(key: str, value: Any) -> str:
    """Return a value of a config as users type it."""
    return f"no {key}" if value is _ABSENT else f"{key}={'null' if value is None else value}"


def _as_flag(key: str, value: Any) -> str:
    """Return a setting as users type it."""
    flag = _FLAGS.get(key, f"--{key.replace('_', '-')}")
    if value is _ABSENT or value is None or value is False or value == []:
        return f"no {flag}"
    parts = list(value.values()) if isinstance(value, Mapping) else value
    text = ",".join(map(str, parts)) if isinstance(parts, list) else str(value)
    return flag if value is True else f"{flag} {text}"


def same_slide(slide_id: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that the file behind a finished result is still the same.

    Raises
    ------
    InputError
        If it is another one; the message says what has changed.
    """
    if changed := changed_facts(before, now):
        raise InputError(
            f"{slide_id} is done, but from another file",
            got=", ".join(f"{key} {after}" for key, (_, after) in changed.items()),
            expected=", ".join(f"{key} {then}" for key, (then, _) in changed.items()),
            remedy="put that file back, use --overwrite or another folder",
        )


def changed_facts(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the facts of a slide that differ, with their values then and now."""
    keys = [key for key in {**before, **now} if key in before or key not in _LATER_FACTS]
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}
