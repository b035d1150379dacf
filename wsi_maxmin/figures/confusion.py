"""Fig. 5 and 6: where the pixels of each method go, as shares of their true class."""

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from wsi_maxmin.figures._results import GLAS, P512, Drawing, Method, Results, left_out, seeds_of, split_of
from wsi_maxmin.figures._style import MAP, PAGE_IN, rows_and_columns, sheet

FIGURES = {"5": f"pixel confusion matrices on {GLAS.title}", "6": f"pixel confusion matrices on {P512.title}"}

_COLUMNS = 6
_CLASSES = ("bg", "fg")

_Matrix = npt.NDArray[np.float64]


def draw(number: str, results: Results) -> Drawing:
    """Draw a matrix a method: the mean over seeds, with the standard deviation where there are several."""
    dataset = {"5": GLAS, "6": P512}[number]
    methods, split = results.scored(dataset)
    rows, columns = rows_and_columns(len(methods), _COLUMNS)
    title = (
        f"{dataset.title}, {split_of(split)}: pixels of foreground (fg) and background (bg) in per cent of their true "
        f"class; {seeds_of(methods)}{', mean ± sd' if any(len(method.runs) > 1 for method in methods) else ''}"
    )
    figure = sheet(0.6 + 1.35 * rows, title, width_in=max(PAGE_IN * columns / _COLUMNS, 3.5))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel()[len(methods) :]:
        axes.set_axis_off()
    for index, (axes, method) in enumerate(zip(grid.ravel(), methods, strict=False)):
        _draw_matrix(axes, method)
        axes.set_xlabel("true")
        if index % columns == 0:
            axes.set_ylabel("predicted")
    facts = {"dataset": dataset.name, "split": split, "methods": [method.facts for method in methods]}
    return Drawing(figure=figure, facts=facts, left_out=left_out(methods, dataset))


def _draw_matrix(axes: Axes, method: Method) -> None:
    matrices = 100 * np.array([(run.scores or {})["pixel_confusion"] for run in method.runs], dtype=np.float64)
    mean, deviation = matrices.mean(axis=0), _deviation(matrices)
    axes.imshow(mean, cmap=MAP, vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(mean):
        text = f"{value:.0f}" if deviation is None else f"{value:.0f}\n± {deviation[row, column]:.0f}"
        axes.text(column, row, text, color=_ink(value), ha="center", va="center", fontsize=8)
    axes.set_title(method.title)
    axes.set_xticks([0, 1], _CLASSES)
    axes.set_yticks([0, 1], _CLASSES)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _deviation(matrices: _Matrix) -> _Matrix | None:
    return np.asarray(matrices.std(axis=0, ddof=1)) if len(matrices) > 1 else None


def _ink(value: float) -> str:
    """Return black or white, whichever is further from the cell's own brightness."""
    red, green, blue, _ = matplotlib.colormaps[MAP](value / 100)
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45 else "white"
