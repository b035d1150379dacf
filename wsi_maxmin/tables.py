"""One table as Markdown, CSV and LaTeX, with the same numbers in each."""

import csv
import io
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_maxmin.runinfo import write_text

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "λ": r"$\lambda$",
    "µ": r"$\mu$",
    "–": "--",
    "…": r"\ldots{}",
}
_LATEX_SIGN = re.compile("|".join(map(re.escape, _LATEX)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and sample standard deviation (n − 1) of measurements; no deviation of one alone."""

    mean: float
    sd: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        sd = statistics.stdev(values) if len(values) > 1 else None
        return cls(mean=statistics.fmean(values), sd=sd, count=len(values))


Cell = str | int | float | Spread | None
"""None is what does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: `decimals` of its numbers; `spread` says that it holds means and deviations."""

    title: str
    decimals: int = 2
    spread: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
        Of its files.
    title : str
    columns : tuple of Column
    rows : tuple of tuple of Cell
        A cell a column.
    legend : str
        What the columns are. Like the notes it is not in the CSV, and its words in backquotes are code.
    notes_title : str
    notes : tuple of str
        What else a reader must know, a paragraph each.

    Raises
    ------
    ValueError
        If a row has another number of cells than there are columns.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    legend: str = ""
    notes_title: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"a row of {len(self.columns)} columns has {len(wrong[0])} cells")

    def markdown(self) -> str:
        """Return a pipe table under its title and legend, and the notes as a list."""
        header = " | ".join(_in_markdown(column.title) for column in self.columns)
        rows = (" | ".join(map(_in_markdown, self._texts(row))) for row in self.rows)
        lines = [f"| {header} |", "|" + "---|" * len(self.columns), *(f"| {row} |" for row in rows)]
        legend = [self.legend, ""] if self.legend else []
        notes = ["", self.notes_title, "", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"## {self.title}", "", *legend, *lines, *notes]) + "\n"

    def csv(self) -> str:
        """Return rows of plain numbers; a deviation has a column of its own, what does not exist is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(title for column in self.columns for title in _csv_titles(column))
        for row in self.rows:
            cells = zip(row, self.columns, strict=True)
            writer.writerow(value for cell, column in cells for value in _csv_values(cell, column))
        return text.getvalue()

    def latex(self) -> str:
        """Return a table environment for the package booktabs."""
        align = "".join("l" if self._is_text(index) else "r" for index in range(len(self.columns)))
        body = [[column.title for column in self.columns], *map(self._texts, self.rows)]
        header, *rows = (" & ".join(map(escape_latex, cells)) + r" \\" for cells in body)
        said = [text for text in (self.legend, self.notes_title if self.notes else "", *self.notes) if text]
        below = ["", r"\smallskip", r"\footnotesize\raggedright", *(f"{_prose_in_latex(text)}\\par" for text in said)]
        return "\n".join(
            [
                r"% \usepackage{booktabs}",
                r"\begin{table}",
                r"\centering",
                f"\\caption{{{escape_latex(self.title)}}}",
                f"\\label{{tab:{self.name}}}",
                f"\\begin{{tabular}}{{{align}}}",
                r"\toprule",
                header,
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                *(below if said else []),
                r"\end{table}",
            ]
        ) + "\n"  # fmt: skip

    def _texts(self, row: Sequence[Cell]) -> list[str]:
        return [_text(cell, column) for cell, column in zip(row, self.columns, strict=True)]

    def _is_text(self, index: int) -> bool:
        return any(isinstance(row[index], str) for row in self.rows)


def write_tables(folder: Path, tables: Iterable[Table]) -> list[Path]:
    """Write ``NAME.md``, ``.csv`` and ``.tex`` of each table; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    forms: dict[str, Callable[[Table], str]] = {"md": Table.markdown, "csv": Table.csv, "tex": Table.latex}
    written = []
    for table in tables:
        for suffix, render in forms.items():
            written.append(folder / f"{table.name}.{suffix}")
            write_text(written[-1], render(table))
    return written


def escape_latex(text: str) -> str:
    r"""Return text as LaTeX shows it.

    >>> escape_latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return _LATEX_SIGN.sub(lambda found: _LATEX[found.group()], text)


def _prose_in_latex(text: str) -> str:
    parts = text.split("`")
    return "".join(
        f"\\texttt{{{escape_latex(part)}}}" if index % 2 else escape_latex(part) for index, part in enumerate(parts)
    )


def _in_markdown(text: str) -> str:
    return text.replace("|", "\\|")


def _text(cell: Cell, column: Column) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.{column.decimals}f}"
    mean = f"{cell.mean:.{column.decimals}f}"
    return mean if cell.sd is None else f"{mean} ± {cell.sd:.{column.decimals}f}"


def _csv_titles(column: Column) -> list[str]:
    return [column.title, f"{column.title} sd"] if column.spread else [column.title]


def _csv_values(cell: Cell, column: Column) -> list[str]:
    if not column.spread:
        return [_csv_value(cell, column)]
    if isinstance(cell, Spread):
        return [_csv_value(cell.mean, column), _csv_value(cell.sd, column)]
    return [_csv_value(cell, column), ""]


def _csv_value(cell: Cell, column: Column) -> str:
    return "" if cell is None else str(cell) if isinstance(cell, int) else _text(cell, column)
