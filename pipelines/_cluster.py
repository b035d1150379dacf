"""The workers that a run over slides is shared out to by dask: of this machine, or of a given scheduler."""

import itertools
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, NamedTuple

import torch
from distributed import Client, Future
from distributed.comm import CommClosedError

from wsi_maxmin.assets import ASSETS, find_model
from wsi_maxmin.engines._choice import Choice
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines import _worker
from wsi_maxmin.pipelines._crew import Crew, ask
from wsi_maxmin.pipelines._dask import DEATHS, FIRST_WORKER_S, connected, died, local, local_workers, result, silence
from wsi_maxmin.pipelines._job import InferSettings, Job
from wsi_maxmin.pipelines._shares import Done, Share, Source, Worker, fingerprint
from wsi_maxmin.progress import Advance, Progress
from wsi_maxmin.readers import Reader
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.slide_inputs import RunSlides
from wsi_maxmin.tilemaps import TileMaps
from wsi_maxmin.workers import usable_cores

SEEN_S = 90

_SHARES_A_WORKER = 4
# A GPU stands still while a share begins and ends: few, long ones. On a CPU a chunk takes seconds.
_MOST_CHUNKS = {"cuda": 16}
_MOST_CHUNKS_ELSEWHERE = 2
_MOST_SLIDES_AT_ONCE = 16


class _Attempt(NamedTuple):
    """A share that was handed out.

    Attributes
    ----------
    share : Share
    number : int
        One more than the deaths that it was in line for.
    only : list of str or None
        The workers that may take it; None is any.
    """

    share: Share
    number: int
    only: list[str] | None


class Cluster:
    """Workers that are there, checked, and of one kind.

    Parameters
    ----------
    crew : Crew
    worker : Worker
        What each of them is.

    Attributes
    ----------
    device : torch.device
        What each of them computes on.
    """

    def __init__(self, crew: Crew, worker: Worker) -> None:
        self.device = torch.device(worker.device)
        self._crew, self._client, self._worker = crew, crew.client, worker
        self._run, self._order = uuid.uuid4().hex, itertools.count()
        self._waiting: set[SimpleQueue[Future | None]] = set()
        self._stopped = False

    @property
    def slides_at_once(self) -> int:
        """How many slides must be under way so that no worker waits while some are planned and some are stitched."""
        return min(self._count() + 2, _MOST_SLIDES_AT_ONCE)

    def settle(
        self, run: RunSlides, settings: InferSettings, *, earlier: Mapping[str, Any], progress: Progress
    ) -> Choice:
        """Settle engine and precision on one of the workers, which may have what this machine lacks; see `settle`."""
        arguments = (self._worker, run, _anywhere(settings), dict(earlier))
        only = self._crew.only()
        asked = self._client.submit(
            _worker.settle_here, *arguments, pure=False, workers=only, allow_other_workers=bool(only)
        )
        choice: Choice
        ready: SimpleQueue[Future | None] = SimpleQueue()
        asked.add_done_callback(ready.put)
        while self._crew.first(ready) is None:
            pass
        choice, messages = result(asked, "the choice of an engine")
        for message in messages:
            progress.say(message)
        return choice

    def fill(self, slide: Reader, maps: TileMaps, job: Job, *, advance: Advance, stopwatch: Stopwatch) -> None:
        """Have what is missing of tile maps computed; slides that come first are done first.

        Raises
        ------
        WsiMaxminError
            If a worker does not see the same files, or each that takes a share dies.
        KeyboardInterrupt
            If the run was stopped.
        """
        name, priority = slide.info.slide_id, -next(self._order)
        ready: SimpleQueue[Future | None] = SimpleQueue()
        self._waiting.add(ready)
        under_way: dict[Future, _Attempt] = {}

        def submit(share: Share, number: int) -> None:
            only = self._crew.only()
            key = ("wsi-maxmin", self._run, name, share.chunks[0].start, next(self._order))
            future = self._client.submit(_worker.run_share, share, key=key, priority=priority, workers=only)
            under_way[future] = _Attempt(share, number, only)
            future.add_done_callback(ready.put)

        began, tiles = time.perf_counter(), 0
        try:
            for share in self._shares(slide, maps, job):
                submit(share, 1)
            while under_way:
                future = None if self._stopped else self._crew.first(ready)
                if self._stopped:
                    raise KeyboardInterrupt
                if future is None:
                    for stranded in self._crew.stranded({each: under_way[each].only for each in under_way}):
                        self._client.cancel([stranded])
                        submit(*under_way.pop(stranded)[:2])
                    continue
                if future not in under_way:  # it was stranded
                    continue
                share, number, _ = under_way.pop(future)
                if number < DEATHS and died(future) and share.begun() < DEATHS:
                    # It only waited for workers that died of other shares.
                    submit(share, number + 1)
                    continue
                done: Done = result(future, name)
                tiles += done.tiles
                for stage, seconds in done.seconds.items():
                    stopwatch.add(stage, seconds, summed=True)
                advance(done.tiles, note=f"{tiles / (time.perf_counter() - began):.1f} tiles/s")
        except BaseException:
            with suppress(CommClosedError, OSError, RuntimeError):
                self._client.cancel(list(under_way))
            raise
        finally:
            self._waiting.discard(ready)
        _wait_until_seen(maps)
        maps.tidy()

    def stop(self) -> None:
        """Make every `fill` end soon, by KeyboardInterrupt."""
        self._stopped = True
        for ready in list(self._waiting):
            ready.put(None)

    def _shares(self, slide: Reader, maps: TileMaps, job: Job) -> list[Share]:
        most = _MOST_CHUNKS.get(self.device.type, _MOST_CHUNKS_ELSEWHERE)
        share = Share(
            job=replace(job, settings=_anywhere(job.settings)),
            worker=self._worker,
            source=Source.of(slide),
            fingerprint=fingerprint(slide),
            maps=maps.path.absolute(),
            chunks=(),
        )
        return [replace(share, chunks=chunks) for chunks in deal(maps.todo(), self._count(), most)]

    def _count(self) -> int:
        return max(len(self._crew.present()), 1)


def deal(chunks: Sequence[range], workers: int, most: int) -> list[tuple[range, ...]]:
    """Cut chunks into shares of at most `most`: several a worker where there are enough, so that all end together."""
    size = min(max(len(chunks) // (workers * _SHARES_A_WORKER), 1), most)
    return [tuple(chunks[start : start + size]) for start in range(0, len(chunks), size)]


@contextmanager
def open_cluster(scheduler: str, *, workers: int | None, device: str, progress: Progress) -> Iterator[Cluster]:
    """Start workers on this machine or find those of a scheduler, and see that they can take part.

    Parameters
    ----------
    scheduler : str
        ``processes``, or the address of a scheduler.
    workers : int or None
        Processes to start; of a scheduler, how many to wait for.
    device : str
        See `pick_device`.
    progress : Progress

    Raises
    ------
    InputError
        If there is no such scheduler, it has no workers, or they cannot take part.
    """
    if scheduler != "processes":
        with silence(), connected(scheduler) as client:
            progress.say(f"waiting for workers of {scheduler}")
            yield _checked(client, scheduler, workers or 1, Worker.of_this_run(device), progress)
        return
    environments = local_workers(workers, device)
    threads = max(min(torch.get_num_threads(), usable_cores() // len(environments)), 1)
    progress.say(f"worker processes: {len(environments)}, torch threads of each: {threads}")
    with silence(), local(environments) as client:
        yield _checked(client, "this machine", len(environments), Worker.of_this_run(device, threads), progress)


def _checked(client: Client, scheduler: str, workers: int, worker: Worker, progress: Progress) -> Cluster:
    try:
        client.wait_for_workers(workers, timeout=FIRST_WORKER_S)
    except TimeoutError:
        there = len(client.scheduler_info()["workers"])
        raise InputError(
            "too few workers",
            got=f"{there} at {scheduler} after {FIRST_WORKER_S} s",
            expected=workers,
            remedy="start some with `dask worker`, or ask for fewer by --workers",
        ) from None
    crew, device = ask(client, scheduler, worker, progress)
    return Cluster(crew, replace(worker, device=device))


def _anywhere(settings: InferSettings) -> InferSettings:
    """Return settings whose model is found from any working directory, and a bundled one where it is installed."""
    path = find_model(settings.model)
    return settings if path.parent == ASSETS else replace(settings, model=str(path.absolute()))


def _wait_until_seen(maps: TileMaps) -> None:
    """Wait until what the workers wrote is seen here, which on a network file system may take a minute."""
    limit = time.monotonic() + SEEN_S
    while missing := maps.todo():
        if time.monotonic() > limit:
            raise InputError(
                "what the workers wrote does not arrive here",
                got=f"{len(missing)} chunks of {maps.path} are missing after {SEEN_S} s",
                expected="one folder that all machines see",
                remedy="put --out on a file system that all machines have at the same path",
            )
        time.sleep(0.5)
