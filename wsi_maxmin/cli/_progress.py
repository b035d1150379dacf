"""Bars on a terminal, a line a minute elsewhere; always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from wsi_maxmin.progress import Advance, Progress

_LINE_EVERY_S = 60.0


def make_progress() -> Progress:
    """Return bars where stderr is a terminal, lines elsewhere."""
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()


class TerminalProgress:
    """A rich bar for each piece of work."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def track(self, what: str, total: int, *, unit: str, done: int = 0) -> Iterator[Advance]:
        """Show a bar until the block ends."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self._console) as bars:
            task = bars.add_task(what, total=total, completed=done, note="")

            def advance(count: int = 1, *, note: str = "") -> None:
                bars.update(task, advance=count, note=note)

            yield advance

    def say(self, message: str) -> None:
        """Print above the bar."""
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)


class LineProgress:
    """A line at most once a minute, and one at the end: fit for log files."""

    @contextmanager
    def track(self, what: str, total: int, *, unit: str, done: int = 0) -> Iterator[Advance]:
        """Write lines until the block ends."""
        position, last_note, last_line = done, "", time.monotonic()

        def advance(count: int = 1, *, note: str = "") -> None:
            nonlocal position, last_note, last_line
            position, last_note = position + count, note
            if time.monotonic() - last_line >= _LINE_EVERY_S:
                last_line = time.monotonic()
                self.say(f"{what}: {position}/{total} {unit} {note}")

        yield advance
        self.say(f"{what}: {position}/{total} {unit} {last_note}".rstrip())

    def say(self, message: str) -> None:
        """Write a line."""
        sys.stderr.write(message + "\n")
        sys.stderr.flush()
