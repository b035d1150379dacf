"""How a figure becomes a file: whole, or not at all."""

import warnings
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure titled by a slide; a file of that name is replaced only once the new one is whole.

    Letters of the title that the font lacks are drawn as boxes, without a warning for each.
    """
    FigureCanvasAgg(figure)
    partial = path.with_name(f".{path.name}.partial")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure.savefig(partial, format="png", pil_kwargs={"compress_level": 3})  # half the time, 5 % larger
    partial.replace(path)
