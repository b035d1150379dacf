"""Tables that people write by hand: CSV files whose mistakes are named by file and line."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

from wsi_maxmin.errors import InputError


class Row(dict[str, str]):
    """One row of a table, column to cell; a column that the file does not have is an empty cell.

    Attributes
    ----------
    where : str
        File and line, to begin an error message with.
    """

    def __init__(self, cells: dict[str, str], where: str) -> None:
        super().__init__(cells)
        self.where = where


def read_csv_rows(path: Path, what: str = "list of samples") -> list[list[str]]:
    """Read a CSV (also gzipped), whatever its line ends, without stray spaces and empty lines.

    Parameters
    ----------
    path : Path
    what : str
        What the file is called in messages.

    Raises
    ------
    InputError
        If there is no such file or it is not UTF-8 text.
    """
    return [cells for _, cells in _numbered(path, what)]


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """Read a CSV (also gzipped) whose first line names its columns, in any order.

    Parameters
    ----------
    path : Path
    required : sequence of str
        Columns that must be there and have no empty cell.
    optional : sequence of str
        Columns that may be there and may have empty cells.

    Returns
    -------
    list of Row
        Every row has a cell for every required and optional column.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, unknown or there twice, a row has another length than the
        header, or a required cell is empty.
    """
    header = ",".join(required) + "".join(f"[,{name}]" for name in optional)
    numbered = _numbered(path, "table")
    if not numbered:
        raise InputError(f"{path} is empty", expected=f"the header {header}")
    (_, columns), *body = numbered
    known = [*required, *optional]
    if unknown := [name for name in columns if name not in known]:
        raise InputError(f"{path}: unknown column", got=repr(unknown[0]), expected=f"the header {header}")
    if twice := [name for name in known if columns.count(name) > 1]:
        raise InputError(f"{path}: column there twice", got=repr(twice[0]), expected=f"the header {header}")
    if missing := [name for name in required if name not in columns]:
        raise InputError(f"{path}: no column {missing[0]!r}", got=",".join(columns), expected=f"the header {header}")
    rows = []
    for line, cells in body:
        where = f"{path}, line {line}"
        if len(cells) != len(columns):
            raise InputError(f"{where}: malformed row", got=",".join(cells), expected=f"{len(columns)} cells")
        row = Row(dict.fromkeys(known, "") | dict(zip(columns, cells, strict=True)), where)
        if empty := [name for name in required if not row[name]]:
            raise InputError(f"{where}: no {empty[0]}", got=",".join(cells), expected=",".join(columns))
        rows.append(row)
    return rows


def _numbered(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """Read the rows that are not empty, each with the number of its line."""
    if not path.is_file():
        raise InputError(f"no such {what}", got=path, expected="a CSV file")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
        rows = csv.reader(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        stripped = [(rows.line_num, [cell.strip() for cell in row]) for row in rows]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"a {what} cannot be read", got=f"{path} ({error})", expected="UTF-8 text") from None
    return [(line, cells) for line, cells in stripped if any(cells)]
