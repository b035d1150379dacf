"""Say where on a slide to look first: a table, places for QuPath, and a sheet of pictures."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import shapely

from wsi_maxmin.cohort import CohortResult, Outcome, Status, attempt_one
from wsi_maxmin.errors import InputError
from wsi_maxmin.exports._features import Feature, make_feature, write_collection
from wsi_maxmin.exports._source import ExportSettings
from wsi_maxmin.pipelines._exports import make_folder, open_source
from wsi_maxmin.pipelines._result import open_slide_of, threshold_of
from wsi_maxmin.pipelines._result_folders import by_name, split_results
from wsi_maxmin.pipelines._slide_folder import HEATMAP, REVIEW, TILEMAPS
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.review import ReviewRegion, ReviewSettings, choose_regions
from wsi_maxmin.sinks import contact_sheet

__all__ = ["ReviewSettings", "review_results"]

_COLORS = {"tumour": (213, 94, 0), "uncertainty": (0, 114, 178)}


def review_results(
    results: Sequence[Path],
    *,
    settings: ReviewSettings | None = None,
    out: Path | None = None,
    slide: str | Path | None = None,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> CohortResult:
    """Write ``review.csv``, ``review.geojson`` and ``review.png`` of every slide; each is attempted.

    Parameters
    ----------
    results : sequence of Path
        Folders of slides that ``infer-slide`` or ``stitch`` has written, or of whole runs.
    settings : ReviewSettings, optional
    out : Path, optional
        Files of a slide go to ``<out>/<slide_id>/``; by default beside its heatmap. Earlier ones are replaced.
    slide : path or URL, optional
        The slide of the one result, where it is no longer what ``slides.csv`` says.
    threshold : float, optional
        Of tumour; by default the model's.
    progress : Progress, optional

    Raises
    ------
    InputError
        If a folder holds no results, one slide is given for several, the threshold is none, or `out` cannot be written
        to.
    """
    settings, progress = settings or ReviewSettings(), progress or Quiet()
    ExportSettings(threshold=threshold).check()
    found, lacking = split_results(results, holding=[HEATMAP, TILEMAPS], what="heatmaps")
    folders = by_name(found)
    if slide is not None and (several := len(found) + len(lacking)) > 1:
        raise InputError("one slide for several results", got=f"{several} results", remedy="review one of them")
    if out is not None:
        make_folder(out)
    outcomes: list[Outcome] = []
    with progress.track("review", len(folders), unit="slide") as advance:
        for slide_id, folder in folders.items():
            work = partial(_review, settings=settings, out=out, slide=slide, threshold=threshold)
            outcome, _ = attempt_one(slide_id, folder, work=work, hide_path=False)
            outcomes.append(outcome)
            advance()
    outcomes += [slide.outcome for slide in lacking]
    where = out if out is not None else [*found, *(slide.folder for slide in lacking)][0].parent
    return CohortResult(out=where, outcomes=tuple(outcomes))


def _review(
    slide_id: str,
    folder: Path,
    *,
    settings: ReviewSettings,
    out: Path | None,
    slide: str | Path | None,
    threshold: float | None,
) -> Status:
    store = open_source(folder, folder, ExportSettings()).store
    target = folder if out is None else out / slide_id
    contour = threshold_of(folder, threshold)
    with open_slide_of(folder, slide) as opened:
        if opened.info.size_px != store.georef.slide_size_px:
            raise InputError(
                f"{opened.info.path} is not the slide of this result",
                got=f"{opened.info.size_px} px",
                expected=f"{store.georef.slide_size_px} px",
            )
        regions = choose_regions(store, settings, contour)
        target.mkdir(parents=True, exist_ok=True)
        table, features, sheet = (target / name for name in REVIEW)
        contact_sheet.write(opened, store, regions, sheet, threshold=contour, title=slide_id)
    _table(regions, store.georef.slide_mpp, store.valued).to_csv(table, index=False, lineterminator="\n")
    write_collection((_feature(slide_id, region) for region in regions), features)
    return "done"


def _table(regions: Sequence[ReviewRegion], mpp: float, channels: Sequence[str]) -> pd.DataFrame:
    measured = [f"{channel}_{kind}" for channel in channels for kind in ("mean", "max")]
    places = ("x", "y", "width", "height")
    rows = []
    for region in regions:
        corner = {name: getattr(region.box, name) for name in places}
        values = {f"{name}_mean": round(value, 6) for name, value in region.means.items()}
        values |= {f"{name}_max": round(value, 6) for name, value in region.maxima.items()}
        um = {f"{name}_um": round(value * mpp, 3) for name, value in corner.items()}
        rows.append(
            {"name": region.name, "reason": region.reason, **corner, **um, "tissue": round(region.tissue, 4), **values}
        )
    return pd.DataFrame(
        rows, columns=["name", "reason", *places, *(f"{name}_um" for name in places), "tissue", *measured]
    )


def _feature(slide_id: str, region: ReviewRegion) -> Feature:
    box = region.box
    feature = make_feature(
        slide_id,
        shapely.box(box.x, box.y, box.right, box.bottom),
        kind="annotation",
        class_name=f"Review: {region.reason}",
        color=_COLORS[region.reason],
        measurements={f"{name.capitalize()} mean": value for name, value in region.means.items()},
    )
    feature["properties"]["name"] = region.name
    return feature
