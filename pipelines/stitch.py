"""Stitch the tile maps of finished slides again: another blend, resolution or OME-Zarr version, without the model."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsi_maxmin.cohort import CohortResult, Existing, Status, claim, locked, run_cohort
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._intact import require_intact
from wsi_maxmin.pipelines._result_folders import result_folders
from wsi_maxmin.pipelines._slide_folder import HEATMAP, TILEMAPS, MapSettings, clear, write_heatmap
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import RUN_FILE, Stopwatch, environment, peak_memory_bytes, read_json, write_json
from wsi_maxmin.slides_csv import copy_slides
from wsi_maxmin.tilemaps import TileMaps

__all__ = ["MapSettings", "stitch_results"]


def stitch_results(
    results: Sequence[Path],
    out: Path,
    *,
    settings: MapSettings | None = None,
    existing: Existing = "refuse",
    progress: Progress | None = None,
) -> CohortResult:
    """Write ``<out>/<slide_id>/heatmap.ome.zarr`` from the tile maps of every slide, and ``slides.csv``.

    Parameters
    ----------
    results : sequence of Path
        Folders of slides that ``infer-slide`` has written, or of whole runs.
    out : Path
        Another folder than those.
    settings : MapSettings, optional
    existing : {"refuse", "resume", "overwrite"}
    progress : Progress, optional

    Raises
    ------
    InputError, OutputExistsError
        If a folder holds no tile maps, two hold a slide of the same name, or `out` cannot be used.
    """
    settings, progress = settings or MapSettings(), progress or Quiet()
    settings.check()
    folders = _slide_folders(results, out, progress)
    values = {"command": "stitch", **asdict(settings)}
    with locked(out):
        claim(out, values, existing)
        copy_slides(folders, out)

        def work(slide_id: str, folder: Path) -> Status:
            target, source = out / slide_id, _source(folder)
            if existing == "overwrite":
                clear(target)
            earlier = read_json(target / RUN_FILE) or {}
            if earlier.get("status") == "done" and earlier["settings"] == values and earlier["source"] == source:
                return "skipped"
            target.mkdir(parents=True, exist_ok=True)
            kept = {"settings": values, "source": source}
            write_json(target / RUN_FILE, {"status": "running", **kept})  # what is there is no longer whole
            watch = Stopwatch()
            maps = TileMaps(folder / TILEMAPS)
            require_intact(folder, maps)
            progress.say(f"{slide_id}: {len(maps.grid)} tiles")
            georef = write_heatmap(maps, target, settings, watch)
            progress.say(f"{slide_id}: {target / HEATMAP}, {georef.mpp:.4g} µm a pixel, in {watch.elapsed:.1f} s")
            facts = {
                "threshold": maps.spec.threshold,
                "positive_class": maps.spec.positive_class,
                "mpp": georef.mpp,
                "elapsed_seconds": round(watch.elapsed, 3),
                "timings": {"summed_over_threads": {stage: round(s, 3) for stage, s in watch.beside().items()}},
                "peak_memory_bytes": peak_memory_bytes(),
                "environment": environment(),
            }
            write_json(target / RUN_FILE, {"status": "done", **kept, **facts})
            return "done"

        return run_cohort(folders, work, out=out, settings=values, progress=progress)


def _slide_folders(results: Sequence[Path], out: Path, progress: Progress) -> dict[str, Path]:
    """Return the folders of slides by name; none of them may lie in `out`."""
    found = result_folders(results, holding=[TILEMAPS], what="tile maps", say=progress.say)
    if any(folder.is_relative_to(out.resolve()) for folder in found.values()):
        raise InputError("the output would lie where it is read from", got=out, remedy="use another folder")
    return found


def _source(folder: Path) -> dict[str, Any]:
    """Return what the tile maps are of: a resumed run stitches again what was inferred anew."""
    facts = read_json(folder / RUN_FILE) or {}
    return {key: facts.get(key) for key in ("settings", "slide")}
