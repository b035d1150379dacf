"""Bars on a terminal, a line a minute elsewhere; always on stderr."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from wsi_maxmin.progress import Advance, Progress

_LINE_EVERY_S = 60.0


def make_progress() -> Progress:
    """Return bars where stderr is a terminal, lines elsewhere."""
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()


class TerminalProgress:
    """A rich bar for each piece of work, one below the other where several go on at once."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._lock = threading.Lock()
        self._bars: Bars | None = None
        self._open = 0

    @contextmanager
    def track(self, what: str, total: int, *, unit: str, done: int = 0) -> Iterator[Advance]:
        """Show a bar until the block ends."""
        bars = self._enter()
        task = bars.add_task(what, total=total, completed=done, unit=unit, note="")

        def advance(count: int = 1, *, note: str = "") -> None:
            bars.update(task, advance=count, note=note)

        try:
            yield advance
        finally:
            self._leave(bars, task)

    def say(self, message: str) -> None:
        """Print above the bars."""
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def _enter(self) -> Bars:
        with self._lock:
            if self._bars is None:
                columns = (
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TextColumn("{task.fields[unit]}"),
                    TextColumn("{task.fields[note]}"),
                    TimeRemainingColumn(),
                )
                self._bars = Bars(*columns, console=self._console)
                self._bars.start()
            self._open += 1
            return self._bars

    def _leave(self, bars: Bars, task: TaskID) -> None:
        with self._lock:
            self._open -= 1
            if self._open:
                # The line of what goes on stays, the one that is done makes room.
                bars.remove_task(task)
            else:
                bars.stop()
                self._bars = None


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
