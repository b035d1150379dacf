"""Processes that do the work of a run, and survive each other's death."""

import contextlib
import ctypes
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from queue import SimpleQueue
from typing import Any, TypeVar

from wsi_maxmin.errors import WorkerDiedError

T = TypeVar("T")

_ATTEMPTS = 3
# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _MOST_MMAP_THRESHOLD = 2**28, 2**25


def usable_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class Workers:
    """A pool of processes for any number of threads that hand work to it; one worker is the calling thread itself.

    Processes take a second to start. They are started once the work has taken `patience_s`, or once it will, as far as
    what is done of it tells; until they are there the calling threads do it. So little work starts none.

    A process that dies (killed for memory, a codec that crashes) takes the pool with it. The pool is started anew, and
    what was under way is tried again, one piece after the other, so that the guilty one fails alone.

    Parameters
    ----------
    count : int
    preload : sequence of str
        Modules that the processes need, imported once for all of them.
    soon : bool
        Begin with that at once, beside what the calling thread does.
    patience_s : float
        0 leaves no work to the calling thread.
    """

    def __init__(self, count: int, *, preload: Sequence[str], soon: bool = False, patience_s: float = 1.0) -> None:
        self._count = count
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        if count > 1 and soon:
            # The process that imports for all the others, of which they are forked.
            forkserver.ensure_running()
        self._patience_s = patience_s
        self._first: float | None = None
        self._starter: threading.Thread | None = None
        self._ready = threading.Event()
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._closed = False

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run one piece of work and wait for it; see `map`."""
        return next(iter(self.map(function, [args])))

    def map(self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        """Run pieces of work; yield their results as they come, in any order.

        Raises
        ------
        WorkerDiedError
            If the process of one dies every time.
        KeyboardInterrupt
            If the pool was closed meanwhile.
        """
        waiting = deque(calls)
        start = time.monotonic()
        while waiting:
            done = len(calls) - len(waiting)
            to_do_s = (time.monotonic() - start) / done * len(waiting) if done else 0.0
            if self._has_processes(to_do_s):
                break
            yield function(*waiting.popleft())
        # Not `futures.wait`, which sleeps on where a closed pool has cancelled what it waits for.
        ready: SimpleQueue[Future[T]] = SimpleQueue()
        under_way: dict[Future[T], tuple[Any, ...]] = {}
        try:
            for args in waiting:
                future = self._submit(function, args)
                under_way[future] = args
                future.add_done_callback(ready.put)
            while under_way:
                future = ready.get()
                args = under_way.pop(future)
                try:
                    result = future.result()
                except CancelledError:
                    raise KeyboardInterrupt from None
                except BrokenProcessPool:
                    result = self._again(function, args)
                yield result
        finally:
            # What has begun is waited for: the caller may remove the files that it writes.
            begun = [future for future in under_way if not future.cancel()]
            futures.wait(begun)

    def _has_processes(self, to_do_s: float) -> bool:
        """Say whether processes are there to take work; start them once there was, or will be, enough of it."""
        if self._count == 1 or self._ready.is_set():
            return self._count > 1
        now = time.monotonic()
        with self._lock:
            if self._closed:
                raise KeyboardInterrupt
            self._first = now if self._first is None else self._first
            if self._starter is None and max(now - self._first, to_do_s) >= self._patience_s:
                self._starter = threading.Thread(target=self._start, daemon=True)
                self._starter.start()
        if self._patience_s == 0:
            self._ready.wait()
        return self._ready.is_set()

    def _start(self) -> None:
        # A pool that is closed before it has started is no one's loss.
        with contextlib.suppress(KeyboardInterrupt, CancelledError, BrokenProcessPool):
            self._current().submit(os.getpid).result()
        self._ready.set()

    def _submit(self, function: Callable[..., T], args: tuple[Any, ...]) -> Future[T]:
        while True:
            pool = self._current()
            try:
                return pool.submit(function, *args)
            except BrokenProcessPool:
                self._discard(pool)

    def _again(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        with self._alone:
            for _ in range(1, _ATTEMPTS):
                pool = self._current()
                try:
                    return pool.submit(function, *args).result()
                except BrokenProcessPool:
                    self._discard(pool)
        raise WorkerDiedError(
            "a worker process died",
            got=f"{_ATTEMPTS} times at the same work",
            remedy="give the machine more memory or use fewer --workers; a damaged file may be the cause as well",
        )

    def _current(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._closed:
                raise KeyboardInterrupt
            if self._pool is None:
                self._pool = _Pool(self._count, mp_context=self._context, initializer=_begin)
            return self._pool

    def _discard(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the processes; what has not begun is dropped."""
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Pool(ProcessPoolExecutor):
    """A pool that starts all its processes with the first work.

    CPython starts them as work comes; one that begins while another dies is not told to end, and is waited for forever.
    """

    _safe_to_dynamically_spawn_children: bool

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._safe_to_dynamically_spawn_children = False


def _begin() -> None:
    """Leave Ctrl-C to the parent, and end with it: an orphan would write into the folder of the next run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_freed_memory()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _keep_freed_memory() -> None:
    """Let the next patch take the memory of the last one.

    Else glibc, in some processes and not in others, gives it back and takes it anew: 700 page faults a patch, a third
    of the time of a PNG.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _MOST_MMAP_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back_memory() -> None:
    """Free what only refers to itself, and let glibc return to the system what it keeps for this process."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
