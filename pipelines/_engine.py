"""The engine that a run over slides uses, settled once: by the user, by an earlier run, or by timing on real tiles."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from wsi_maxmin.engines._base import Engine, Pixels
from wsi_maxmin.engines._choice import AUTO, Choice, choose, meant, open_engine
from wsi_maxmin.engines._int8 import INT8, int8_digest
from wsi_maxmin.errors import WsiMaxminError
from wsi_maxmin.pipelines._tile_plan import TileSettings, plan_tiles
from wsi_maxmin.progress import Progress
from wsi_maxmin.readers import open_slide
from wsi_maxmin.slide_inputs import RunSlides
from wsi_maxmin.slide_model import SlideModel
from wsi_maxmin.tilemaps import map_downsample

BATCH = {"cuda": 32}
"""Tiles a batch where the user leaves it open; elsewhere `BATCH_ELSEWHERE`."""
BATCH_ELSEWHERE = 8

_TILES = 4
_COMPILED = "compiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings(TileSettings):
    """What runs the model; for the tiles see `TileSettings`.

    Attributes
    ----------
    engine, precision : str
        What the model is run by, and in which number format; ``auto`` takes what is fastest here with the same maps.
    compile : bool
        Run it by torch, compiled.
    """

    engine: str = AUTO
    precision: str = AUTO
    compile: bool = False


def settle(
    model: SlideModel,
    run: RunSlides,
    settings: EngineSettings,
    *,
    device: torch.device,
    earlier: Mapping[str, Any],
    progress: Progress,
) -> Choice:
    """Return engine and precision; what an earlier run chose by timing holds for what is left of it.

    Parameters
    ----------
    model : SlideModel
    run : RunSlides
        Tiles of its first slide that has some are used.
    settings : EngineSettings
    device : torch.device
    earlier : mapping
        Settings of the run that is continued; empty for a new one.
    progress : Progress

    Raises
    ------
    InputError, MissingExtraError
        If there is no such engine here.
    """
    engine, precision = (
        earlier.get(name, AUTO) if asked == AUTO else asked
        for name, asked in (
            ("engine", meant(settings.engine, compiled=settings.compile)),
            ("precision", settings.precision),
        )
    )
    tiles, count = _tiles(model, run, settings) if AUTO in (engine, precision) else ([], 0)
    choice = choose(
        model,
        device=device,
        engine=engine,
        precision=precision,
        downsample=map_downsample(model.slide.tile_px),
        tiles=tiles,
        expected_tiles=count * len(run.slides),
    )
    if choice.precision == INT8:
        choice = replace(choice, variant=int8_digest(model))
    elif settings.compile:
        choice = replace(choice, variant=_COMPILED)
    if choice.why:
        progress.say(f"engine: {choice.engine}, {choice.precision} ({choice.why})")
    return choice


def make_engine(model: SlideModel, choice: Choice, device: torch.device) -> Engine:
    """Make the engine that was settled."""
    return open_engine(
        model,
        choice.engine,
        device=device,
        precision=choice.precision,
        downsample=map_downsample(model.slide.tile_px),
        compiled=choice.variant == _COMPILED,
    )


def batch_size_for(device: torch.device, given: int | None) -> int:
    """Return how many tiles make a batch."""
    return given or BATCH.get(device.type, BATCH_ELSEWHERE)


def _tiles(model: SlideModel, run: RunSlides, settings: EngineSettings) -> tuple[list[Pixels], int]:
    """Read a few tiles, spread over the tissue of the first slide that has some; return them and how many it has."""
    for slide_id, path in run.paths().items():
        try:
            with open_slide(path, slide_mpp=run.slide_mpp(slide_id), slide_id=slide_id) as slide:
                grid = plan_tiles(slide, model.slide, settings, run.tissue_mask(slide_id)).grid
                boxes = list(grid.boxes())
                chosen = sorted({round(place * (len(boxes) - 1) / (_TILES - 1)) for place in range(_TILES)})
                tiles = [slide.read(boxes[index], grid.tile_px, grid.tile_px) for index in chosen if boxes]
        except (WsiMaxminError, OSError):
            continue  # it fails in its turn, with its message
        if tiles:
            return tiles, len(boxes)
    return [], 0
