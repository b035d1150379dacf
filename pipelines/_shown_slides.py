"""What there is to show of finished slides: each with its heatmap, its slide and its annotation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr
from upath import UPath

from wsi_maxmin.annotations import Annotation, Role, find_annotation, read_annotation
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._file_names import HEATMAP, TILEMAPS, TILES
from wsi_maxmin.runinfo import RUN_FILE, read_json, size_px_of
from wsi_maxmin.slide_ids import as_source
from wsi_maxmin.slide_list import find_slides, is_list
from wsi_maxmin.slides_csv import read_slides
from wsi_maxmin.viewer._shown import Shown

Say = Callable[[str], object]
Source = Path | UPath

_SEVERAL = "a folder of its slides, or a CSV list of them"


def shown_slides(
    folders: Sequence[Path],
    *,
    slide: str | None = None,
    annotations: Path | None = None,
    groups: Mapping[str, Role] | None = None,
    say: Say = lambda _: None,
) -> list[Shown]:
    """Return what there is to show of finished slides of one run.

    Parameters
    ----------
    folders : sequence of Path
        Of the slides; see `finished_slides`.
    slide : str, optional
        File or URL of the slide; of several a folder or list of them. By default, and for slides that are not among
        these, as ``slides.csv`` says.
    annotations : Path, optional
        ASAP XML or GeoJSON of the slide; of several a folder of them.
    groups : mapping, optional
        What to make of groups of unknown meaning in annotations.
    say : callable
        Is told of slides that are not there.

    Raises
    ------
    InputError
        If one slide or annotation is given for several heatmaps, or none of those given is of one.
    """
    several = len(folders) > 1
    if several and annotations is not None and annotations.is_file():
        raise InputError("one annotation for several slides", got=annotations, expected="a folder of them")
    rows = read_slides(folders[0].parent)
    names = {folder.name: rows.get(folder.name, {}).get("name") or folder.name for folder in folders}
    given = {} if slide is None else _given(slide, names, several=several)
    found = []
    for folder in folders:
        source = given.get(folder.name) or _recorded(rows.get(folder.name, {}))
        if source is None:
            say(f"{folder.name}: its slide is not there; the map is shown alone; --slide says where the slide is")
        outline = None if annotations is None else find_annotation(annotations, names[folder.name])
        found.append(_shown(folder, source, None if outline is None else read_annotation(outline, groups)))
    return found


def _given(slide: str, names: Mapping[str, str], *, several: bool) -> dict[str, Source]:
    """Return the slides that the user named, by slide_id.

    Parameters
    ----------
    slide : str
        What the user gave.
    names : mapping of str to str
        What a list or folder calls each slide, by slide_id.
    several : bool
        Whether there is more than one.
    """
    source = as_source(slide)
    holds_slides = isinstance(source, Path) and (source.is_dir() or is_list(source))
    if not holds_slides and not several:
        return dict.fromkeys(names, source)
    if isinstance(source, Path) and not source.exists():
        raise InputError("no such slides", got=source, expected=_SEVERAL, remedy="check the path")
    if not holds_slides:
        raise InputError("one slide for several heatmaps", got=slide, expected=_SEVERAL, remedy="or view one heatmap")
    listed = {each.slide_id: each.path for each in find_slides([source])}
    found = {slide_id: listed.get(name, listed.get(slide_id)) for slide_id, name in names.items()}
    if not any(found.values()):
        raise InputError(
            "--slide holds none of the slides of the heatmaps",
            got=f"{_some(listed)} in {slide}",
            expected=_some(names.values()),
            remedy="name them so in a CSV list slide,slide_id",
        )
    return {slide_id: path for slide_id, path in found.items() if path is not None}


def _some(names: Any) -> str:
    first, *rest = names
    return f"{first} and {len(rest)} more" if rest else str(first)


def _recorded(row: Mapping[str, str]) -> Source | None:
    """Return the slide that ``slides.csv`` says; None where it is not there."""
    source = as_source(row["path"]) if row.get("path") else None
    return None if isinstance(source, Path) and not source.exists() else source


def _shown(folder: Path, source: Source | None, annotation: Annotation | None) -> Shown:
    threshold, size_px = _of_tile_maps(folder / TILEMAPS)
    facts = read_json(folder / RUN_FILE) or {}
    return Shown(
        slide_id=folder.name,
        store=folder / HEATMAP,
        tiles=folder / TILES if (folder / TILES).is_file() else None,
        source=source,
        size_px=size_px or size_px_of(facts),
        threshold=facts.get("threshold") if threshold is None else threshold,
        annotation=annotation,
        facts=facts,
    )


def _of_tile_maps(path: Path) -> tuple[float | None, tuple[int, int] | None]:
    """Return the model's threshold and the slide's size; None where the heatmap was stitched again, apart from them."""
    try:
        attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
        width, height = attributes["grid"]["slide_size_px"]
        return float(attributes["spec"]["threshold"]), (int(width), int(height))
    except (OSError, ValueError, KeyError):
        return None, None
