"""The engine that a run over slides uses, settled once: by the user, by an earlier run, or by timing on real tiles."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from wsi_maxmin.checkpoint import Checkpoint
from wsi_maxmin.engines._base import Engine, Pixels
from wsi_maxmin.engines._choice import AUTO, Choice, choose, open_engine
from wsi_maxmin.errors import WsiMaxminError
from wsi_maxmin.grids import overlap_to_stride
from wsi_maxmin.progress import Progress
from wsi_maxmin.readers import Reader
from wsi_maxmin.tilemaps import map_downsample
from wsi_maxmin.tiling import make_grid
from wsi_maxmin.tissue import find_tissue

BATCH = {"cuda": 32}
"""Tiles a batch where the user leaves it open; elsewhere `BATCH_ELSEWHERE`."""
BATCH_ELSEWHERE = 8

_TILES = 4


def settle(
    checkpoint: Checkpoint,
    slides: Sequence[Callable[[], Reader]],
    *,
    device: torch.device,
    engine: str,
    precision: str,
    overlap: float,
    earlier: Mapping[str, Any],
    progress: Progress,
) -> Choice:
    """Return engine and precision; what an earlier run chose by timing holds for what is left of it.

    Parameters
    ----------
    checkpoint : Checkpoint
    slides : sequence of callable
        Open the slides of the run; tiles of the first that has some are used.
    device : torch.device
    engine, precision : str
        A name, or ``auto``.
    overlap : float
        Of tiles.
    earlier : mapping
        Settings of the run that is continued; empty for a new one.
    progress : Progress

    Raises
    ------
    InputError, MissingExtraError
        If there is no such engine here.
    """
    engine = earlier.get("engine", engine) if engine == AUTO else engine
    precision = earlier.get("precision", precision) if precision == AUTO else precision
    downsample = map_downsample(checkpoint.config.slide.tile_px)
    tiles, count = _tiles(checkpoint, slides, overlap) if AUTO in (engine, precision) else ([], 0)
    choice = choose(
        checkpoint,
        device=device,
        engine=engine,
        precision=precision,
        downsample=downsample,
        tiles=tiles,
        expected_tiles=count * len(slides),
    )
    if choice.why:
        progress.say(f"engine: {choice.engine}, {choice.precision} ({choice.why})")
    return choice


def make_engine(checkpoint: Checkpoint, choice: Choice, device: torch.device) -> Engine:
    """Make the engine that was settled."""
    return open_engine(
        checkpoint,
        choice.engine,
        device=device,
        precision=choice.precision,
        downsample=map_downsample(checkpoint.config.slide.tile_px),
    )


def batch_size_for(device: torch.device, given: int | None) -> int:
    """Return how many tiles make a batch."""
    return given or BATCH.get(device.type, BATCH_ELSEWHERE)


def _tiles(checkpoint: Checkpoint, slides: Sequence[Callable[[], Reader]], overlap: float) -> tuple[list[Pixels], int]:
    """Read a few tiles, spread over the tissue of the first slide that has some; return them and how many it has."""
    config = checkpoint.config.slide
    stride_px = overlap_to_stride(config.tile_px, overlap)
    for open_it in slides:
        try:
            with open_it() as slide:
                grid = make_grid(
                    slide.info, find_tissue(slide), mpp=config.mpp, tile_px=config.tile_px, stride_px=stride_px
                )
                boxes = list(grid.boxes())
                chosen = sorted({round(place * (len(boxes) - 1) / (_TILES - 1)) for place in range(_TILES)})
                tiles = [slide.read(boxes[index], grid.tile_px, grid.tile_px) for index in chosen if boxes]
        except (WsiMaxminError, OSError):
            continue  # it fails in its turn, with its message
        if tiles:
            return tiles, len(boxes)
    return [], 0
