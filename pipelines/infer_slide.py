"""Run a model over slides: tile maps, stitched heatmap, table of tiles, picture."""

from collections.abc import Sequence
from pathlib import Path

import torch
from upath import UPath

from wsi_maxmin.assets import find_model
from wsi_maxmin.cohort import CohortResult, Existing, Status, claim, locked, run_cohort, same_slide
from wsi_maxmin.device import pick_device
from wsi_maxmin.engines._choice import check_choice
from wsi_maxmin.engines._int8 import INT8, int8_graph
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._engine import batch_size_for, settle
from wsi_maxmin.pipelines._one_slide import InferSettings, Means, infer_one
from wsi_maxmin.pipelines._slide_folder import SlideResult, check_names, clear, finished_facts, slide_result
from wsi_maxmin.pipelines._tile_plan import identify
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import open_slide
from wsi_maxmin.runinfo import RUN_FILE, read_json, write_json
from wsi_maxmin.slide_inputs import RunSlides, SlideInputs
from wsi_maxmin.slide_model import SlideModel, load_slide_model
from wsi_maxmin.slides_csv import known_slides, write_slides
from wsi_maxmin.time_left import showing_time_left

__all__ = ["InferSettings", "SlideResult", "infer_slide", "slide_result"]


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
    model, where = load_for_slides(settings, device)
    # The same model by another path is the same model.
    values = {"command": "infer-slide", **settings.to_json(), "model": model.fingerprint()}
    with locked(out):
        if existing == "refuse":
            claim(out, values, existing)  # before anything is timed
        before = (read_json(out / RUN_FILE) or {}).get("settings", {}) if existing == "resume" else {}
        choice = settle(model, run, settings, device=where, earlier=before, progress=progress)
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
                facts = infer_one(means, slide, mask, folder)
                write_json(folder / RUN_FILE, {"status": "done", "settings": values, **facts})
            return "done"

        with showing_time_left(work, len(run.slides), progress) as timed:
            return run_cohort(run.paths(), timed, out=out, settings=values, progress=progress, hide_paths=run.hashed)


def load_for_slides(settings: InferSettings, device: str) -> tuple[SlideModel, torch.device]:
    """Return a model that can be run over slides, and where.

    Raises
    ------
    InputError
        If there is no such model, device or engine, the model cannot be run over slides or was not calibrated, or a
        setting is out of range.
    """
    where = pick_device(device)
    model = load_slide_model(find_model(settings.model))
    refusal = model.build().refuses_slides
    if refusal:
        raise InputError("this model cannot be run over slides", got=model.name, remedy=refusal)
    settings.check()
    check_choice(where, settings.engine, settings.precision, compiled=settings.compile)
    if settings.precision == INT8:
        int8_graph(model)
    return model, where
