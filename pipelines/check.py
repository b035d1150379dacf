"""Look whether finished results are whole, valid, and registered on their slides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from wsi_maxmin.check import store_findings
from wsi_maxmin.errors import InputError
from wsi_maxmin.exports import every_file
from wsi_maxmin.exports._whole import damage as damage_of_export
from wsi_maxmin.findings import Fault, Finding, find
from wsi_maxmin.heatmap_store import HeatmapStore
from wsi_maxmin.pipelines._exports import slide_size_px
from wsi_maxmin.pipelines._intact import AGAIN, damage
from wsi_maxmin.pipelines._on_slide import slide_findings
from wsi_maxmin.pipelines._result import require_slide
from wsi_maxmin.pipelines._result_folders import RESUME, STITCH_ON, Lacking, failure_of, split_results
from wsi_maxmin.pipelines._slide_folder import HEATMAP, OVERVIEW, REVIEW, TILEMAPS, TILES
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import RUN_FILE, read_json
from wsi_maxmin.tilemaps import TileMaps

__all__ = ["Finding", "SlideCheck", "check_results"]

_EXPORT_AGAIN = "write it again: `wsi-maxmin export --overwrite`, or `wsi-maxmin review`"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideCheck:
    """What was found of one slide's result."""

    folder: Path
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Whether no check failed."""
        return all(finding.status != "FAILED" for finding in self.findings)


def check_results(
    results: Sequence[Path], *, slide: str | Path | None = None, progress: Progress | None = None
) -> list[SlideCheck]:
    """Check every slide of results; one of a run that has none fails, with the reason.

    Parameters
    ----------
    results : sequence of Path
        Folders of slides that ``infer-slide`` or ``stitch`` has written, or of whole runs.
    slide : path or URL, optional
        The slide of the one result, where it is no longer what ``slides.csv`` says.
    progress : Progress, optional

    Raises
    ------
    InputError
        If a folder holds no results, or one slide is given for several.
    SlideError
        If the slide that is given is not there.
    """
    progress = progress or Quiet()
    folders, lacking = split_results(results, holding=[HEATMAP, TILEMAPS], what="results")
    if slide is not None and (several := len(folders) + len(lacking)) > 1:
        raise InputError("one slide for several results", got=f"{several} results", remedy="check one of them")
    if slide is not None:
        require_slide(slide)
    with progress.track("check", len(folders), unit="slide") as advance:
        checks = []
        for folder in folders:
            checks.append(SlideCheck(folder=folder, findings=tuple(_findings(folder, slide))))
            advance()
    return [*checks, *map(_without_result, lacking)]


def _without_result(slide: Lacking) -> SlideCheck:
    finding = Finding(part="whole", what="run", status="FAILED", why=slide.why, remedy=slide.remedy)
    return SlideCheck(folder=slide.folder, findings=(finding,))


def _findings(folder: Path, slide: str | Path | None) -> list[Finding]:
    """Check one slide; of a run that is not finished all that is wrong has one remedy, to finish it."""
    facts = read_json(folder / RUN_FILE) or {}
    stitched = facts.get("settings", {}).get("command") == "stitch"
    found = _check(folder, facts, slide, stitched=stitched)
    if facts.get("status") == "done":
        return found
    remedy = STITCH_ON if stitched else RESUME
    own = [each for each in found if each.remedy and not (each.what == "slide" and slide is not None)]
    return [replace(each, remedy=remedy) if each in own else each for each in found]


def _check(folder: Path, facts: dict[str, Any], slide: str | Path | None, *, stitched: bool) -> list[Finding]:
    maps = None if stitched else _maps_or_none(folder)
    findings = [
        find("whole", "run", lambda: _finished(folder, facts)),
        find("whole", "files", lambda: _files(folder, [HEATMAP] if stitched else [HEATMAP, TILEMAPS, TILES, OVERVIEW])),
    ]
    if not stitched:
        findings.append(find("whole", "tile maps", lambda: _tile_maps(folder), AGAIN))
        findings.append(find("whole", "table of tiles", lambda: _table(folder), AGAIN))
    findings += _exports(folder)
    try:
        size_px = maps.grid.slide_size_px if maps else slide_size_px(folder, facts)
        store = HeatmapStore.open(folder / HEATMAP, size_px, maps.grid.slide_mpp if maps else None)
    except InputError as error:
        return [*findings, find("valid", "heatmap", partial(_fail, str(error)))]
    threshold = maps.spec.threshold if maps else facts.get("threshold")
    findings += store_findings(folder / HEATMAP, store.georef, threshold, maps.grid if maps else None)
    return [*findings, *slide_findings(folder, facts, store, slide)]


def _fail(why: str) -> str:
    raise Fault(why)


def _finished(folder: Path, facts: dict[str, Any]) -> str:
    if facts.get("status") != "done":
        raise Fault("; ".join(filter(None, (f"status {facts.get('status')}, expected done", failure_of(folder)))))
    return "done"


def _files(folder: Path, names: Sequence[str]) -> str:
    if missing := [name for name in names if not (folder / name).exists()]:
        raise Fault(f"no {', '.join(missing)}", AGAIN)
    if OVERVIEW in names:
        try:
            with Image.open(folder / OVERVIEW) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError) as error:  # whatever Pillow finds
            raise Fault(f"{OVERVIEW} is no picture ({error})", AGAIN) from None
    return f"{len(names)} of {len(names)}"


def _exports(folder: Path) -> list[Finding]:
    """Look at the exports and review lists that are there; nobody has to have made any."""
    there = [name for name in (*every_file(), *REVIEW) if (folder / name).exists()]

    def check() -> str:
        if wrong := [why for name in there if (why := damage_of_export(folder / name))]:
            raise Fault(wrong[0], _EXPORT_AGAIN)
        return ", ".join(there)

    return [find("whole", "exports", check)] if there else []


def _maps_or_none(folder: Path) -> TileMaps | None:
    try:
        return TileMaps(folder / TILEMAPS)
    except Exception:  # whatever is wrong with them is found by their own check
        return None


def _tile_maps(folder: Path) -> str:
    maps = TileMaps(folder / TILEMAPS)
    if not maps.complete:
        raise Fault("tiles are not done, or their files are gone", AGAIN)
    for chunk in maps.chunks():
        values = np.asarray(maps.mask[chunk.start : chunk.stop])
        if not ((values >= 0) & (values <= 1)).all():
            raise Fault("a soft mask is not within 0 to 1", AGAIN)
    if not np.isfinite(np.asarray(maps.logits[:])).all():
        raise Fault("a class score is no number", AGAIN)
    table = _table_or_none(folder)
    if table is not None and len(table) == len(maps.grid) and (why := damage(maps, table)):
        raise Fault(why, AGAIN)
    return f"{len(maps.grid)} tiles"


def _table_or_none(folder: Path) -> pd.DataFrame | None:
    try:
        return pd.read_parquet(folder / TILES)
    except Exception:  # found by its own check
        return None


def _table(folder: Path) -> str:
    table, grid = pd.read_parquet(folder / TILES), TileMaps(folder / TILEMAPS).grid
    boxes = [(box.x, box.y, box.width, box.height) for box in grid.boxes()]
    if list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None)) != boxes:
        raise Fault("its tiles are not those of the tile maps", AGAIN)
    return f"{len(table)} rows"
