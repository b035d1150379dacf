"""Which workers of a scheduler take part in a run: those that answer when they are asked, and those that come later."""

import math
import threading
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue

from distributed import Client, Future

from wsi_maxmin.errors import InputError, WsiMaxminError
from wsi_maxmin.pipelines import _worker
from wsi_maxmin.pipelines._dask import CONNECT_S, result
from wsi_maxmin.pipelines._shares import Worker
from wsi_maxmin.progress import Progress

ANSWER_S, LOOK_S, SAY_S = 300, 5, 60

_POLL_S = 0.2
_HELP = "look at its log and at the load of its machine"


class Crew:
    """Workers that take part: all that are there, but for those that do not answer.

    Parameters
    ----------
    client : Client
    late : mapping of str to Future
        What was asked of workers that have not answered yet, by address. One that does after all takes part.
    scheduler : str
        Its name in messages.
    progress : Progress
    """

    def __init__(self, client: Client, late: Mapping[str, Future], scheduler: str, progress: Progress) -> None:
        self.client, self._late = client, late
        self._scheduler, self._progress = scheduler, progress
        self._said, self._lock = -math.inf, threading.Lock()

    def present(self) -> list[str]:
        """Return the addresses of those that take part now."""
        return [address for address in self.client.scheduler_info()["workers"] if not self._is_late(address)]

    def only(self) -> list[str] | None:
        """Return whom work must be left to; None where that is anybody."""
        return self.present() if any(map(self._is_late, self._late)) else None

    def stranded(self, under_way: Mapping[Future, list[str] | None]) -> list[Future]:
        """Return what waits for workers that are gone, and could be given to others."""
        restricted = {future: only for future, only in under_way.items() if only is not None}
        there = set(self.present()) if restricted else set()
        return [future for future, only in restricted.items() if there and there.isdisjoint(only)]

    def first(self, ready: SimpleQueue[Future | None]) -> Future | None:
        """Wait for what is ready next; None where nothing is for a while. Meanwhile say if no worker is left."""
        try:
            return ready.get(timeout=LOOK_S)
        except Empty:
            self._look()
            return None

    def _look(self) -> None:
        with self._lock:  # every slide that is under way waits
            now = time.monotonic()
            if self.present():
                self._said = -math.inf
            elif now - self._said >= SAY_S:
                self._said = now
                self._progress.say(f"no worker left at {self._scheduler}; waiting for one")

    def _is_late(self, address: str) -> bool:
        return address in self._late and self._late[address].status != "finished"


def ask(client: Client, scheduler: str, worker: Worker, progress: Progress) -> tuple[Crew, str]:
    """Ask all workers whether they can take part; return those that do, and the device that they have.

    Raises
    ------
    InputError
        If one cannot, they have different devices, or none answers.
    """
    asked = {
        address: client.submit(_worker.describe, worker, workers=[address], pure=False)
        for address in client.scheduler_info()["workers"]
    }
    gone = _wait_for_answers(client, asked)
    late: dict[str, Future] = {}
    found: dict[str, str] = {}
    for address, future in asked.items():
        if (device := _device_of(address, future)) is None:
            late[address] = future
        else:
            found[device] = address
    silent = ", ".join(
        f"{address}, which " + ("ended meanwhile" if address in gone else f"did not answer within {ANSWER_S:g} s")
        for address in late
    )
    if not found:
        raise InputError("no worker takes part", got=silent, remedy=_HELP)
    if len(found) > 1:
        raise InputError(
            "the workers compute on different devices",
            got=", ".join(f"{device} at {address}" for device, address in found.items()),
            expected="one kind",
            remedy="--device cpu, or leave the others out",
        )
    if late:
        progress.say(f"WARNING: going on without {silent}; {_HELP}")
    return Crew(client, late, scheduler, progress), next(iter(found))


def _wait_for_answers(client: Client, asked: Mapping[str, Future]) -> set[str]:
    """Wait until all have answered that are still there; return those that are not."""
    limit = time.monotonic() + ANSWER_S
    while True:
        gone = set(asked).difference(client.scheduler_info()["workers"])
        waiting = [address for address, future in asked.items() if future.status == "pending" and address not in gone]
        if not waiting or time.monotonic() > limit:
            return gone
        time.sleep(_POLL_S)


def _device_of(address: str, asked: Future) -> str | None:
    """Return what a worker says that it computes on; it may not even understand the question, or not have answered."""
    if asked.status == "pending":
        return None
    try:
        device: str = result(asked, f"the worker at {address}", timeout=CONNECT_S)
    except TimeoutError:  # it ended with its answer
        return None
    except (ImportError, AttributeError, TypeError) as error:
        if isinstance(error, WsiMaxminError):
            raise
        raise InputError(
            f"the worker at {address} cannot take part",
            got=f"{type(error).__name__}: {error}",
            remedy="install the same version of wsi-maxmin everywhere",
        ) from None
    return device
