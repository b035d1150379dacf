"""How long work reports that it goes on; the command line decides what a user sees of it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Say that `count` more units are done; `note` stands beside the bar, such as a rate or a loss."""

    def __call__(self, count: int = 1, *, note: str = "") -> None:
        """Report progress."""


class Progress(Protocol):
    """Where long work reports to; any number of threads may."""

    def track(self, what: str, total: int, *, unit: str, done: int = 0) -> AbstractContextManager[Advance]:
        """Start a bar of `total` units, of which `done` were done by an earlier run."""

    def say(self, message: str) -> None:
        """Show a line that the user should read."""


class Quiet:
    """Report nothing: what a library call does unless it is told otherwise."""

    @contextmanager
    def track(self, what: str, total: int, *, unit: str, done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        """Swallow progress."""

        def advance(count: int = 1, *, note: str = "") -> None:
            pass

        yield advance

    def say(self, message: str) -> None:
        """Swallow a message."""
