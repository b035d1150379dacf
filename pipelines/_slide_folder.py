"""What lies in the folder of one slide, and the maps of it that are stitched from its tile maps."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_maxmin.blends import plugins as blends
from wsi_maxmin.errors import InputError
from wsi_maxmin.exports import every_file
from wsi_maxmin.grids import Georef
from wsi_maxmin.locks import changed_facts
from wsi_maxmin.pipelines._file_names import NAMES
from wsi_maxmin.pipelines._result_folders import describe_lacking
from wsi_maxmin.runinfo import RUN_FILE, Stopwatch, read_json, write_json
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.sinks._ngff import Ngff, check_version
from wsi_maxmin.stitching import stitch
from wsi_maxmin.tilemaps import TileMaps

HEATMAP, TILEMAPS, TILES, OVERVIEW = NAMES
REVIEW = ("review.csv", "review.geojson", "review.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSettings:
    """How tile maps become a heatmap; none of it needs the model again.

    Attributes
    ----------
    blend : str
        Rule for overlapping tiles.
    heatmap_mpp : float or None
        µm a pixel, taken to the nearest power of two times the slide's; by default at most 2.
    ngff : {"0.4", "0.5"}
        Version of OME-Zarr.
    """

    blend: str = "hann"
    heatmap_mpp: float | None = None
    ngff: Ngff = "0.4"

    def check(self) -> None:
        """Raise InputError if there is no such blend, resolution or version."""
        blends.load(self.blend)
        check_version(self.ngff)
        Georef.for_display((1, 1), 1.0, self.heatmap_mpp)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideResult:
    """Where the files of one slide are, and what the run measured."""

    folder: Path
    facts: dict[str, Any]

    @property
    def heatmap(self) -> Path:
        """The OME-Zarr store."""
        return self.folder / HEATMAP

    @property
    def tilemaps(self) -> Path:
        """The exact outputs of every tile."""
        return self.folder / TILEMAPS

    @property
    def overview(self) -> Path:
        """The picture."""
        return self.folder / OVERVIEW


def slide_result(out: Path, slide_id: str) -> SlideResult:
    """Return the result of one slide of a finished run.

    Raises
    ------
    InputError
        If there is none.
    """
    facts = read_json(out / slide_id / RUN_FILE)
    if facts is None or facts.get("status") != "done":
        lacking = describe_lacking(out / slide_id)
        raise InputError(f"{slide_id} has no finished result", got=lacking.why, remedy=lacking.remedy)
    return SlideResult(folder=out / slide_id, facts=facts)


def finished_facts(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the facts of a slide that has what is asked for, else None; a --slide-mpp for others does not undo it."""
    facts = read_json(folder / RUN_FILE) or {}
    same = facts.get("status") == "done" and {**facts["settings"], "slide_mpp": None} == {**settings, "slide_mpp": None}
    return facts if same else None


def recorded_slide(folder: Path) -> dict[str, Any] | None:
    """Return by what the slide of a result, finished or not, is recognised; None where there is no result."""
    return (read_json(folder / RUN_FILE) or {}).get("slide")


def check_names(out: Path, *, hashed: bool) -> None:
    """Check that a run calls slides as the earlier one in its folder did, of which results may stay.

    Raises
    ------
    InputError
        If only one of them hashes names.
    """
    before = (read_json(out / RUN_FILE) or {}).get("settings", {})
    if before and bool(before.get("hash_slide_ids")) != hashed:
        raise InputError(
            f"{out} holds slides under their {'own names' if hashed else 'hashed names'}",
            got="--hash-slide-ids" if hashed else "no --hash-slide-ids",
            remedy="use another folder",
        )


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote for a slide, and nothing else."""
    (folder / RUN_FILE).unlink(missing_ok=True)  # first: what follows is no result without it
    for name in (HEATMAP, TILEMAPS, TILES, OVERVIEW):
        remove(folder / name)
    clear_exports(folder)


def clear_exports(folder: Path) -> None:
    """Remove the exports and the review list of a heatmap that is about to be made anew."""
    for name in (*every_file(), *REVIEW):
        remove(folder / name)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def begin(folder: Path, settings: Mapping[str, Any], slide: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Take the mark of a finished slide off a folder before anything in it changes, and say what the work is of.

    Tile maps of an unfinished run are removed if the slide's file or tissue mask has changed since; what has changed is
    returned, with its values then and now.
    """
    earlier = recorded_slide(folder)
    changed = {} if earlier is None else changed_facts(earlier, slide)
    if changed:
        clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN_FILE, {"status": "running", "settings": settings, "slide": slide})
    return changed


def write_heatmap(maps: TileMaps, folder: Path, settings: MapSettings, stopwatch: Stopwatch | None = None) -> Georef:
    """Stitch tile maps and write ``heatmap.ome.zarr``, replacing it; return its display grid.

    `stopwatch` gets ``stitch`` and ``write``, each summed over threads.

    Raises
    ------
    InputError
        If the tile maps are not complete.
    """
    grid = maps.grid
    georef = Georef.for_display(grid.slide_size_px, grid.slide_mpp, settings.heatmap_mpp)
    omezarr.write(
        stitch(maps, blend=settings.blend, georef=georef, stopwatch=stopwatch),
        folder / HEATMAP,
        threshold=maps.spec.threshold,
        tissue=maps.tissue(),
        name=grid.slide_id,
        ngff=settings.ngff,
        stopwatch=stopwatch,
    )
    return georef
