"""Fill tile maps of much overlap at about the price of none: the trunk once over large regions, the rest per window.

Where tile mode runs the trunk for every tile, this runs it for every region, keeps the maps that scores and masks are
read off, and reads them for each window. A method that classifies its foreground (Max-Min) looks twice: the second
time at regions under the windows' masks, blended.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import zarr

from wsi_maxmin.blends import hann
from wsi_maxmin.dense_grid import DenseGrid, overlap
from wsi_maxmin.engines._base import Pixels
from wsi_maxmin.engines._regions import Float, PendingMaps, RegionEngine
from wsi_maxmin.inference import read_ahead
from wsi_maxmin.progress import Advance
from wsi_maxmin.readers import Reader
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.tilemaps import TileMaps

GROUP = "dense"
_REGIONS_A_CHUNK = 16


class RegionMaps:
    """Maps of the regions of a slide in each pass, inside its tile maps until those are complete.

    Arrays: ``maps_<pass>`` (R, M, core, core) float32 and ``done`` (passes, R) bool, written last; a chunk is written
    once.
    """

    def __init__(self, maps: TileMaps, dense: DenseGrid, passes: int) -> None:
        self._group = zarr.open_group(maps.path, mode="r+").require_group(GROUP)
        self._dense, self._count = dense, len(dense.keep)
        self._done = self._group.require_array(
            "done", shape=(passes, self._count), chunks=(1, _REGIONS_A_CHUNK), dtype="bool"
        )

    def chunks(self, index: int) -> list[range]:
        """Return the regions of each chunk that a pass has not done."""
        done = self._done[index]
        starts = range(0, self._count, _REGIONS_A_CHUNK)
        chunks = (range(start, min(start + _REGIONS_A_CHUNK, self._count)) for start in starts)
        return [chunk for chunk in chunks if not np.asarray(done)[chunk.start : chunk.stop].all()]

    def write(self, index: int, chunk: range, maps: Float) -> None:
        """Write what a pass made of one chunk of regions, (n, M, core, core) float32."""
        core, where = self._dense.core, slice(chunk.start, chunk.stop)
        array = self._group.require_array(
            f"maps_{index}",
            shape=(self._count, maps.shape[1], core, core),
            chunks=(_REGIONS_A_CHUNK, maps.shape[1], core, core),
            dtype="float32",
        )
        array[where] = maps
        self._done[index, where] = True

    def read(self, index: int) -> Float:
        """Return what a pass made of all regions, (R, M, core, core) float32."""
        return np.asarray(self._group[f"maps_{index}"][:], dtype=np.float32)


def run_dense(
    engine: RegionEngine,
    slide: Reader,
    maps: TileMaps,
    dense: DenseGrid,
    *,
    batch_size: int,
    readers: int,
    advance: Advance,
    stopwatch: Stopwatch,
) -> None:
    """Compute what is missing of the tile maps, densely.

    Parameters
    ----------
    engine : RegionEngine
    slide : Reader
    maps : TileMaps
    dense : DenseGrid
        Of the maps' grid.
    batch_size, readers : int
        Regions a batch, threads that read.
    advance : Advance
        Told of every region in each pass.
    stopwatch : Stopwatch
        Gets ``wait for tiles``, ``model``, ``windows``, ``write maps``, and what readers tell.

    Raises
    ------
    SlideError
        If a region cannot be read.
    """
    if maps.complete:
        return
    kept = RegionMaps(maps, dense, engine.passes)
    for index in range(engine.passes):
        masks = _Masks(engine, dense, kept.read(0)) if index else None
        _run_pass(
            engine,
            slide,
            dense,
            kept,
            index,
            masks,
            batch_size=batch_size,
            readers=readers,
            advance=advance,
            stopwatch=stopwatch,
        )
    _read_windows(engine, maps, dense, kept, stopwatch)
    group = zarr.open_group(maps.path, mode="r+")
    del group[GROUP]


def regions_to_do(maps: TileMaps, dense: DenseGrid, passes: int) -> int:
    """Return how many regions are left to run, those of each pass counted."""
    kept = RegionMaps(maps, dense, passes)
    return sum(len(chunk) for index in range(passes) for chunk in kept.chunks(index))


class _Masks:
    """Soft masks of regions: those of the windows that touch a region, blended by Hann windows.

    Where no window is kept the mask is 0, which is what a trunk sees outside its image too.
    """

    def __init__(self, engine: RegionEngine, dense: DenseGrid, maps: Float) -> None:
        self._engine, self._dense, self._maps = engine, dense, maps
        side = dense.grid.tile_px // engine.downsample
        line = hann.weigh(np.arange(side, dtype=np.float64) + 0.5, side, 0).astype(np.float32)
        self._weight = line[:, None] * line

    def __call__(self, region: int) -> Float:
        """Return the mask of what the trunk sees of a region, (side / downsample, side / downsample)."""
        dense, per_cell = self._dense, self._dense.cell_px // self._engine.downsample
        near = dense.windows_near(region)
        size = (dense.core + 2 * dense.context) * per_cell
        total, weights = np.zeros((size, size), dtype=np.float32), np.zeros((size, size), dtype=np.float32)
        corner = dense.keep[region] - dense.context
        starts = (dense.grid.keep[near] * dense.stride_cells - corner) * per_cell
        masks = self._engine.read(dense.windows(self._maps, near)).masks[:, 0]
        side = len(self._weight)
        for (top, left), mask in zip(starts, masks, strict=True):
            (own_y, y), (own_x, x) = overlap(top, side, size), overlap(left, side, size)
            weight = self._weight[own_y, own_x]
            total[y, x] += weight * mask[own_y, own_x]
            weights[y, x] += weight
        return np.divide(total, weights, out=total, where=weights > 0)


def _run_pass(
    engine: RegionEngine,
    slide: Reader,
    dense: DenseGrid,
    kept: RegionMaps,
    index: int,
    masks: _Masks | None,
    *,
    batch_size: int,
    readers: int,
    advance: Advance,
    stopwatch: Stopwatch,
) -> None:
    """Run the trunk over the regions that a pass has not done."""
    context, began, count = dense.context, time.perf_counter(), 0
    inner = slice(context, context + dense.core)
    todo = kept.chunks(index)
    wanted = [region for chunk in todo for region in chunk]
    with slide.timed_by(stopwatch), ThreadPoolExecutor(readers, "read") as pool:
        boxes = [dense.box(region) for region in wanted]
        ahead = engine.depth * batch_size + readers
        source = read_ahead(pool, slide, boxes, dense.region_px, ahead)
        results = _submitted(engine, source, wanted, masks, batch_size, stopwatch)
        for chunk in todo:
            parts: list[Float] = []
            for _ in chunk:
                parts.append(next(results)[:, inner, inner])
                count += 1
                advance(1, note=f"{count / (time.perf_counter() - began):.1f} regions/s")
            with stopwatch.stage("write maps"):
                kept.write(index, chunk, np.stack(parts))


def _submitted(
    engine: RegionEngine,
    source: Iterator[Pixels],
    wanted: list[int],
    masks: _Masks | None,
    batch_size: int,
    stopwatch: Stopwatch,
) -> Iterator[Float]:
    """Yield the maps of regions in order, while `engine.depth` batches are under way."""
    under_way: deque[PendingMaps] = deque()

    def take() -> Float:
        with stopwatch.stage("model"):
            return under_way.popleft()()

    for start in range(0, len(wanted), batch_size):
        regions = wanted[start : start + batch_size]
        with stopwatch.stage("wait for tiles"):
            images = [next(source) for _ in regions]
        with stopwatch.stage("windows"):
            shown = None if masks is None else [masks(region) for region in regions]
        with stopwatch.stage("model"):
            under_way.append(engine.submit(images, shown))
        if len(under_way) >= engine.depth + 1:
            yield from take()
    while under_way:
        yield from take()


def _read_windows(
    engine: RegionEngine, maps: TileMaps, dense: DenseGrid, kept: RegionMaps, stopwatch: Stopwatch
) -> None:
    """Read the tile maps off the maps of regions."""
    passes = [kept.read(index) for index in range(engine.passes)]
    for chunk in maps.todo():
        indices = np.arange(chunk.start, chunk.stop)
        with stopwatch.stage("windows"):
            masks, logits = engine.read(dense.windows(passes[0], indices))
            if engine.passes > 1:
                logits = engine.score(dense.windows(passes[1], indices))
        with stopwatch.stage("write maps"):
            maps.write(chunk, masks.astype(np.float16), logits)
