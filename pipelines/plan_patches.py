"""What extract-patches would do: how many patches, how much disk, how long. Nothing is written."""

import time
from dataclasses import replace

from wsi_maxmin import formats
from wsi_maxmin.cutting import holds_tumour, open_job, plan_slide, release
from wsi_maxmin.extract_inputs import ExtractInputs, JobMaker
from wsi_maxmin.extraction import ExtractSettings, Plan, SlideJob
from wsi_maxmin.pipelines._dry_run import DryRun, Expected, why_it_fails
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.protocols import plugins as protocols
from wsi_maxmin.workers import Workers, usable_cores

_SAMPLE = 12
_MASK_BYTES = 2_000
_DEALT = "about its share of as many as the tumour slides give"


def plan_patches(
    inputs: ExtractInputs,
    *,
    settings: ExtractSettings,
    workers: int | None = None,
    progress: Progress | None = None,
) -> DryRun:
    """Plan every slide and encode a few of its patches to see how large they are and how long they take.

    Raises
    ------
    InputError
        If there is no slide, or an input is not what it is said to be.
    """
    progress, count = progress or Quiet(), workers or usable_cores()
    maker = JobMaker(inputs, settings, {})
    for note in maker.notes:
        progress.say(note)
    found = []
    with (
        Workers(count, preload=["wsi_maxmin.cutting"]) as pool,
        progress.track("plan", len(maker.slides), unit="slide") as advance,
    ):
        for expected in pool.map(_expect, [(maker, slide_id, settings) for slide_id in maker.slides]):
            found.append(expected)
            advance()
    release()
    order = {slide_id: index for index, slide_id in enumerate(maker.slides)}
    ordered = sorted(_deal(found), key=lambda slide: order[slide.slide_id])
    return DryRun(slides=tuple(ordered), unit="patches", where=f"with {count} workers", at_once=count)


def _deal(found: list[Expected]) -> list[Expected]:
    """Give the slides without tumour what those with tumour give, of which each says how large it is."""
    dealt = max(sum(slide.remark == _DEALT for slide in found), 1)
    patches = round(sum(slide.number for slide in found) / dealt)
    disk_bytes = sum(slide.disk_bytes for slide in found) / dealt
    seconds = sum(slide.seconds for slide in found) / dealt
    share = Expected("", patches, disk_bytes, seconds, _DEALT)
    return [share._replace(slide_id=slide.slide_id) if slide.remark == _DEALT else slide for slide in found]


def _expect(maker: JobMaker, slide_id: str, settings: ExtractSettings) -> Expected:
    try:
        job = maker.job(slide_id)
        start = time.perf_counter()
        if protocols.load(settings.protocol).NEEDS_QUOTA and not holds_tumour(job, settings):
            plan_slide(replace(job, quota=0), settings)
            return Expected(slide_id, 0, 0.0, 0.0, _DEALT)
        plan = plan_slide(job, settings)
        planning = time.perf_counter() - start
        size, seconds = _sample(job, settings, plan)
    except Exception as error:
        return Expected(slide_id, 0, 0.0, 0.0, why_it_fails(maker, slide_id, error), fails=True)
    count = len(plan.patches)
    return Expected(slide_id, count, count * size, planning + count * seconds, plan.note)


def _sample(job: SlideJob, settings: ExtractSettings, plan: Plan) -> tuple[float, float]:
    """Return the mean bytes of a few patches spread over the slide, and the mean seconds to make one."""
    if not plan.patches:
        return 0.0, 0.0
    slide, truth = open_job(job, settings)
    encode = formats.plugins.load(settings.format).encode
    chosen = plan.patches[:: max(len(plan.patches) // _SAMPLE, 1)]
    start = time.perf_counter()
    images = [encode(slide, patch.box, settings.patch_px, quality=settings.jpeg_quality) for patch in chosen]
    seconds = (time.perf_counter() - start) / len(chosen)
    sizes = [len(image.data) for image in images if image is not None]
    masks = _MASK_BYTES if truth is not None and truth.holds_tumour else 0
    return sum(sizes) / len(chosen) + masks, seconds
