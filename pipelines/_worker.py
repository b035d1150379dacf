"""What a worker does: its share of a slide's tiles, from the slide that it opens to the maps that it writes."""

import atexit
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_maxmin.engines._base import Engine
from wsi_maxmin.engines._choice import Choice
from wsi_maxmin.errors import InputError, SlideError, WsiMaxminError
from wsi_maxmin.pipelines._engine import make_engine, settle
from wsi_maxmin.pipelines._job import InferSettings
from wsi_maxmin.pipelines._one_slide import fill
from wsi_maxmin.pipelines._shares import HOST, Done, Share, Source, Worker, fingerprint
from wsi_maxmin.pipelines.infer_slide import load_for_slides
from wsi_maxmin.progress import Quiet
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.slide_inputs import RunSlides
from wsi_maxmin.tilemaps import TileMaps

_SAME_PATHS = "put slides, model and --out on a file system that all machines have at the same path"
# A worker may have several threads; the model and the device are one.
_ONE_AT_A_TIME = threading.Lock()


class SharedMaps(TileMaps):
    """Tile maps that another run may have replaced meanwhile; a worker that is behind leaves the new ones alone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._seen = self._identity()

    def missing(self, chunks: tuple[range, ...]) -> list[range]:
        """Return those of the chunks that are not done; a share whose worker died may be done in part."""
        return [chunk for chunk in chunks if not self.is_done(chunk)]

    def write(self, chunk: range, mask: npt.NDArray[np.float16], logits: npt.NDArray[np.float32]) -> None:
        """Write the outputs of one whole chunk, unless the maps are others by now."""
        if self._identity() != self._seen:
            raise InputError("the tile maps were replaced by another run", got=self.path)
        super().write(chunk, mask, logits)

    def _identity(self) -> tuple[int, int]:
        # Opened, and not only looked at: a network file system then asks its server.
        with (self.path / "zarr.json").open("rb") as file:
            facts = os.fstat(file.fileno())
        return facts.st_ino, facts.st_mtime_ns


def run_share(share: Share) -> Done:
    """Compute a share; what of it is done already is left.

    Raises
    ------
    InputError, SlideError
        If this worker is of another kind than the run, or does not see the same files.
    """
    watch = Stopwatch()
    with _ONE_AT_A_TIME:
        share.worker.prepare()
        engine = _engine(share.job.settings, share.job.fingerprint, share.job.choice, share.worker.device)
        slide = _slide(share.source, share.fingerprint)
        with _sharing(share.maps) as maps:
            share.begin()
            fill(engine, slide, maps, maps.missing(share.chunks), share.job, advance=_silent, stopwatch=watch)
    return Done(tiles=sum(len(chunk) for chunk in share.chunks), seconds=watch.seconds)


def describe(worker: Worker) -> str:
    """Return the device of this worker, if it can take part."""
    with _ONE_AT_A_TIME:
        return str(worker.prepare())


def settle_here(
    worker: Worker, run: RunSlides, settings: InferSettings, earlier: Mapping[str, Any]
) -> tuple[Choice, list[str]]:
    """Settle engine and precision on this worker; return them and what is to be said of it."""
    heard = _Heard()
    with _ONE_AT_A_TIME:
        where = worker.prepare()
        model, _ = load_for_slides(settings, where)
        return settle(model, run, settings, device=where, earlier=earlier, progress=heard), heard.messages


def dask_setup(worker: object) -> None:  # noqa: ARG001 - the form of a preload of dask
    """Leave Ctrl-C to the run that started this worker, and end at once when told to: torch takes seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit.register(os._exit, 0)


class _Heard(Quiet):
    """Keep what is said."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)


@lru_cache(maxsize=1)
def _engine(settings: InferSettings, expected: str, choice: Choice, device: str) -> Engine:
    model, where = load_for_slides(settings, device)
    if model.fingerprint() != expected:
        raise InputError(
            "a worker has another model", got=f"{settings.model} on {HOST}", expected=expected, remedy=_SAME_PATHS
        )
    return make_engine(model, choice, where)


@lru_cache(maxsize=4)
def _slide(source: Source, expected: str) -> Reader:
    try:
        slide = open_slide(source.path, reader=source.reader, slide_mpp=source.slide_mpp, slide_id=source.slide_id)
        found = fingerprint(slide)
    except (WsiMaxminError, OSError) as error:
        raise SlideError(f"a worker on {HOST} cannot open the slide: {error}", remedy=_SAME_PATHS) from None
    if found != expected:
        raise SlideError("a worker has another file at the slide's path", got=f"{found} on {HOST}", expected=expected)
    return slide


@contextmanager
def _sharing(path: Path) -> Iterator[SharedMaps]:
    """Give the tile maps of a share; tell the system's refusals from those of a slide."""
    try:
        maps = SharedMaps(path)
    except (InputError, OSError) as error:
        raise InputError(f"a worker on {HOST} does not see the tile maps: {error}", remedy=_SAME_PATHS) from None
    try:
        yield maps
    except OSError as error:
        if isinstance(error, WsiMaxminError):
            raise
        raise InputError(f"a worker on {HOST} cannot write", got=error, remedy="see who may write to --out") from None


def _silent(count: int = 1, *, note: str = "") -> None:
    """Report nothing: the scheduler is told of whole shares."""
