"""Run a model over one slide: everything in its folder but its ``run.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from shapely.geometry.base import BaseGeometry

from wsi_maxmin.annotations import Role, find_annotation, read_annotation
from wsi_maxmin.dense_grid import CORE_CELLS
from wsi_maxmin.engines._base import Engine
from wsi_maxmin.engines._choice import Choice
from wsi_maxmin.engines._regions import RegionEngine, open_regions
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.inference import run_tiles
from wsi_maxmin.pipelines._dense import DENSE, compute_densely
from wsi_maxmin.pipelines._engine import make_engine
from wsi_maxmin.pipelines._job import InferSettings, Job
from wsi_maxmin.pipelines._slide_folder import HEATMAP, OVERVIEW, TILEMAPS, TILES, clear_exports, write_heatmap
from wsi_maxmin.pipelines._tile_plan import plan_tiles
from wsi_maxmin.pipelines._timings import Measurement, describe
from wsi_maxmin.progress import Advance, Progress
from wsi_maxmin.readers import Reader
from wsi_maxmin.runinfo import Stopwatch, environment
from wsi_maxmin.sinks import picture
from wsi_maxmin.slide_model import SlideModel
from wsi_maxmin.tilemaps import MapSpec, TileMaps, map_downsample, tile_table


class ShareOut(Protocol):
    """Have workers compute what is missing of tile maps; the rest is told as `fill` is."""

    def __call__(self, slide: Reader, maps: TileMaps, job: Job, *, advance: Advance, stopwatch: Stopwatch) -> None:
        """Wait until all is done."""


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
    share_out: ShareOut | None = None
    annotations: Path | None = None
    groups: Mapping[str, Role] = field(default_factory=dict)

    @property
    def job(self) -> Job:
        """How tiles are run."""
        return Job(
            settings=self.settings,
            fingerprint=self.model.fingerprint(),
            choice=self.choice,
            batch_size=self.batch_size,
            readers=self.readers,
        )

    @cached_property
    def engine(self) -> Engine:
        """The model, ready to run."""
        return make_engine(self.model, self.choice, self.device)

    @cached_property
    def regions(self) -> RegionEngine:
        """The same for dense mode."""
        return open_regions(
            self.model,
            self.choice.engine,
            device=self.device,
            precision=self.choice.precision,
            cells=CORE_CELLS + 2 * self.settings.dense_context,
        )


def fill(
    engine: Engine,
    slide: Reader,
    maps: TileMaps,
    chunks: Sequence[range],
    job: Job,
    *,
    advance: Advance,
    stopwatch: Stopwatch,
) -> None:
    """Compute chunks of a slide's tile maps in this process, be it the run itself or a worker of a cluster."""
    run_tiles(
        engine,
        slide,
        maps,
        chunks,
        batch_size=job.batch_size,
        readers=job.readers,
        advance=advance,
        stopwatch=stopwatch,
    )


def infer_one(
    run: Means,
    slide: Reader,
    tissue_mask: Path | None,
    folder: Path,
    *,
    identity: Mapping[str, Any],
    measured: Measurement,
) -> dict[str, Any]:
    """Write everything of a slide but its ``run.json``; return the facts that go there.

    Parameters
    ----------
    run : Means
    slide : Reader
    tissue_mask : Path or None
    folder : Path
        Of the slide's results; not marked as done (`begin`).
    identity : mapping
        By what the slide is recognised; see `identify`.
    measured : Measurement
        Gets the time of every stage.
    """
    watch, name, settings, config = measured.watch, slide.info.slide_id, run.settings, run.model.slide
    clear_exports(folder)
    outline = _outline(run, name)  # now, so that a file that cannot be read costs no forward pass
    with watch.stage("tissue"):
        plan = plan_tiles(slide, config, settings, tissue_mask)
    grid = plan.grid
    mpp = grid.describe_mpp(plan.requested) + slide.info.mpp_note()
    run.progress.say(f"{name}: {len(grid)} tiles of {mpp}, on {run.device}")
    for warning in plan.warnings:
        run.progress.say(f"{name}: WARNING: {warning}")
    maps = TileMaps.open_or_create(folder / TILEMAPS, grid, _map_spec(run, grid, identity), plan.tissue)
    measured.tiles = sum(len(chunk) for chunk in maps.todo())
    if settings.mode == DENSE:
        _compute_densely(run, slide, maps, measured)
    else:
        _compute(run, slide, maps, measured)
    with watch.stage("heatmap"):
        georef = write_heatmap(maps, folder, settings, watch)
    with watch.stage("table"):
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
            outline=outline,
        )
    facts = measured.facts()
    run.progress.say(describe(name, facts))
    return {
        "slide": identity,
        "mpp": {"requested": plan.requested, "slide": grid.slide_mpp, "effective": grid.mpp},
        "tiles": len(grid),
        **facts,
        "device": str(run.device),
        "environment": environment(),
    }


def _outline(run: Means, name: str) -> BaseGeometry | None:
    """Return the annotation of a slide, for its picture; None without one."""
    found = None if run.annotations is None else find_annotation(run.annotations, name)
    return None if found is None else read_annotation(found, run.groups).geometry()


def _compute(run: Means, slide: Reader, maps: TileMaps, measured: Measurement) -> None:
    """Compute what is missing of a slide's tile maps, here or by workers, with a bar of its tiles."""
    watch, count = measured.watch, len(maps.grid)
    with run.progress.track(slide.info.slide_id, count, unit="tile", done=count - measured.tiles) as advance:
        if measured.tiles and run.share_out is not None:
            measured.by_workers = True
            with watch.stage("workers"):
                run.share_out(slide, maps, run.job, advance=advance, stopwatch=watch)
        elif measured.tiles:
            with watch.stage("start engine"):
                engine = run.engine
            with measured.running(engine.meter):
                fill(engine, slide, maps, maps.todo(), run.job, advance=advance, stopwatch=watch)


def _compute_densely(run: Means, slide: Reader, maps: TileMaps, measured: Measurement) -> None:
    if not measured.tiles:
        return
    with measured.watch.stage("start engine"):
        engine = run.regions
    context = run.settings.dense_context
    compute_densely(engine, slide, maps, context, readers=run.readers, measured=measured, progress=run.progress)


def _map_spec(run: Means, grid: TileGrid, identity: Mapping[str, Any]) -> MapSpec:
    # Data files hold no times: maps of a copy of the slide are the same bytes.
    slide = {key: value for key, value in identity.items() if key != "modified"}
    return MapSpec(
        downsample=map_downsample(grid.tile_px),
        class_names=run.model.classes,
        positive_class=run.model.positive,
        threshold=run.model.slide.threshold,
        # Another engine or precision gives other values: its maps are not continued.
        model=run.model.fingerprint() + run.choice.suffix + run.settings.suffix,
        slide=json.dumps(slide, sort_keys=True),
        has_masks=run.model.has_masks,
    )
