"""Run a model over one slide: everything in its folder but its ``run.json``."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from wsi_maxmin.engines._base import Engine
from wsi_maxmin.engines._choice import Choice
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.inference import run_tiles
from wsi_maxmin.pipelines._engine import EngineSettings, make_engine
from wsi_maxmin.pipelines._slide_folder import HEATMAP, OVERVIEW, TILEMAPS, TILES, write_heatmap
from wsi_maxmin.pipelines._tile_plan import identify, plan_tiles
from wsi_maxmin.progress import Progress
from wsi_maxmin.readers import Reader
from wsi_maxmin.runinfo import Stopwatch, environment, peak_memory_bytes
from wsi_maxmin.sinks import picture
from wsi_maxmin.slide_model import SlideModel
from wsi_maxmin.tilemaps import MapSpec, TileMaps, map_downsample, tile_table


@dataclass(frozen=True, slots=True, kw_only=True)
class InferSettings(EngineSettings):
    """What decides the maps: besides the model see `EngineSettings`, `TileSettings` and `MapSettings`.

    Attributes
    ----------
    model : str
        Name of a bundled model, or path of a checkpoint or of TorchScript.
    """

    model: str = "camelyon16-demo"


@dataclass(frozen=True, kw_only=True)
class Means:
    """By what all slides of a run are done; the engine is made for the first that needs it."""

    model: SlideModel
    choice: Choice
    device: torch.device
    settings: InferSettings
    batch_size: int
    readers: int
    progress: Progress

    @cached_property
    def engine(self) -> Engine:
        """The model, ready to run."""
        return make_engine(self.model, self.choice, self.device)


def infer_one(run: Means, slide: Reader, tissue_mask: Path | None, folder: Path) -> dict[str, Any]:
    """Write everything of a slide but its ``run.json``; return the facts that go there."""
    watch, name, settings, config = Stopwatch(), slide.info.slide_id, run.settings, run.model.slide
    folder.mkdir(parents=True, exist_ok=True)
    with watch.stage("tissue"):
        plan = plan_tiles(slide, config, settings, tissue_mask)
    grid, facts = plan.grid, identify(slide, tissue_mask, hashed=settings.hash_slide_ids)
    mpp = grid.describe_mpp(plan.requested) + slide.info.mpp_note()
    run.progress.say(f"{name}: {len(grid)} tiles of {mpp}, on {run.device}")
    for warning in plan.warnings:
        run.progress.say(f"{name}: WARNING: {warning}")
    maps = TileMaps.open_or_create(folder / TILEMAPS, grid, _map_spec(run, grid, facts), plan.tissue)
    missing = sum(len(chunk) for chunk in maps.todo())
    with run.progress.track(name, len(grid), unit="tile", done=len(grid) - missing) as advance:
        if missing:
            run_tiles(
                run.engine,
                slide,
                maps,
                batch_size=run.batch_size,
                readers=run.readers,
                advance=advance,
                stopwatch=watch,
            )
    with watch.stage("stitch and write"):
        georef = write_heatmap(maps, folder, settings)
    partial_file = folder / f".{TILES}.partial"
    tile_table(maps).to_parquet(partial_file, index=False)
    partial_file.replace(folder / TILES)
    with watch.stage("picture"):
        picture.write(
            slide,
            folder / HEATMAP,
            folder / OVERVIEW,
            georef=georef,
            box=grid.kept_box(),
            threshold=config.threshold,
            title=name,
            channel=maps.spec.main_channel,
        )
    run.progress.say(_where_time_went(name, watch, missing))
    return {
        "slide": facts,
        "mpp": {"requested": plan.requested, "slide": grid.slide_mpp, "effective": grid.mpp},
        "tiles": len(grid),
        "tiles_run": missing,
        "seconds": {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        "elapsed_seconds": round(watch.elapsed, 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "device": str(run.device),
        "environment": environment(),
    }


def _map_spec(run: Means, grid: TileGrid, slide: dict[str, Any]) -> MapSpec:
    return MapSpec(
        downsample=map_downsample(grid.tile_px),
        class_names=run.model.classes,
        positive_class=run.model.positive,
        threshold=run.model.slide.threshold,
        # Another engine or precision gives other values: its maps are not continued.
        model=run.model.fingerprint() + run.choice.suffix,
        slide=json.dumps(slide, sort_keys=True),
        has_masks=run.model.has_masks,
    )


def _where_time_went(name: str, watch: Stopwatch, tiles: int) -> str:
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in watch.seconds.items())
    rate = tiles / max(watch.seconds.get("model", 0) + watch.seconds.get("wait for tiles", 0), 1e-9)
    return (
        f"{name}: {watch.elapsed:.1f} s in all; {stages} s (read is summed over threads);"
        f" {rate:.1f} tiles/s; peak memory {peak_memory_bytes() / 2**30:.2f} GiB"
    )
