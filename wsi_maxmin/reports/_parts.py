"""What a report is made of: sections of a few kinds of parts, each of which the page draws in its own way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.reports._charts import Bar, Chart
from wsi_maxmin.reports._pictures import Picture

Value = str | float | int | None
NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a report is asked for.

    Attributes
    ----------
    out : Path
        The file to be; links to files are relative to its folder.
    scores : Path or None
        Folder of `wsi-maxmin evaluate-slides` on the same slides.
    viewer_url : str or None
        Where `wsi-maxmin view` serves the same folder; ends in a slash.
    progress : Progress
    """

    out: Path
    scores: Path | None = None
    viewer_url: str | None = None
    progress: Progress = field(default_factory=Quiet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A sentence; `warning` makes it stand out."""

    kind: ClassVar[str] = "note"
    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Highlights:
    """The few numbers that a reader looks for first: (name, value with unit) each."""

    kind: ClassVar[str] = "highlights"
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names and texts; those without text are left out."""

    kind: ClassVar[str] = "facts"
    rows: Sequence[tuple[str, str]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple((name, text) for name, text in self.rows if text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A text that leads somewhere: to a part of the page (``#name``), a file beside it, or the viewer."""

    text: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
        With its unit.
    digits : int or None
        After the point; None where the cells are text.
    """

    name: str
    digits: int | None = None

    def show(self, cell: Value | Link) -> str:
        """Return a cell as text."""
        if cell is None or cell == "":
            return NONE
        if isinstance(cell, Link):
            return cell.text
        return str(cell) if self.digits is None or isinstance(cell, str) else f"{cell:,.{self.digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows that a reader may sort."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value | Link]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """Charts side by side."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """How a whole is divided."""

    kind: ClassVar[str] = "bars"
    bar: Bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A picture with what is known of it.

    Attributes
    ----------
    anchor : str
        What links on the page call it.
    title : str
    picture : Picture or None
    lines : sequence of str
    command : str
        To be copied to a shell; empty for none.
    links : sequence of Link
    """

    anchor: str
    title: str
    picture: Picture | None
    lines: Sequence[str] = ()
    command: str = ""
    links: Sequence[Link] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Cards, as many beside each other as fit."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A text of lines that is folded away under its title."""

    kind: ClassVar[str] = "listing"
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to be copied to a shell."""

    kind: ClassVar[str] = "command"
    text: str


Part = Command | Note | Highlights | Facts | Table | Charts | Bars | Cards | Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Parts under a heading; `anchor` is its name in links."""

    anchor: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of a folder.

    Attributes
    ----------
    title : str
        Of the page, unless the user gives one.
    what : str
        What kind of folder it is.
    sections : sequence of Section
    """

    title: str
    what: str
    sections: Sequence[Section]
