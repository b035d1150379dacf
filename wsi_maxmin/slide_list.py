"""Which slides a run is about: files, URLs, folders and CSV lists; and what a user knows better than their files."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from upath import UPath

from wsi_maxmin.csvs import Row, read_table
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import MPP_LIMITS
from wsi_maxmin.moved_slides import Recorded, follow_moved
from wsi_maxmin.slide_folders import SLIDE_SUFFIXES, is_folder, search
from wsi_maxmin.slide_ids import (
    as_source,
    hash_slide_id,
    lookup,
    lookup_all,
    names_a_folder,
    same_source,
    source_key,
    unique_slide_ids,
)

__all__ = [
    "ListedSlide",
    "as_source",
    "find_slides",
    "hash_slide_id",
    "is_list",
    "lookup",
    "lookup_all",
    "mpp_for",
    "read_overrides",
    "unique_slide_ids",
    "unused_rows",
]

T = TypeVar("T")

_LISTS = (".csv", ".csv.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSlide:
    """A slide that a run is to attempt; whether it is there and can be read is not yet known.

    Attributes
    ----------
    path : Path or UPath
    slide_id : str
        Unique in the run.
    patient_id : str
        Empty where unknown; see `patient`.
    mpp : float or None
        µm per level-0 pixel, where the list says it.
    """

    path: Path | UPath
    slide_id: str
    patient_id: str = ""
    mpp: float | None = None

    @property
    def patient(self) -> str:
        """The patient; where unknown, every slide is a patient of its own."""
        return self.patient_id or self.slide_id


def find_slides(
    sources: Sequence[str | Path | UPath],
    *,
    known: Mapping[str, str] | None = None,
    recorded: Recorded = lambda _: None,
) -> list[ListedSlide]:
    """List the slides that a user named, each once and under a name of its own.

    Parameters
    ----------
    sources : sequence of str, Path or UPath
        Each is one of:

        - a slide's file, whatever its suffix, or its URL, be it there or not;
        - a folder, searched with all folders in it for files with one of `SLIDE_SUFFIXES`; see `search`;
        - a CSV ``slide[,slide_id][,patient_id][,mpp]`` (also gzipped) of files and URLs, files relative to its folder.
    known : mapping of slide_id to path, optional
        Slides of earlier runs into the same folder; see `unique_slide_ids`.
    recorded : callable, optional
        Says of what file the result of a known slide is; see `follow_moved`.

    Returns
    -------
    list of ListedSlide
        In the order of `sources`; the slides of a folder sorted.

    Raises
    ------
    InputError
        If there is no slide, a folder has none or cannot be read, a list has a mistake, or what two mentions of a slide
        say of it differs.
    """
    listed: dict[str, ListedSlide] = {}
    for source in sources:
        for slide in _expand(as_source(source)):
            key = same_source(slide.path)
            listed[key] = _merge(listed[key], slide) if key in listed else slide
    given: dict[str, str] = {}
    for slide in listed.values():
        if slide.slide_id in given:
            raise InputError(
                f"two slides with the slide_id {slide.slide_id}", got=f"{given[slide.slide_id]} and {slide.path}"
            )
        if slide.slide_id:
            given[slide.slide_id] = source_key(slide.path)
    nameless = [slide.path for slide in listed.values() if not slide.slide_id]
    earlier = follow_moved(known or {}, nameless, recorded)
    named = unique_slide_ids(nameless, {**earlier, **given}) if nameless or not given else {}
    ids = {same_source(path): slide_id for slide_id, path in named.items()}
    return [replace(slide, slide_id=slide.slide_id or ids[key]) for key, slide in listed.items()]


def is_list(source: Path | UPath) -> bool:
    """Return whether a source is a list of slides, by its name."""
    return source.name.lower().endswith(_LISTS)


def _expand(source: Path | UPath) -> list[ListedSlide]:
    """Return the slides behind one source; without a slide_id where the user gave none."""
    if is_list(source):
        if not isinstance(source, Path):
            raise InputError("a list of slides cannot be a URL", got=source, remedy="download it")
        return _read_list(source)
    if isinstance(source, Path) and is_folder(source):
        if found := sorted(search(source)):
            return [ListedSlide(path=path, slide_id="") for path in found]
        raise InputError(
            f"no slide in {source}",
            expected=f"files that end in {' '.join(SLIDE_SUFFIXES)}, not in a folder that extract-patches, infer-slide "
            "or stitch wrote",
        )
    return [ListedSlide(path=source, slide_id="")]


def _read_list(path: Path) -> list[ListedSlide]:
    rows = read_table(path, required=("slide",), optional=("slide_id", "patient_id", "mpp"))
    if not rows:
        raise InputError(f"{path} lists no slide", expected="a row a slide under the header")
    return [_listed(row, path.parent) for row in rows]


def _listed(row: Row, folder: Path) -> ListedSlide:
    source, slide_id = as_source(row["slide"]), row["slide_id"]
    if not names_a_folder(slide_id):
        raise InputError(f"{row.where}: slide_id cannot name a folder", got=repr(slide_id), expected="a plain name")
    return ListedSlide(
        path=folder / source if isinstance(source, Path) else source,
        slide_id=slide_id,
        patient_id=row["patient_id"],
        mpp=_mpp(row) if row["mpp"] else None,
    )


def _merge(one: ListedSlide, other: ListedSlide) -> ListedSlide:
    for name in ("slide_id", "patient_id", "mpp"):
        said = {value for value in (getattr(one, name), getattr(other, name)) if value}
        if len(said) > 1:
            got = " and ".join(sorted(map(str, said)))
            raise InputError(f"{one.path} is listed twice, each time with another {name}", got=got, expected="one")
    return replace(
        one,
        slide_id=one.slide_id or other.slide_id,
        patient_id=one.patient_id or other.patient_id,
        mpp=one.mpp or other.mpp,
    )


def _mpp(row: Row) -> float:
    low, high = MPP_LIMITS
    try:
        mpp = float(row["mpp"])
    except ValueError:
        mpp = float("nan")
    if not low <= mpp <= high:
        raise InputError(f"{row.where}: mpp", got=repr(row["mpp"]), expected=f"µm per pixel from {low:g} to {high:g}")
    return mpp


def read_overrides(path: Path) -> dict[str, float]:
    """Read a CSV ``slide,mpp``: the µm per level-0 pixel of slides whose files do not say it, or say it wrong.

    Returns
    -------
    dict of str to float
        Slide (its id, file name or stem, as in the CSV) to µm per level-0 pixel.

    Raises
    ------
    InputError
        If the CSV has a mistake, a value is out of range or a slide is there twice.
    """
    overrides: dict[str, float] = {}
    for row in read_table(path, required=("slide", "mpp")):
        if row["slide"] in overrides:
            raise InputError(f"{row.where}: slide there twice", got=row["slide"], remedy="keep one of its rows")
        overrides[row["slide"]] = _mpp(row)
    return overrides


def mpp_for(path: Path | UPath, slide_id: str, overrides: Mapping[str, float]) -> float | None:
    """Return the µm per level-0 pixel that overrides give for a slide; None where they give none."""
    return lookup(path, slide_id, overrides)


def unused_rows(table: Collection[str], slides: Sequence[ListedSlide]) -> list[str]:
    """Return the names in a table, such as overrides, by which `lookup` finds none of the slides: perhaps misspelt."""
    used = {name for slide in slides for name in lookup_all(slide.path, slide.slide_id, dict.fromkeys(table))}
    return [name for name in table if name not in used]
