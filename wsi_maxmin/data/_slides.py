"""Where the slides of a folder of patches are, for patches that were left in their slides."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from wsi_maxmin.csvs import Row, read_table
from wsi_maxmin.errors import InputError
from wsi_maxmin.slide_ids import source_name
from wsi_maxmin.slide_list import ListedSlide, as_source

SLIDES_NAME = "slides.csv"

_REMEDY = "if it was moved, --set data.slides=FOLDER"


def read_slides(root: Path, slide_ids: Collection[str], moved_to: Path | None = None) -> dict[str, ListedSlide]:
    """Look up slides in ``slides.csv`` (``slide_id,path[,mpp][,name]``) of a folder of patches.

    Parameters
    ----------
    root : Path
        The folder; paths in its CSV are absolute, relative to it, or URLs.
    slide_ids : collection of str
        Slides that are needed; others may be missing.
    moved_to : Path, optional
        Folder that now holds the slides, at any depth, under the file names that the CSV gives.

    Returns
    -------
    dict of slide_id to ListedSlide

    Raises
    ------
    InputError
        If the CSV is missing or has a mistake, or a slide is not in it or not there.
    """
    path = root / SLIDES_NAME
    if not path.is_file():
        raise InputError(
            "patches without images need a list of their slides",
            got=f"no {path}",
            expected="a CSV slide_id,path,mpp",
            remedy="extract the patches again",
        )
    rows = {row["slide_id"]: row for row in read_table(path, required=("slide_id", "path"), optional=("mpp", "name"))}
    if unlisted := sorted(set(slide_ids) - set(rows)):
        raise InputError(f"{path} lacks a slide of the patches", got=", ".join(unlisted[:3]), remedy="add its row")
    slides = {slide_id: _listed(rows[slide_id], root) for slide_id in sorted(slide_ids)}
    if moved_to is not None:
        return _found_in(moved_to, slides)
    for slide_id, slide in slides.items():
        if isinstance(slide.path, Path) and not slide.path.exists():
            raise InputError(f"the slide {slide_id} of the patches is missing", got=slide.path, remedy=_REMEDY)
    return slides


def _listed(row: Row, folder: Path) -> ListedSlide:
    source = as_source(row["path"])
    try:
        mpp = float(row["mpp"]) if row["mpp"] else None
    except ValueError:
        raise InputError(f"{row.where}: mpp", got=repr(row["mpp"]), expected="µm per pixel, or nothing") from None
    path = folder / source if isinstance(source, Path) else source
    return ListedSlide(path=path, slide_id=row["slide_id"], mpp=mpp)


def _found_in(folder: Path, slides: dict[str, ListedSlide]) -> dict[str, ListedSlide]:
    """Find files of the slides' names; of several, the one whose folders are most like the slide's own."""
    if not folder.is_dir():
        raise InputError("no such folder of slides", got=folder, remedy="check data.slides")
    wanted = {source_name(slide.path).name for slide in slides.values()}
    files: dict[str, list[Path]] = defaultdict(list)
    for place, _, names in os.walk(folder):
        for name in wanted.intersection(names):
            files[name].append(Path(place, name))
    return {slide_id: replace(slide, path=_likest(slide, files, folder)) for slide_id, slide in slides.items()}


def _likest(slide: ListedSlide, files: Mapping[str, list[Path]], folder: Path) -> Path:
    own = source_name(slide.path)
    alike: dict[int, list[Path]] = defaultdict(list)
    for path in files.get(own.name, []):
        pairs = zip(reversed(own.parts), reversed(path.parts), strict=False)
        alike[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))].append(path)
    best = sorted(alike[max(alike)]) if alike else []
    if len(best) != 1:
        raise InputError(
            f"the slide {slide.slide_id} of the patches is {'there twice' if best else 'missing'}",
            got=" and ".join(map(str, best[:2])) or f"no {own.name} in {folder}",
            remedy="keep one of them" if best else _REMEDY,
        )
    return best[0]
