"""What reports of all kinds say alike: settings and versions, rows of a CSV, durations."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from wsi_maxmin.errors import InputError
from wsi_maxmin.reports._parts import Facts, Listing, Section

MOST_ROWS = 2000
"""Of a table on the page; the file beside it has all."""


def settings_section(settings: str | Mapping[str, Any], environment: Mapping[str, Any]) -> Section:
    """Return the last section of a report: all settings, as YAML, and what the run was made with."""
    text = settings if isinstance(settings, str) else _as_yaml(settings)
    versions = {
        "wsi-maxmin": environment.get("wsi_maxmin"),
        "Commit": environment.get("commit"),
        "Python": environment.get("python"),
        "Platform": environment.get("platform"),
        **environment.get("packages", {}),
    }
    rows = [(name, str(version)) for name, version in versions.items() if version is not None]
    return Section(
        anchor="settings", title="Settings and versions", parts=[Facts(rows=rows), Listing(title="Settings", text=text)]
    )


def _as_yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table; none where there is no such file.

    Raises
    ------
    InputError
        If a row has not the columns of its header.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        try:
            rows = list(csv.DictReader(file))
        except csv.Error as error:
            raise InputError(f"{path} is damaged", got=error) from None
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path} is damaged", got="a row of another length than the header", remedy="make it again")
    return rows


def counted(rows: int, file: str) -> str:
    """Return how many rows a table has, and where the others are if it has too many for a page."""
    return f"{rows:,}" if rows <= MOST_ROWS else f"{MOST_ROWS:,} of {rows:,} ({file} has all)"


def number(cell: str | None) -> float | None:
    """Return a cell of a table as a number; None where it is empty or not there.

    Raises
    ------
    InputError
        If it is something else.
    """
    try:
        return float(cell) if cell else None
    except ValueError:
        raise InputError("a table is damaged", got=repr(cell), expected="a number") from None


def column(rows: Sequence[Mapping[str, str]], name: str) -> list[float]:
    """Return a column of numbers, NaN where a cell is empty."""
    values = (number(row.get(name)) for row in rows)
    return [float("nan") if value is None else value for value in values]


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(318.4)
    '5 min 18 s'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def gibibytes(size: float | None) -> str:
    """Return a size of memory; empty where it is not known."""
    return "" if size is None else f"{size / 2**30:.2f} GiB"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a score in per cent as text."""
    return "–" if value is None else f"{value:.{digits}f} %"
