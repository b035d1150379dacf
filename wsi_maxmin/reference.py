"""Which slides of a cohort hold tumour: a list, never the slides' names."""

from pathlib import Path

from wsi_maxmin.csvs import read_csv_rows
from wsi_maxmin.errors import InputError

_LABELS = {"tumor": True, "tumour": True, "1": True, "normal": False, "0": False}
_NAMES = ("slide_id", "slide", "image", "name")
_EXPECTED = "a slide's name, then tumor or normal"


def read_reference(path: Path) -> dict[str, bool]:
    """Return whether each slide holds tumour, in the order of the list.

    Parameters
    ----------
    path : Path
        CSV. Without header the first column is the slide's name and the second its label, as in Camelyon16's own list;
        with one these are ``slide_id`` and ``label``. Other columns are passed over. Labels are tumor, tumour or 1, and
        normal or 0, in capitals or not.

    Raises
    ------
    InputError
        If there is no such list, it is empty, a row is not understood, or a slide is there twice.
    """
    rows = read_csv_rows(path)
    name_at, label_at = 0, 1
    if rows and (len(rows[0]) < 2 or rows[0][1].lower() not in _LABELS):
        header = [cell.lower() for cell in rows.pop(0)]
        names = [header.index(name) for name in _NAMES if name in header]
        if not names or "label" not in header:
            raise InputError(f"{path} is no reference list", got=",".join(header), expected="slide_id,label")
        name_at, label_at = names[0], header.index("label")
    if not rows:
        raise InputError(f"{path} lists no slide", expected=_EXPECTED)
    found: dict[str, bool] = {}
    for row in rows:
        label = row[label_at].lower() if len(row) > max(name_at, label_at) else ""
        if label not in _LABELS or not row[name_at]:
            raise InputError(f"{path}: malformed row", got=",".join(row), expected=_EXPECTED)
        if row[name_at] in found:
            raise InputError(f"{path}: a slide is there twice", got=row[name_at], expected="once")
        found[row[name_at]] = _LABELS[label]
    return found
