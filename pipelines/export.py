"""Write finished heatmaps in the formats of other programs."""

from collections.abc import Sequence
from pathlib import Path

from wsi_maxmin.cohort import CohortResult, Existing, Outcome, Status, attempt_one, locked
from wsi_maxmin.errors import InputError
from wsi_maxmin.exports._source import ExportSettings
from wsi_maxmin.pipelines._exports import check_class_names, check_formats, make_folder, open_source, write_exports
from wsi_maxmin.pipelines._result_folders import by_name, split_results
from wsi_maxmin.pipelines._slide_folder import HEATMAP, TILEMAPS
from wsi_maxmin.progress import Progress, Quiet

__all__ = ["ExportSettings", "export_results"]

_WITH_TILES = {"csv", "geojson", "qupath"}


def export_results(
    results: Sequence[Path],
    to: Sequence[str],
    *,
    settings: ExportSettings | None = None,
    out: Path | None = None,
    existing: Existing = "refuse",
    progress: Progress | None = None,
) -> CohortResult:
    """Write the exports of every slide; each is attempted, and one of a run that has no heatmap fails.

    Parameters
    ----------
    results : sequence of Path
        Folders of slides that ``infer-slide`` or ``stitch`` has written, or of whole runs.
    to : sequence of str
        Formats, modules of `wsi_maxmin.exports`.
    settings : ExportSettings, optional
    out : Path, optional
        Files of a slide go to ``<out>/<slide_id>/``; by default they go beside its heatmap.
    existing : {"refuse", "resume", "overwrite"}
    progress : Progress, optional

    Raises
    ------
    InputError
        If a folder holds no results, two hold a slide of the same name, a format or setting is none, or `out` cannot
        be written to.
    """
    settings, progress = settings or ExportSettings(), progress or Quiet()
    settings.check()
    if not to:
        raise InputError("no format to export to", remedy="name one, such as geojson")
    check_formats(to)
    found, lacking = split_results(results, holding=[HEATMAP, TILEMAPS], what="heatmaps")
    folders = by_name(found)
    check_class_names(found, settings.class_names)
    if out is not None:
        make_folder(out)
    stitched: list[str] = []

    def work(slide_id: str, folder: Path) -> Status:
        source = open_source(folder, folder if out is None else out / slide_id, settings)
        with locked(source.target):
            written = write_exports(source, to, existing)
        if source.tiles is None and set(written) & _WITH_TILES:
            stitched.append(slide_id)
        return "done" if written else "skipped"

    outcomes: list[Outcome] = []
    with progress.track("export", len(folders), unit="slide") as advance:
        for slide_id, folder in folders.items():
            outcome, _ = attempt_one(slide_id, folder, work=work, hide_path=False)
            outcomes.append(outcome)
            advance()
    if stitched:
        formats, whose = ", ".join(sorted(_WITH_TILES & {*to})), ", ".join(stitched[:3])
        more = f" and {len(stitched) - 3} more" if len(stitched) > 3 else ""
        progress.say(
            f"{formats}: regions and no tiles of {whose}{more}: stitch leaves the tiles with infer-slide's result"
        )
    outcomes += [slide.outcome for slide in lacking]
    where = out if out is not None else [*found, *(slide.folder for slide in lacking)][0].parent
    return CohortResult(out=where, outcomes=tuple(outcomes))
