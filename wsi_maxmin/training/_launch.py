"""Start the processes that train together, bring them together, and let none outlive the others."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
import torch.distributed as dist

from wsi_maxmin.errors import WorkerDiedError, WsiMaxminError
from wsi_maxmin.training._ranks import Ranks, device_of

Follow = Callable[[Ranks, torch.device], object]

_PATIENCE = timedelta(minutes=30)
_ENDING_S = 60.0
_NOTICING_S = 2.0


@contextmanager
def join_ranks(ranks: Ranks, device: torch.device, follow: Follow) -> Iterator[None]:
    """Bring the processes together while the block runs; without torchrun, start those beside this one.

    Parameters
    ----------
    ranks : Ranks
    device : torch.device
        Of this process.
    follow : callable
        What the others do, given their own ranks and device; it must pickle.

    Raises
    ------
    WorkerDiedError
        If one of the others ends before its time.
    """
    if ranks.count == 1:
        yield
        return
    if ranks.torchrun:
        with _group(ranks, device, "env://"):
            yield
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "ranks").as_uri()
        with _others(ranks, device, follow, meeting) as others, _group(ranks, device, meeting), others.blamed():
            yield


@contextmanager
def _group(ranks: Ranks, device: torch.device, meeting: str) -> Iterator[None]:
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=meeting,
        rank=ranks.rank,
        world_size=ranks.count,
        timeout=_PATIENCE,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _others(ranks: Ranks, device: torch.device, follow: Follow, meeting: str) -> Iterator["_Others"]:
    """Start the other ranks, and see to it that none outlives this one."""
    context = multiprocessing.get_context("spawn")
    errors: SimpleQueue[WsiMaxminError] = context.SimpleQueue()
    threads = max(torch.get_num_threads() // ranks.count, 1)
    places = [replace(ranks, rank=rank, place=rank) for rank in range(1, ranks.count)]
    others: list[BaseProcess] = [
        context.Process(target=_follow, args=(follow, their, device_of(their, device), meeting, threads, errors))
        for their in places
    ]
    try:
        for other in others:
            other.start()
        yield _Others(others, errors)
        for other in others:
            other.join(_ENDING_S)
    finally:
        for other in others:
            if other.is_alive():
                other.terminate()
            if other.pid is not None:
                other.join()


@dataclass(frozen=True, slots=True)
class _Others:
    """The processes that this one has started, and the errors that they met."""

    processes: Sequence[BaseProcess]
    errors: "SimpleQueue[WsiMaxminError]"

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Say of a broken connection why it broke; if this process is at fault, the others are still well."""
        try:
            yield
        except RuntimeError as error:
            # A connection goes, and then a sentinel, a moment before the process has an exit code.
            ended = wait([process.sentinel for process in self.processes], _NOTICING_S)
            for process in self.processes:
                if process.sentinel in ended:
                    process.join(_NOTICING_S)
            if not self.errors.empty():
                raise self.errors.get() from None
            codes = {rank: process.exitcode for rank, process in enumerate(self.processes, start=1)}
            if not any(codes.values()):
                raise
            raise WorkerDiedError(
                "a process that trains beside this one has ended",
                got=", ".join(f"rank {rank}: exit code {code}" for rank, code in codes.items() if code),
                remedy="see above for its error; --resume continues after the last epoch",
            ) from error


def _follow(
    follow: Follow,
    ranks: Ranks,
    device: torch.device,
    meeting: str,
    threads: int,
    errors: "SimpleQueue[WsiMaxminError]",
) -> None:
    """Be a rank that another process has started: quiet, and gone when that process is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    torch.set_num_threads(threads)
    with _group(ranks, device, meeting):
        try:
            follow(ranks, device)
        except WsiMaxminError as error:
            errors.put(error)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
