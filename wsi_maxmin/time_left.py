"""How long the rest of a cohort takes, by what its slides took so far."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from wsi_maxmin.cohort import Status
from wsi_maxmin.progress import Progress

P = TypeVar("P")


@contextmanager
def showing_time_left(
    work: Callable[[str, P], Status], slides: int, progress: Progress, *, at_once: int = 1
) -> Iterator[Callable[[str, P], Status]]:
    """Give the work of a cohort, `at_once` slides at a time, with a bar of them and about how long the rest takes.

    What was skipped or failed took no time that says anything of the others. A single slide has no such bar.
    """
    if slides < 2:
        yield work
        return
    left, seconds, lock = slides, list[float](), Lock()
    with progress.track("all slides", slides, unit="slide") as advance:

        def timed(slide_id: str, path: P) -> Status:
            nonlocal left
            start = time.perf_counter()
            try:
                status = work(slide_id, path)
                if status == "done":
                    seconds.append(time.perf_counter() - start)
                return status
            finally:
                with lock:
                    left -= 1
                    known = left and seconds
                    mean = sum(seconds) / max(len(seconds), 1)
                    advance(note=f"about {in_words(left * mean / at_once)} left" if known else "")

        yield timed


def in_words(seconds: float) -> str:
    """Say a time as people do, such as ``40 s``, ``12 min`` or ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
