"""Run a model over slides: tile maps, stitched heatmap, table of tiles, picture."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from upath import UPath

from wsi_maxmin.annotations import Role
from wsi_maxmin.assets import find_model
from wsi_maxmin.cohort import CohortResult, Existing, Status, claim, locked, run_cohort, same_slide
from wsi_maxmin.device import pick_device
from wsi_maxmin.engines._choice import check_choice
from wsi_maxmin.engines._int8 import INT8, int8_graph
from wsi_maxmin.engines.torch import check_compiles
from wsi_maxmin.errors import InputError
from wsi_maxmin.exports._source import ExportSettings
from wsi_maxmin.pipelines._dense import DENSE, check_dense
from wsi_maxmin.pipelines._engine import batch_size_for, settle
from wsi_maxmin.pipelines._exports import check_formats, open_source, write_exports
from wsi_maxmin.pipelines._job import InferSettings
from wsi_maxmin.pipelines._one_slide import Means, infer_one
from wsi_maxmin.pipelines._slide_folder import (
    SlideResult,
    begin,
    check_names,
    clear,
    finished_facts,
    recorded_slide,
    slide_result,
)
from wsi_maxmin.pipelines._tile_plan import identify
from wsi_maxmin.pipelines._timings import describe, measuring, totals
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import open_slide
from wsi_maxmin.runinfo import RUN_FILE, read_json, write_json
from wsi_maxmin.slide_inputs import RunSlides, SlideInputs
from wsi_maxmin.slide_model import SlideModel, load_slide_model
from wsi_maxmin.slides_csv import known_slides, write_slides
from wsi_maxmin.time_left import showing_time_left

if TYPE_CHECKING:
    from wsi_maxmin.pipelines._cluster import Cluster

__all__ = ["InferSettings", "SlideResult", "infer_slide", "slide_result"]

HERE = "threads"
"""The scheduler that is none: all in this process."""


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
    exports: Sequence[str] = (),
    annotations: Path | None = None,
    groups: Mapping[str, Role] | None = None,
    scheduler: str = HERE,
    workers: int | None = None,
    existing: Existing = "refuse",
    progress: Progress | None = None,
) -> CohortResult:
    """Write ``<out>/<slide_id>/`` with heatmap, tile maps, table and picture for every slide.

    Slides, tissue masks and overrides are those of `SlideInputs`. `exports` are formats to write each slide in besides;
    on resuming, finished slides get those that they lack. `annotations` (a file, or a folder of them) are drawn in the
    pictures, and decide nothing else; `groups` says what their groups of unknown meaning are. With a `scheduler` other
    than ``threads``, tiles are computed by the workers of `open_cluster`; their maps are stitched here.

    Raises
    ------
    InputError, OutputExistsError
        If nothing can be attempted: no slides, no such model, device or scheduler, a folder in use.
    """
    settings, progress = settings or InferSettings(), progress or Quiet()
    check_formats(exports)
    inputs = SlideInputs(slides=slides, tissue_masks=tissue_masks, overrides=overrides, slide_mpp=settings.slide_mpp)
    if scheduler != HERE:
        inputs = inputs.absolute()
    known = known_slides(out) if existing == "resume" else {}
    run = RunSlides(
        inputs, hashed=settings.hash_slide_ids, known=known, recorded=lambda slide_id: recorded_slide(out / slide_id)
    )
    if annotations is not None and annotations.is_file() and len(run.slides) > 1:
        raise InputError("one annotation for several slides", got=annotations, expected="a folder of them")
    with _ready(settings, device, scheduler, workers, progress) as (cluster, model, where), locked(out):
        # The same model by another path is the same model.
        values = {"command": "infer-slide", **settings.to_json(), "model": model.fingerprint()}
        if existing == "refuse":
            claim(out, values, existing)  # before anything is timed
        before = (read_json(out / RUN_FILE) or {}).get("settings", {}) if existing == "resume" else {}
        if cluster is None:
            choice = settle(model, run, settings, device=where, earlier=before, progress=progress)
        else:
            choice = cluster.settle(run, settings, earlier=before, progress=progress)
        values |= choice.to_json()
        claim(out, values, existing, may_change=("blend", "heatmap_mpp", "ngff", "slide_mpp"))
        check_names(out, hashed=run.hashed)
        if read_json(out / RUN_FILE) is None:
            # From here on the folder is known for a run's, whatever happens.
            write_json(out / RUN_FILE, {"status": "running", "settings": values})
        write_slides(
            out, run, lambda slide_id: existing != "overwrite" and finished_facts(out / slide_id, values) is not None
        )
        means = Means(
            model=model,
            choice=choice,
            device=where,
            settings=settings,
            batch_size=batch_size_for(where, batch_size),
            readers=readers,
            progress=progress,
            share_out=cluster.fill if cluster else None,
            annotations=annotations,
            groups=groups or {},
        )
        for note in run.notes:
            progress.say(note)

        def work(slide_id: str, path: Path | UPath) -> Status:
            folder = out / slide_id
            with run.hiding_names(slide_id), measuring(where) as measured:
                with measured.watch.stage("open"):
                    slide = open_slide(path, slide_mpp=run.slide_mpp(slide_id), slide_id=slide_id)
                    mask = run.tissue_mask(slide_id)
                    identity = identify(slide, mask, hashed=run.hashed)
                if existing == "overwrite":
                    clear(folder)
                status: Status = "skipped"
                if (earlier := finished_facts(folder, values)) is not None:
                    same_slide(slide_id, earlier["slide"], identity)
                else:
                    if changed := begin(folder, values, identity):
                        names = ", ".join(changed)
                        progress.say(f"{slide_id}: not that of the earlier run ({names}): done from the start")
                    with slide:
                        facts = infer_one(means, slide, mask, folder, identity=identity, measured=measured)
                    write_json(folder / RUN_FILE, {"status": "done", "settings": values, **facts})
                    status = "done"
                if exports and write_exports(open_source(folder, folder, ExportSettings()), exports, "resume"):
                    status = "done"
            return status

        at_once = min(cluster.slides_at_once if cluster else 1, len(run.slides))
        with showing_time_left(work, len(run.slides), progress, at_once=at_once) as timed:
            result = run_cohort(
                run.paths(),
                timed,
                out=out,
                settings=values,
                progress=progress,
                parallel=at_once,
                stop=cluster.stop if cluster else None,
                hide_paths=run.hashed,
            )
        _add_totals(result, progress)
        return result


def _add_totals(result: CohortResult, progress: Progress) -> None:
    """Say where the time of all slides that this run did went, and keep it in the run's ``run.json``."""
    done = [result.out / outcome.slide_id for outcome in result.outcomes if outcome.status == "done"]
    summed, kept = totals(done), read_json(result.out / RUN_FILE)
    if kept is not None and done:
        with suppress(OSError):  # said when the outcomes could not be kept either
            write_json(result.out / RUN_FILE, {**kept, "totals": summed})
    if len(done) > 1:
        progress.say(describe(f"{len(done)} slides", summed))


@contextmanager
def _ready(
    settings: InferSettings, device: str, scheduler: str, workers: int | None, progress: Progress
) -> Iterator[tuple["Cluster | None", SlideModel, torch.device]]:
    """Give the workers of a run, the model, and where it is run; without a cluster that is this process."""
    if scheduler == HERE:
        if workers is not None:
            raise InputError("one process has no workers", got=f"workers = {workers}", remedy="--scheduler processes")
        yield None, *load_for_slides(settings, device)
        return
    if settings.mode == DENSE:
        raise InputError("dense mode is run by one process", got=f"--scheduler {scheduler}", remedy="--mode tile")
    find_model(settings.model)
    settings.check()
    from wsi_maxmin.pipelines._cluster import open_cluster  # it takes a second to load

    with open_cluster(scheduler, workers=workers, device=device, progress=progress) as cluster:
        yield cluster, *load_for_slides(settings, cluster.device)


def load_for_slides(settings: InferSettings, device: str | torch.device) -> tuple[SlideModel, torch.device]:
    """Return a model that can be run over slides, and where.

    Raises
    ------
    InputError
        If there is no such model, device or engine, the model cannot be run over slides so or was not
        calibrated, or a setting is out of range.
    """
    where = pick_device(device) if isinstance(device, str) else device
    model = load_slide_model(find_model(settings.model))
    built = model.build()
    refusal = built.refuses_slides
    if refusal:
        raise InputError("this model cannot be run over slides", got=model.name, remedy=refusal)
    settings.check()
    check_choice(where, settings.engine, settings.precision, compiled=settings.compile)
    if settings.compile:
        check_compiles(built)
    if settings.mode == DENSE:
        check_dense(built, model.slide.tile_px, settings)
    if settings.precision == INT8:
        int8_graph(model)
    return model, where
