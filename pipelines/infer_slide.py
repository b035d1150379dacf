"""Run a model over slides: tile maps, stitched heatmap, table of tiles, picture."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from wsi_maxmin.assets import find_model
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint
from wsi_maxmin.cohort import CohortResult, Existing, Status, claim, locked, run_cohort, same_slide, unique_slide_ids
from wsi_maxmin.device import pick_device
from wsi_maxmin.engines._base import Engine
from wsi_maxmin.engines._choice import AUTO, Choice, check_choice
from wsi_maxmin.errors import InputError
from wsi_maxmin.grids import TileGrid, overlap_to_stride
from wsi_maxmin.inference import run_tiles
from wsi_maxmin.pipelines._engine import batch_size_for, make_engine, settle
from wsi_maxmin.pipelines._slide_folder import (
    HEATMAP,
    OVERVIEW,
    TILEMAPS,
    TILES,
    MapSettings,
    SlideResult,
    clear,
    slide_result,
    write_heatmap,
)
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.runinfo import RUN_FILE, Stopwatch, environment, peak_memory_bytes, read_json, write_json
from wsi_maxmin.sinks import picture
from wsi_maxmin.tilemaps import MapSpec, TileMaps, map_downsample, tile_table
from wsi_maxmin.tiling import make_grid
from wsi_maxmin.tissue import find_tissue

__all__ = ["InferSettings", "SlideResult", "infer_slide", "slide_result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferSettings(MapSettings):
    """What decides the values of the maps; with how they are stitched, see `MapSettings`.

    Attributes
    ----------
    model : str
        Name of a bundled model or path of a checkpoint.
    overlap : float
        Share of a tile's side that it shares with the next, 0 ≤ overlap < 1.
    min_tissue : float
        Least share of tissue of a tile to run it.
    slide_mpp : float or None
        µm per level-0 pixel, where slides do not say.
    engine, precision : str
        What the model is run by, and in which number format; ``auto`` takes what is fastest here with the same maps.
    """

    model: str = "camelyon16-demo"
    overlap: float = 0.5
    min_tissue: float = 0.1
    slide_mpp: float | None = None
    engine: str = AUTO
    precision: str = AUTO


def infer_slide(
    slides: Sequence[Path],
    out: Path,
    *,
    settings: InferSettings | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    readers: int = 2,
    existing: Existing = "refuse",
    progress: Progress | None = None,
) -> CohortResult:
    """Write ``<out>/<slide_id>/`` with heatmap, tile maps, table and picture for every slide.

    Raises
    ------
    InputError, OutputExistsError
        If nothing can be attempted: no slides, no such model or device, a folder in use.
    """
    settings, progress = settings or InferSettings(), progress or Quiet()
    named = unique_slide_ids(slides)
    where = pick_device(device)
    checkpoint = load_checkpoint(find_model(settings.model))
    refusal = checkpoint.build().refuses_slides
    if refusal:
        raise InputError("this model cannot be run over slides", got=checkpoint.config.name, remedy=refusal)
    settings.check()
    check_choice(where, settings.engine, settings.precision)
    # The same model by another path is the same model.
    values = {"command": "infer-slide", **asdict(settings), "model": checkpoint.fingerprint()}
    with locked(out):
        if existing == "refuse":
            claim(out, values, existing)  # before anything is timed
        before = (read_json(out / RUN_FILE) or {}).get("settings", {}) if existing == "resume" else {}
        choice = settle(
            checkpoint,
            [partial(open_slide, path, slide_mpp=settings.slide_mpp, slide_id=name) for name, path in named.items()],
            device=where,
            engine=settings.engine,
            precision=settings.precision,
            overlap=settings.overlap,
            earlier=before,
            progress=progress,
        )
        values |= {"engine": choice.engine, "precision": choice.precision}
        claim(out, values, existing, may_change=("blend", "heatmap_mpp", "ngff", "slide_mpp"))
        run = _Run(
            checkpoint=checkpoint,
            choice=choice,
            device=where,
            settings=settings,
            batch_size=batch_size_for(where, batch_size),
            readers=readers,
            progress=progress,
        )

        def work(slide_id: str, path: Path) -> Status:
            folder = out / slide_id
            with open_slide(path, slide_mpp=settings.slide_mpp, slide_id=slide_id) as slide:
                if existing == "overwrite":
                    clear(folder)
                earlier = read_json(folder / RUN_FILE) or {}
                if earlier.get("status") == "done" and _same(earlier["settings"], values):
                    same_slide(slide_id, earlier["slide"], slide.fingerprint())
                    return "skipped"
                facts = _infer(run, slide, folder)
                write_json(folder / RUN_FILE, {"status": "done", "settings": values, **facts})
            return "done"

        return run_cohort(named, work, out=out, settings=values, progress=progress)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What all slides of a run share; the engine is made for the first that needs it."""

    checkpoint: Checkpoint
    choice: Choice
    device: torch.device
    settings: InferSettings
    batch_size: int
    readers: int
    progress: Progress

    @cached_property
    def engine(self) -> Engine:
        """The model, ready to run."""
        return make_engine(self.checkpoint, self.choice, self.device)


def _same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Say whether a finished slide has what is asked for; a --slide-mpp for others does not undo it."""
    return {**before, "slide_mpp": None} == {**now, "slide_mpp": None}


def _infer(run: _Run, slide: Reader, folder: Path) -> dict[str, Any]:
    """Write everything of a slide but its ``run.json``; return the facts that go there."""
    watch, name, settings, config = Stopwatch(), slide.info.slide_id, run.settings, run.checkpoint.config.slide
    folder.mkdir(parents=True, exist_ok=True)
    with watch.stage("tissue"):
        tissue = find_tissue(slide)
    grid = make_grid(
        slide.info,
        tissue,
        mpp=config.mpp,
        tile_px=config.tile_px,
        stride_px=overlap_to_stride(config.tile_px, settings.overlap),
        min_tissue=settings.min_tissue,
    )
    mpp = grid.describe_mpp(config.mpp) + slide.info.mpp_note()
    run.progress.say(f"{name}: {len(grid)} tiles of {mpp}, on {run.device}")
    maps = TileMaps.open_or_create(folder / TILEMAPS, grid, _map_spec(run, grid, slide), tissue)
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
        )
    run.progress.say(_where_time_went(name, watch, missing))
    return {
        "slide": slide.fingerprint(),
        "mpp": {"requested": config.mpp, "slide": grid.slide_mpp, "effective": grid.mpp},
        "tiles": len(grid),
        "tiles_run": missing,
        "seconds": {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        "elapsed_seconds": round(watch.elapsed, 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "device": str(run.device),
        "environment": environment(),
    }


def _map_spec(run: _Run, grid: TileGrid, slide: Reader) -> MapSpec:
    config = run.checkpoint.config
    return MapSpec(
        downsample=map_downsample(grid.tile_px),
        class_names=config.data.classes,
        positive_class=config.data.positive,
        threshold=config.slide.threshold,
        # Another engine or precision gives other values: its maps are not continued.
        model=run.checkpoint.fingerprint() + run.choice.suffix,
        slide=json.dumps(slide.fingerprint(), sort_keys=True),
    )


def _where_time_went(name: str, watch: Stopwatch, tiles: int) -> str:
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in watch.seconds.items())
    rate = tiles / max(watch.seconds.get("model", 0) + watch.seconds.get("wait for tiles", 0), 1e-9)
    return (
        f"{name}: {watch.elapsed:.1f} s in all; {stages} s (read is summed over threads);"
        f" {rate:.1f} tiles/s; peak memory {peak_memory_bytes() / 2**30:.2f} GiB"
    )
