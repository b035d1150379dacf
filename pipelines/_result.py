"""What a finished result is of: its slide, and the threshold of its tumour pixels."""

from pathlib import Path

from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.pipelines._slide_folder import TILEMAPS
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.runinfo import RUN_FILE, read_json
from wsi_maxmin.slide_ids import as_source, source_key
from wsi_maxmin.slides_csv import read_slides
from wsi_maxmin.tilemaps import TileMaps


class SlideNotFoundError(InputError):
    """The slide of a result is not known, or is not where it was."""


def open_slide_of(folder: Path, given: str | Path | None = None) -> Reader:
    """Open the slide of a result: the one that is given, else the one that the run's ``slides.csv`` says.

    Raises
    ------
    SlideNotFoundError
        If none is given, and it is not known or not there.
    SlideError
        If it cannot be opened, or the one that is given is not there.
    """
    row = read_slides(folder.parent).get(folder.name, {})
    where = given if given is not None else row.get("path")
    if given is not None:
        require_slide(given)
    if not where or not as_source(where).exists():
        raise SlideNotFoundError(f"the slide of {folder.name} is not found", got=where, remedy="--slide names it")
    mpp = float(row["mpp"]) if row.get("mpp") else None
    return open_slide(as_source(where), slide_mpp=mpp, slide_id=folder.name)


def require_slide(given: str | Path) -> None:
    """Raise SlideError if a slide that the user names is not there."""
    if not (source := as_source(given)).exists():
        raise SlideError("no such slide", got=source_key(source), remedy="check the path")


def threshold_of(folder: Path, given: float | None = None) -> float:
    """Return the threshold of a result's tumour pixels: the one that is given, else the model's.

    Raises
    ------
    InputError
        If none is given and the result does not say.
    """
    if given is not None:
        return given
    if (folder / TILEMAPS).is_dir():
        return TileMaps(folder / TILEMAPS).spec.threshold
    stated = (read_json(folder / RUN_FILE) or {}).get("threshold")
    if stated is None:  # of an earlier version
        raise InputError(f"{folder.name} was stitched again and does not say its threshold", remedy="give --threshold")
    return float(stated)
