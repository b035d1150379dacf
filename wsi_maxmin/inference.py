"""Run a model over the tiles of a grid: reading ahead on threads, writing behind, resumable by chunk of tiles."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import avg_pool2d

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box
from wsi_maxmin.models import WeakSegmenter
from wsi_maxmin.progress import Advance
from wsi_maxmin.readers import Reader
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.tilemaps import TileMaps

Masks = npt.NDArray[np.float16]
Logits = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

_AHEAD_PER_READER = 4


def run_tiles(
    model: WeakSegmenter,
    slide: Reader,
    maps: TileMaps,
    *,
    device: torch.device,
    batch_size: int,
    readers: int,
    advance: Advance,
    stopwatch: Stopwatch,
) -> None:
    """Compute what is missing of the tile maps.

    Parameters
    ----------
    model : WeakSegmenter
        In eval mode, on `device`.
    slide : Reader
    maps : TileMaps
        Chunks that are done are left alone.
    device : torch.device
    batch_size, readers : int
        Tiles a batch (at most a chunk of the maps), threads that read.
    advance : Advance
        Told of every batch.
    stopwatch : Stopwatch
        Gets ``read`` (summed over the reading threads), ``wait for tiles``, ``model`` and ``write maps``.

    Raises
    ------
    InputError
        If the model's outputs of different tiles cannot be compared.
    SlideError
        If a tile cannot be read.
    """
    if model.refuses_tiles:
        raise InputError("this model cannot be run over slides", remedy=model.refuses_tiles)
    todo = maps.todo()
    boxes = list(maps.grid.boxes())
    started, tiles = time.perf_counter(), 0
    with ThreadPoolExecutor(readers, "read") as pool, ThreadPoolExecutor(1, "write") as writer:
        wanted = [boxes[index] for chunk in todo for index in chunk]
        source = _read_ahead(
            pool, slide, wanted, maps.grid.tile_px, _AHEAD_PER_READER * readers + batch_size, stopwatch
        )
        behind: deque[Future[float]] = deque()
        for chunk in todo:
            parts = []
            for start in range(0, len(chunk), batch_size):
                with stopwatch.stage("wait for tiles"):
                    images = [next(source) for _ in chunk[start : start + batch_size]]
                with stopwatch.stage("model"):
                    parts.append(forward(model, images, device, maps.spec.downsample))
                tiles += len(images)
                advance(len(images), note=f"{tiles / (time.perf_counter() - started):.1f} tiles/s")
            behind.append(writer.submit(_write, maps, chunk, parts))
            while len(behind) > 1:
                stopwatch.add("write maps", behind.popleft().result())
        for future in behind:
            stopwatch.add("write maps", future.result())


@torch.inference_mode()
def forward(
    model: WeakSegmenter, images: Sequence[Pixels], device: torch.device, downsample: int
) -> tuple[Masks, Logits]:
    """Return soft masks (B, 1, h, w) float16, averaged over `downsample`² pixels, and logits (B, K) float32.

    On a CPU the images go through the model one by one: that is faster there (activations stay in the cache), and the
    result cannot depend on the batch. A method without classes gives logits of no columns.
    """
    batch = torch.from_numpy(np.stack(images)).to(device, non_blocking=True).permute(0, 3, 1, 2)
    masks, logits = [], []
    for image in batch.split(1) if device.type == "cpu" else (batch,):
        output = model(image)
        masks.append(avg_pool2d(output.mask.float(), downsample).half().cpu())
        scores = output.logits
        logits.append(scores.float().cpu() if scores is not None else torch.empty(len(image), 0))
    return torch.cat(masks).numpy(), torch.cat(logits).numpy()


def _read_ahead(
    pool: ThreadPoolExecutor,
    slide: Reader,
    boxes: Sequence[Box],
    tile_px: int,
    ahead: int,
    stopwatch: Stopwatch,
) -> Iterator[Pixels]:
    """Yield the tiles in order while at most `ahead` further ones are being read or wait."""
    queue: deque[Future[tuple[Pixels, float]]] = deque()
    try:
        for box in boxes:
            queue.append(pool.submit(_read, slide, box, tile_px))
            if len(queue) > ahead:
                yield _take(queue, stopwatch)
        while queue:
            yield _take(queue, stopwatch)
    finally:
        for future in queue:
            future.cancel()


def _take(queue: deque[Future[tuple[Pixels, float]]], stopwatch: Stopwatch) -> Pixels:
    pixels, seconds = queue.popleft().result()
    stopwatch.add("read", seconds)
    return pixels


def _read(slide: Reader, box: Box, tile_px: int) -> tuple[Pixels, float]:
    start = time.perf_counter()
    return slide.read(box, tile_px, tile_px), time.perf_counter() - start


def _write(maps: TileMaps, chunk: range, parts: Sequence[tuple[Masks, Logits]]) -> float:
    start = time.perf_counter()
    maps.write(chunk, np.concatenate([mask for mask, _ in parts]), np.concatenate([logits for _, logits in parts]))
    return time.perf_counter() - start
