"""The one look of all figures: sizes of print, colours that the colour-blind tell apart, files that never change."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PAGE_IN = 7.16
"""Width of the paper's page between its margins; a column has 3.5 inches."""
SMALLEST_PT = 7.0
MAP = "cividis"
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
"""Okabe and Ito's colours, but for their yellow, which is too bright for a line on white."""

_LETTERS_A_LINE = 130
_RC = {
    "font.size": SMALLEST_PT,
    "axes.titlesize": 7.5,
    "axes.labelsize": SMALLEST_PT,
    "xtick.labelsize": SMALLEST_PT,
    "ytick.labelsize": SMALLEST_PT,
    "legend.fontsize": SMALLEST_PT,
    "figure.titlesize": SMALLEST_PT,
    "axes.linewidth": 0.6,
    "axes.titlelocation": "left",
    "axes.titlepad": 3.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    # Text stays text, in fonts that publishers take.
    "pdf.fonttype": 42,
}


@contextmanager
def look() -> Iterator[None]:
    """Draw as this module says while the block runs, whatever the user's own matplotlib is set to."""
    with matplotlib.style.context(["default", _RC]):
        yield


def sheet(height_in: float, title: str, *, width_in: float = PAGE_IN) -> Figure:
    """Return an empty figure, its title broken to its width."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    letters = round(_LETTERS_A_LINE * width_in / PAGE_IN)
    figure.suptitle(fill(title, letters, break_on_hyphens=False), x=0.01, horizontalalignment="left", parse_math=False)
    return figure


def rows_and_columns(panels: int, most: int) -> tuple[int, int]:
    """Return the fewest rows of at most so many panels, and how many each has if they are shared out evenly."""
    rows = math.ceil(panels / most)
    return rows, math.ceil(panels / rows)


def lines() -> Iterator[dict[str, Any]]:
    """Yield ways to draw a line, each told from the others without its colour too."""
    colours = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
    dashes = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
    for colour, dash in cycle(zip(colours, dashes, strict=True)):
        yield {"color": colour, "linestyle": dash}


def save(figure: Figure, stem: Path, dpi: int) -> list[str]:
    """Write ``stem.pdf`` and ``stem.png``, the same bytes each time, and return their names."""
    FigureCanvasAgg(figure)
    # Once for both files: the layout takes most of the time.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    names = []
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
        path = stem.with_name(f"{stem.name}.{kind}")
        partial = path.with_name(f".{path.name}.partial")
        figure.savefig(partial, format=kind, dpi=dpi, metadata=metadata)
        partial.replace(path)
        names.append(path.name)
    return names
