"""Cut the tissue of slides into labelled patches with masks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from upath import UPath

from wsi_maxmin import formats, protocols, stores
from wsi_maxmin.cohort import CohortResult, Existing, Status, claim, locked, run_cohort, same_slide
from wsi_maxmin.cutting import ask_tumour, cut_chunk, describe, in_chunks, plan_slide, release
from wsi_maxmin.extract_inputs import ExtractInputs, JobMaker
from wsi_maxmin.extraction import ExtractSettings, Plan, SlideJob
from wsi_maxmin.patches import PatchTable, make_rows, read_patch_table, write_patch_table
from wsi_maxmin.pipelines._patch_folder import PARTS, clear, clear_slide, gather, recorded_slide
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.quotas import Quotas
from wsi_maxmin.runinfo import RUN_FILE, read_json, write_json
from wsi_maxmin.sinks import preview
from wsi_maxmin.slides_csv import known_slides, write_slides
from wsi_maxmin.workers import Workers, usable_cores

# Further meanings of groups and other µm per pixel mend slides that failed; splits are no more than columns.
_MAY_CHANGE = ("groups", "slide_mpp", "preview", "splits", "folds")


def extract_patches(
    inputs: ExtractInputs,
    out: Path,
    *,
    settings: ExtractSettings | None = None,
    existing: Existing = "refuse",
    workers: int | None = None,
    progress: Progress | None = None,
) -> CohortResult:
    """Write ``patches.parquet``, images and masks of all slides to `out`.

    A slide is done when its part of the table is there; resuming skips those and cuts the others from their start.

    Parameters
    ----------
    inputs : ExtractInputs
    out : Path
    settings : ExtractSettings, optional
    existing : {"refuse", "resume", "overwrite"}
        What to do with an earlier run in `out`.
    workers : int, optional
        Processes that cut; all cores by default. The result does not depend on it. With more than one, a script that
        calls this needs the guard ``if __name__ == "__main__":``.
    progress : Progress, optional

    Raises
    ------
    InputError, OutputExistsError
        If nothing can be attempted: no slides, no annotations where they are said to be, a folder in use.
    """
    settings, progress = settings or ExtractSettings(), progress or Quiet()
    count = workers or usable_cores()
    values = {**settings.to_json(), **inputs.to_json(), "command": "extract-patches"}
    quota = bool(protocols.plugins.load(settings.protocol).NEEDS_QUOTA)
    may_change = tuple(name for name in _MAY_CHANGE if not (quota and name in ("splits", "folds")))
    known = known_slides(out) if existing == "resume" else {}
    maker = JobMaker(inputs, settings, known, lambda slide_id: recorded_slide(out, slide_id))
    if existing != "resume":
        # A resumed run may have patients that are not given again.
        maker.check_folds()
    with locked(out), _workers(count, settings) as pool:
        starts = claim(out, values, existing, may_change=may_change)
        fresh = starts and bool(maker.found())
        if fresh:
            clear(out)
        earlier = read_json(out / RUN_FILE)
        if fresh or earlier is None:
            # From here on the folder is known for a run's, whatever happens.
            write_json(out / RUN_FILE, {"status": "running", "settings": values})
        elif starts:
            # Where none of the slides is there, what an earlier run made stays, and how it was made.
            values = earlier["settings"]
        (out / PARTS).mkdir(exist_ok=True)
        write_slides(out, maker, lambda slide_id: (out / PARTS / f"{slide_id}.parquet").is_file())
        for note in maker.notes:
            progress.say(note)
        run = _Run(maker, settings, out, pool, progress, quota=quota)
        try:
            result = run_cohort(
                run.in_order(),
                run.attempt,
                out=out,
                settings=values,
                progress=progress,
                parallel=count,
                fresh=fresh,
                stop=run.stop,
                hide_paths=settings.hash_slide_ids,
            )
        finally:
            release()
        run.say_unbalanced(result)
        if fresh or not starts:
            gather(out, values, maker, inputs, settings, progress)
    return result


def _workers(count: int, settings: ExtractSettings) -> Workers:
    kind = formats.plugins.load(settings.format)
    others = protocols.plugins.load(settings.protocol), stores.plugins.load(settings.store)
    needed = ["wsi_maxmin.cutting", "wsi_maxmin.readers.tiff", *(module.__name__ for module in (kind, *others))]
    return Workers(count, preload=needed, soon=kind.DECODES)


class _Run:
    """One run: its `attempt` does one slide, for any number of threads."""

    def __init__(
        self,
        maker: JobMaker,
        settings: ExtractSettings,
        out: Path,
        pool: Workers,
        progress: Progress,
        *,
        quota: bool,
    ) -> None:
        self._maker, self._settings, self._out = maker, settings, out
        self._pool, self._progress = pool, progress
        self._unknown: dict[str, Exception] = {}
        self._tumour = self._with_tumour() if quota else []
        normal = [slide_id for slide_id in maker.slides if slide_id not in self._tumour]
        splits, _ = maker.given_splits()
        if quota and not self._tumour:
            progress.say("no slide with tumour is given, so slides without give no patches either")
        self._quotas = Quotas(tumour=self._tumour, normal=normal, splits=splits, out=out) if quota else None

    def in_order(self) -> dict[str, Path | UPath]:
        """Return the slides' paths: those with tumour first, where others wait for what they give."""
        paths = self._maker.paths()
        return {slide_id: paths[slide_id] for slide_id in dict.fromkeys((*self._tumour, *paths))}

    def attempt(self, slide_id: str, path: Path | UPath) -> Status:  # noqa: ARG002 - a cohort's form
        """Cut one slide, or find that it is done."""
        patches = 0
        try:
            with self._maker.hiding_names(slide_id):
                status, patches = self._slide(self._maker.job(slide_id))
        finally:
            if self._quotas is not None:
                self._quotas.report(slide_id, patches)
        return status

    def say_unbalanced(self, result: CohortResult) -> None:
        """Say where slides without tumour gave fewer patches because slides with tumour failed."""
        failed = [outcome.slide_id for outcome in result.outcomes if outcome.status == "failed"]
        if lacking := sorted(set(failed) & {*self._tumour, *self._unknown} if self._quotas is not None else []):
            self._progress.say(
                f"slides without tumour gave as many patches as {len(self._tumour) - len(lacking)} slides with tumour; "
                f"{len(lacking)} that may hold tumour failed, first {lacking[0]}. Once they are mended, --overwrite "
                "deals anew, --resume adds them alone"
            )

    def stop(self) -> None:
        """Drop what has not begun, so that an interrupted run ends soon."""
        if self._quotas is not None:
            self._quotas.abandon()
        self._pool.close()

    def _slide(self, job: SlideJob) -> tuple[Status, int]:
        if job.slide_id in self._unknown:
            raise self._unknown[job.slide_id]
        part = self._out / PARTS / f"{job.slide_id}.parquet"
        if part.is_file():
            done = read_patch_table(part)
            same_slide(job.slide_id, done.facts["slide"], self._pool.run(describe, job, self._settings))
            return "skipped", len(done.rows)
        if self._quotas is not None and job.slide_id not in self._tumour:
            job = replace(job, quota=self._quotas.of(job.slide_id))
        plan = self._pool.run(plan_slide, job, self._settings)
        self._progress.say(f"{job.slide_id}: {plan.note}")
        rows = self._cut(job, plan)
        write_patch_table(part, PatchTable(rows=rows, facts={"slide": plan.facts}))
        return "done", len(rows)

    def _cut(self, job: SlideJob, plan: Plan) -> pd.DataFrame:
        clear_slide(self._out, job.slide_id)
        chunks = enumerate(in_chunks(plan, self._settings))
        job = replace(job, listed=())
        calls = [(job, self._settings, self._out, number, patches, plan.mpp) for number, patches in chunks]
        records: list[dict[str, Any]] = []
        try:
            with self._progress.track(job.slide_id, len(plan.patches), unit="patch") as advance:
                for rows in self._pool.map(cut_chunk, calls):
                    records += rows
                    advance(len(rows))
            if self._settings.preview:
                self._pool.run(preview.write, job, self._settings, plan, self._out)
        except Exception:
            # Images of which no table speaks would be taken for the slide's.
            clear_slide(self._out, job.slide_id)
            raise
        self._say_fallbacks(job.slide_id, records)
        return make_rows([{**row, "patient_id": job.slide_id, "split": ""} for row in records])

    def _say_fallbacks(self, slide_id: str, records: Sequence[dict[str, Any]]) -> None:
        if self._settings.format == "raw-jpeg":
            again = sum(row["image_format"] != "raw-jpeg" for row in records)
            self._progress.say(
                f"{slide_id}: {len(records) - again} of {len(records)} patches are copies of the slide's own tiles"
                + (f", {again} are none and were compressed at quality 95" if again else "")
            )

    def _with_tumour(self) -> list[str]:
        answers: dict[str, bool | Exception] = {}
        calls = []
        for slide_id in self._maker.slides:
            try:
                calls.append((self._maker.job(slide_id), self._settings))
            except Exception as error:
                answers[slide_id] = error
        answers |= dict(self._pool.map(ask_tumour, calls))
        # The attempt of such a slide fails with this. Until it is mended nobody knows that it has no tumour.
        self._unknown = {slide_id: answer for slide_id, answer in answers.items() if isinstance(answer, Exception)}
        return [slide_id for slide_id in self._maker.slides if answers[slide_id]]
