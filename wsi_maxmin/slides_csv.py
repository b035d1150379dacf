"""``slides.csv``: which file each slide of a folder of results is. Names last through it from one run to the next."""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

from wsi_maxmin.errors import InputError
from wsi_maxmin.runinfo import SLIDES
from wsi_maxmin.slide_ids import source_key
from wsi_maxmin.slide_inputs import RunSlides

_COLUMNS = ("slide_id", "path", "mpp", "name")


def known_slides(out: Path) -> dict[str, str]:
    """Return the plain names and paths of the slides of earlier runs."""
    return {row["name"]: row["path"] for row in read_slides(out).values()}


def read_slides(out: Path) -> dict[str, dict[str, str]]:
    """Return the rows by slide_id; none where there is no such file.

    Raises
    ------
    InputError
        If the file is not what `write_slides` wrote.
    """
    path = out / SLIDES
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        try:
            columns, rows = reader.fieldnames or (), list(reader)
        except csv.Error as error:
            raise _damaged(path, str(error)) from None
    if not {"slide_id", "path"} <= set(columns):
        raise _damaged(path, f"columns {','.join(columns) or 'none'}")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values() or not row["slide_id"]:
            raise _damaged(path, f"row {number} with other than {len(columns)} values, or no slide_id")
    return {row["slide_id"]: {"mpp": "", "name": row["slide_id"], **row} for row in rows}


def _damaged(path: Path, got: str) -> InputError:
    return InputError(
        f"{path} is damaged",
        got=got,
        expected=f"columns {','.join(_COLUMNS)}, each row complete",
        remedy="mend it or remove it; infer-slide --resume with the slides writes it again",
    )


def write_slides(out: Path, run: RunSlides, is_done: Callable[[str], bool]) -> None:
    """Write which file each slide is; with hashed names this is the one file that tells.

    Parameters
    ----------
    out : Path
        Folder of the run; rows of its earlier runs stay.
    run : RunSlides
        Slides that are not there are left out.
    is_done : callable
        Says whether a slide has its result already: that was made with the µm per pixel that were given then.
    """
    rows = read_slides(out)
    for slide_id in run.found():
        mpp = run.slide_mpp(slide_id)
        given = "" if mpp is None else repr(mpp)
        rows[slide_id] = {
            "slide_id": slide_id,
            "path": source_key(run.slides[slide_id].path),
            "mpp": rows[slide_id]["mpp"] if slide_id in rows and is_done(slide_id) else given,
            "name": run.plain_name(slide_id),
        }
    _write_rows(out, rows)


def copy_slides(folders: Mapping[str, Path], out: Path) -> None:
    """Write which file each slide is into another folder of results, as far as the folders that they come from say.

    Parameters
    ----------
    folders : mapping of slide_id to Path
        Of the slides; what each is lies beside it.
    out : Path
        Its rows of other slides stay.

    Raises
    ------
    InputError
        If one of the files is damaged.
    """
    known = {parent: read_slides(parent) for parent in {folder.parent for folder in folders.values()}}
    found = {name: row for name, folder in folders.items() if (row := known[folder.parent].get(name))}
    if found:
        _write_rows(out, read_slides(out) | found)


def _write_rows(out: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows[slide_id] for slide_id in sorted(rows))
    partial = out / f".{SLIDES}.partial"
    partial.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")
    partial.replace(out / SLIDES)
