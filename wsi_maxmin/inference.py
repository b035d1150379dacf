"""Run a model over the tiles of a grid: reading ahead on threads, writing behind, resumable by chunk of tiles."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from wsi_maxmin.engines._base import Engine, Outputs, Pending, Pixels, join
from wsi_maxmin.geometry import Box
from wsi_maxmin.progress import Advance
from wsi_maxmin.readers import Reader
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.tilemaps import TileMaps

_AHEAD_PER_READER = 4


def run_tiles(
    engine: Engine,
    slide: Reader,
    maps: TileMaps,
    chunks: Sequence[range] | None = None,
    *,
    batch_size: int,
    readers: int,
    advance: Advance,
    stopwatch: Stopwatch,
) -> None:
    """Compute chunks of the tile maps.

    Batches are as large as they can be: they reach over rows of tiles, pieces of tissue and chunks of the maps.

    Parameters
    ----------
    engine : Engine
    slide : Reader
    maps : TileMaps
    chunks : sequence of range, optional
        As `TileMaps.chunks` gives them; by default those that are not done.
    batch_size, readers : int
        Tiles a batch, threads that read.
    advance : Advance
        Told of every batch.
    stopwatch : Stopwatch
        Gets, in turn, ``wait for tiles``, ``model`` (giving it tiles and waiting for outputs) and ``wait for writing``;
        summed over threads what the reader tells (`Reader.timed_by`) and ``write maps``.

    Raises
    ------
    SlideError
        If a tile cannot be read.
    """
    todo = maps.todo() if chunks is None else chunks
    boxes = list(maps.grid.boxes())
    wanted = [boxes[index] for chunk in todo for index in chunk]
    began, tiles = time.perf_counter(), 0
    with (
        slide.timed_by(stopwatch),
        ThreadPoolExecutor(readers, "read") as pool,
        _ChunkWriter(maps, todo, stopwatch) as writer,
    ):
        ahead = _AHEAD_PER_READER * readers + engine.depth * batch_size
        source = read_ahead(pool, slide, wanted, maps.grid.tile_px, ahead)
        under_way: deque[tuple[Pending, int]] = deque()
        for start in range(0, len(wanted), batch_size):
            with stopwatch.stage("wait for tiles"):
                images = [next(source) for _ in wanted[start : start + batch_size]]
            with stopwatch.stage("model"):
                under_way.append((engine.submit(images), len(images)))
            last = start + batch_size >= len(wanted)
            while len(under_way) > (0 if last else engine.depth - 1):
                pending, count = under_way.popleft()
                with stopwatch.stage("model"):
                    outputs = pending()
                writer.add(outputs)
                tiles += count
                advance(count, note=f"{tiles / (time.perf_counter() - began):.1f} tiles/s")


class _ChunkWriter:
    """Puts outputs, which come in order and in batches of any size, together to whole chunks, and writes them behind.

    Parameters
    ----------
    maps : TileMaps
    todo : sequence of range
        The chunks whose outputs come, in order.
    stopwatch : Stopwatch
        Gets ``write maps`` and ``wait for writing``.
    """

    def __init__(self, maps: TileMaps, todo: Sequence[range], stopwatch: Stopwatch) -> None:
        self._maps, self._stopwatch = maps, stopwatch
        self._todo = deque(todo)
        self._rest: list[Outputs] = []
        self._pool = ThreadPoolExecutor(1, "write")
        self._behind: deque[Future[None]] = deque()

    def __enter__(self) -> "_ChunkWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if kind is None:
            self._wait(0)

    def add(self, outputs: Outputs) -> None:
        """Take the outputs of the next tiles."""
        self._rest.append(outputs)
        while self._todo and sum(len(part.masks) for part in self._rest) >= len(self._todo[0]):
            chunk = self._todo.popleft()
            masks, logits = join(self._rest)
            size = len(chunk)
            self._rest = [Outputs(masks[size:], logits[size:])]
            self._behind.append(self._pool.submit(self._write, chunk, Outputs(masks[:size], logits[:size])))
            self._wait(1)

    def _wait(self, allowed: int) -> None:
        """Let at most `allowed` chunks be on their way to the disk."""
        with self._stopwatch.stage("wait for writing"):
            while len(self._behind) > allowed:
                self._behind.popleft().result()

    def _write(self, chunk: range, outputs: Outputs) -> None:
        with self._stopwatch.stage("write maps", summed=True):
            self._maps.write(chunk, outputs.masks, outputs.logits)


def read_ahead(
    pool: ThreadPoolExecutor,
    slide: Reader,
    boxes: Sequence[Box],
    tile_px: int,
    ahead: int,
) -> Iterator[Pixels]:
    """Yield the tiles in order while at most `ahead` further ones are being read or wait."""
    queue: deque[Future[Pixels]] = deque()
    try:
        for box in boxes:
            queue.append(pool.submit(slide.read, box, tile_px, tile_px))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        for future in queue:
            future.cancel()
