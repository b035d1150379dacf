"""Write the exports of one slide: each made beside its place, which it takes when it is whole."""

import os
import tempfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from wsi_maxmin.cohort import Existing
from wsi_maxmin.errors import InputError, OutputExistsError, WsiMaxminError
from wsi_maxmin.exports import every_file, plugins
from wsi_maxmin.exports._source import ExportSettings, ExportSource
from wsi_maxmin.findings import STITCH_AGAIN
from wsi_maxmin.heatmap_store import HeatmapStore
from wsi_maxmin.pipelines._intact import read_tiles, require_intact
from wsi_maxmin.pipelines._slide_folder import HEATMAP, TILEMAPS, TILES, remove, slide_result
from wsi_maxmin.runinfo import RUN_FILE, read_json, size_px_of
from wsi_maxmin.tilemaps import TileMaps

POSITIVE = "tumor"
"""The positive class of heatmaps that earlier versions stitched again, which do not say it."""


def check_formats(names: Sequence[str]) -> None:
    """Raise InputError if a name is none of an export, MissingExtraError if one lacks its package."""
    for name in names:
        plugins.load(name)


def check_class_names(folders: Iterable[Path], names: Collection[str]) -> None:
    """Raise InputError if a name is of no class of any of these slides' models.

    A slide whose classes cannot be read has none here: it fails by itself.
    """
    known: dict[str, None] = {}
    for folder in folders:
        with suppress(Exception):  # a damaged file may make any library raise anything
            known |= dict.fromkeys(_classes(folder))
    if known and (unknown := sorted({*names} - {*known})):
        raise InputError("the model has no such class", got=", ".join(unknown), expected=f"one of {', '.join(known)}")


def _classes(folder: Path) -> tuple[str, ...]:
    if (folder / TILEMAPS).is_dir():
        return TileMaps(folder / TILEMAPS).spec.class_names
    return ((read_json(folder / RUN_FILE) or {}).get("positive_class", POSITIVE),)


def make_folder(out: Path) -> None:
    """Make the folder that files are to go to.

    Raises
    ------
    InputError
        If it cannot be made or written to.
    """
    expected, remedy = "a folder, or the name of a new one where you may write", "give another --out"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "cannot write there", got=f"{out} ({error.strerror})", expected=expected, remedy=remedy
        ) from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise InputError("cannot write there", got=f"{out} (read-only)", expected=expected, remedy=remedy)


def open_source(folder: Path, target: Path, settings: ExportSettings) -> ExportSource:
    """Open the finished result of a slide, for files that are to lie in `target`.

    Raises
    ------
    InputError
        If it is missing or not finished, or the settings do not fit it.
    """
    facts = slide_result(folder.parent, folder.name).facts
    size_px = slide_size_px(folder, facts)
    if not (folder / TILEMAPS).is_dir():
        # Stitched again: its labels hold the threshold, and its tiles are the other folder's.
        store, tiles = HeatmapStore.open(folder / HEATMAP, size_px), None
        positive = facts.get("positive_class", POSITIVE)
    else:
        maps = TileMaps(folder / TILEMAPS)
        require_intact(folder, maps, masks=False)
        store = HeatmapStore.open(folder / HEATMAP, size_px, maps.grid.slide_mpp)
        tiles, positive = read_tiles(folder / TILES), maps.spec.positive_class
    return ExportSource(
        slide_id=folder.name,
        store=store,
        tiles=tiles,
        positive_class=positive,
        settings=settings,
        target=target.resolve(),
    )


def write_exports(source: ExportSource, names: Sequence[str], existing: Existing) -> list[str]:
    """Write exports to the source's target; return the formats that were written.

    Parameters
    ----------
    source : ExportSource
    names : sequence of str
        Formats.
    existing : {"refuse", "resume", "overwrite"}
        What to do with files that are there; resuming writes the formats that are not.

    Raises
    ------
    OutputExistsError
        If files are there and are neither to be kept nor replaced; nothing is written then.
    InputError
        If a part of the heatmap cannot be read.
    """
    target = source.target
    if existing == "refuse" and (there := [name for name in every_file(names) if (target / name).exists()]):
        raise OutputExistsError(
            f"{target} holds an export",
            got=", ".join(there),
            remedy="--overwrite replaces it, --resume writes what is missing",
        )
    written = []
    for name in names:
        files: tuple[str, ...] = plugins.load(name).FILES
        if existing == "resume" and (target / files[0]).exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=f".{name}-", suffix=".partial") as place:
            try:
                plugins.load(name).write(source, Path(place))
            except Exception as error:  # a damaged chunk may make any library raise anything
                damaged = None if isinstance(error, WsiMaxminError) else source.store.unreadable()
                if damaged is None:
                    raise
                raise InputError("the heatmap is damaged", got=f"{damaged} ({error})", remedy=STITCH_AGAIN) from error
            for file in files:
                remove(target / file)
            # The first one, by which a later run knows that all are there, comes last.
            for file in reversed(files):
                if (Path(place) / file).exists():
                    (Path(place) / file).rename(target / file)
        written.append(name)
    return written


def slide_size_px(folder: Path, facts: dict[str, Any]) -> tuple[int, int]:
    """Return the slide's size from a run.json of infer-slide or stitch."""
    size_px = size_px_of(facts)
    if size_px is None:
        raise InputError("the result does not say how large its slide is", got=folder, remedy="run infer-slide again")
    return size_px
