"""Run a model over slides: tile maps, stitched heatmap, table of tiles, picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from upath import UPath

from wsi_maxmin.assets import find_model
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint
from wsi_maxmin.cohort import CohortResult, Existing, Status, claim, locked, run_cohort, same_slide
from wsi_maxmin.device import pick_device
from wsi_maxmin.engines._base import Engine
from wsi_maxmin.engines._choice import Choice, check_choice
from wsi_maxmin.errors import InputError
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.inference import run_tiles
from wsi_maxmin.pipelines._engine import EngineSettings, batch_size_for, make_engine, settle
from wsi_maxmin.pipelines._slide_folder import (
    HEATMAP,
    OVERVIEW,
    TILEMAPS,
    TILES,
    SlideResult,
    check_names,
    clear,
    finished_facts,
    slide_result,
    write_heatmap,
)
from wsi_maxmin.pipelines._tile_plan import identify, plan_tiles
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.runinfo import RUN_FILE, Stopwatch, environment, peak_memory_bytes, read_json, write_json
from wsi_maxmin.sinks import picture
from wsi_maxmin.slide_inputs import RunSlides, SlideInputs
from wsi_maxmin.slides_csv import known_slides, write_slides
from wsi_maxmin.tilemaps import MapSpec, TileMaps, map_downsample, tile_table
from wsi_maxmin.time_left import showing_time_left

__all__ = ["InferSettings", "SlideResult", "infer_slide", "slide_result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferSettings(EngineSettings):
    """What decides the maps: besides the model see `EngineSettings`, `TileSettings` and `MapSettings`.

    Attributes
    ----------
    model : str
        Name of a bundled model or path of a checkpoint.
    """

    model: str = "camelyon16-demo"


def infer_slide(
    slides: Sequence[str | Path | UPath],
    out: Path,
    *,
    settings: InferSettings | None = None,
    tissue_masks: Path | None = None,
    overrides: Path | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    readers: int = 2,
    existing: Existing = "refuse",
    progress: Progress | None = None,
) -> CohortResult:
    """Write ``<out>/<slide_id>/`` with heatmap, tile maps, table and picture for every slide.

    Slides, tissue masks and overrides are those of `SlideInputs`.

    Raises
    ------
    InputError, OutputExistsError
        If nothing can be attempted: no slides, no such model or device, a folder in use.
    """
    settings, progress = settings or InferSettings(), progress or Quiet()
    inputs = SlideInputs(slides=slides, tissue_masks=tissue_masks, overrides=overrides, slide_mpp=settings.slide_mpp)
    known = known_slides(out) if existing == "resume" else {}
    run = RunSlides(inputs, hashed=settings.hash_slide_ids, known=known)
    checkpoint, where = load_for_slides(settings, device)
    # The same model by another path is the same model.
    values = {"command": "infer-slide", **settings.to_json(), "model": checkpoint.fingerprint()}
    with locked(out):
        if existing == "refuse":
            claim(out, values, existing)  # before anything is timed
        before = (read_json(out / RUN_FILE) or {}).get("settings", {}) if existing == "resume" else {}
        choice = settle(checkpoint, run, settings, device=where, earlier=before, progress=progress)
        values |= {"engine": choice.engine, "precision": choice.precision}
        claim(out, values, existing, may_change=("blend", "heatmap_mpp", "ngff", "slide_mpp"))
        check_names(out, hashed=run.hashed)
        if read_json(out / RUN_FILE) is None:
            # From here on the folder is known for a run's, whatever happens.
            write_json(out / RUN_FILE, {"status": "running", "settings": values})
        write_slides(
            out, run, lambda slide_id: existing != "overwrite" and finished_facts(out / slide_id, values) is not None
        )
        means = _Means(
            checkpoint=checkpoint,
            choice=choice,
            device=where,
            settings=settings,
            batch_size=batch_size_for(where, batch_size),
            readers=readers,
            progress=progress,
        )
        for note in run.notes:
            progress.say(note)

        def work(slide_id: str, path: Path | UPath) -> Status:
            folder = out / slide_id
            with (
                run.hiding_names(slide_id),
                open_slide(path, slide_mpp=run.slide_mpp(slide_id), slide_id=slide_id) as slide,
            ):
                mask = run.tissue_mask(slide_id)
                if existing == "overwrite":
                    clear(folder)
                if (earlier := finished_facts(folder, values)) is not None:
                    same_slide(slide_id, earlier["slide"], identify(slide, mask, hashed=run.hashed))
                    return "skipped"
                facts = _infer(means, slide, mask, folder)
                write_json(folder / RUN_FILE, {"status": "done", "settings": values, **facts})
            return "done"

        with showing_time_left(work, len(run.slides), progress) as timed:
            return run_cohort(run.paths(), timed, out=out, settings=values, progress=progress, hide_paths=run.hashed)


def load_for_slides(settings: InferSettings, device: str) -> tuple[Checkpoint, torch.device]:
    """Return a model that can be run over slides, and where.

    Raises
    ------
    InputError
        If there is no such model, device or engine, the model cannot be run over slides, or a setting is out of range.
    """
    where = pick_device(device)
    checkpoint = load_checkpoint(find_model(settings.model))
    refusal = checkpoint.build().refuses_slides
    if refusal:
        raise InputError("this model cannot be run over slides", got=checkpoint.config.name, remedy=refusal)
    settings.check()
    check_choice(where, settings.engine, settings.precision)
    return checkpoint, where


@dataclass(frozen=True, kw_only=True)
class _Means:
    """By what all slides of a run are done; the engine is made for the first that needs it."""

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


def _infer(run: _Means, slide: Reader, tissue_mask: Path | None, folder: Path) -> dict[str, Any]:
    """Write everything of a slide but its ``run.json``; return the facts that go there."""
    watch, name, settings, config = Stopwatch(), slide.info.slide_id, run.settings, run.checkpoint.config.slide
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


def _map_spec(run: _Means, grid: TileGrid, slide: dict[str, Any]) -> MapSpec:
    config = run.checkpoint.config
    return MapSpec(
        downsample=map_downsample(grid.tile_px),
        class_names=config.data.classes,
        positive_class=config.data.positive,
        threshold=config.slide.threshold,
        # Another engine or precision gives other values: its maps are not continued.
        model=run.checkpoint.fingerprint() + run.choice.suffix,
        slide=json.dumps(slide, sort_keys=True),
    )


def _where_time_went(name: str, watch: Stopwatch, tiles: int) -> str:
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in watch.seconds.items())
    rate = tiles / max(watch.seconds.get("model", 0) + watch.seconds.get("wait for tiles", 0), 1e-9)
    return (
        f"{name}: {watch.elapsed:.1f} s in all; {stages} s (read is summed over threads);"
        f" {rate:.1f} tiles/s; peak memory {peak_memory_bytes() / 2**30:.2f} GiB"
    )
