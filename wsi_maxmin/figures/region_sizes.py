"""Fig. 7 and 8: how large the foreground of each image is, predicted against true."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsi_maxmin.errors import MissingResultsError
from wsi_maxmin.figures._results import (
    GLAS,
    P512,
    Dataset,
    Drawing,
    Method,
    Results,
    left_out,
    seeds_of,
    split_of,
)
from wsi_maxmin.figures._style import BLUE, VERMILION, rows_and_columns, sheet

FIGURES = {"7": f"region sizes on {GLAS.title}", "8": f"region sizes on {P512.title}"}

_COLUMNS = 4
_MANY = 500
_MARKS: tuple[dict[str, Any], ...] = ({"color": BLUE, "marker": "o"}, {"color": VERMILION, "marker": "^"})


def draw(number: str, results: Results) -> Drawing:
    """Draw a panel a method and a mark an image: the mean over seeds, with a line from the least to the greatest."""
    dataset = {"7": GLAS, "8": P512}[number]
    methods, split = results.scored(dataset)
    methods = [method for method in methods if all(run.images for run in method.runs)]
    if not methods:
        raise MissingResultsError(
            f"no scores of single images on {dataset.title}",
            remedy="wsi-maxmin evaluate RUN --data DIR --label-source true --out RUN/scores",
        )
    rows, columns = rows_and_columns(len(methods), _COLUMNS)
    title = (
        f"{dataset.title}, {split_of(split)}: share of each image that is foreground, predicted against true; "
        f"{seeds_of(methods)}{', mean and range over seeds' if any(len(method.runs) > 1 for method in methods) else ''}"
    )
    figure = sheet(0.75 + 1.75 * rows, title)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.ravel()[len(methods) :]:
        axes.set_axis_off()
    for axes, method in zip(grid.ravel(), methods, strict=False):
        _draw_method(axes, method, dataset)
    _label(figure, list(grid.ravel()[: len(methods)]), columns)
    facts = {"dataset": dataset.name, "split": split, "methods": [method.facts for method in methods]}
    return Drawing(figure=figure, facts=facts, left_out=left_out(methods, dataset))


def _draw_method(axes: Axes, method: Method, dataset: Dataset) -> None:
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.6, zorder=1)
    for label, mark in zip(dataset.classes, _MARKS, strict=True):
        true, low, mean, high = _sizes(method, label)
        few = len(true) <= _MANY
        if len(method.runs) > 1:
            axes.vlines(true, low, high, color=mark["color"], linewidth=0.6, alpha=0.6, rasterized=not few)
        # Of thousands, a file holds the picture and not each of them.
        axes.plot(
            true, mean, linestyle="none", label=label, alpha=0.85 if few else 0.15, rasterized=not few,
            markersize=3.5 if few else 1.5, markeredgewidth=0, **mark,
        )  # fmt: skip
    axes.set(title=method.title, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    axes.grid(visible=True)


def _sizes(method: Method, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the true size of each image of a class, and the least, mean and greatest predicted one."""
    true: dict[str, float] = {}
    predicted: dict[str, list[float]] = {}
    for run in method.runs:
        for row in run.images or ():
            size, truth = row["predicted_fraction"], row["true_fraction"]
            if row["label"] == label and isinstance(size, float) and isinstance(truth, float):
                true[str(row["image"])] = truth
                predicted.setdefault(str(row["image"]), []).append(size)
    sizes = [predicted[name] for name in true]
    least, mean, greatest = (np.array([reduce(of) for of in sizes]) for reduce in (min, np.mean, max))
    return np.array(list(true.values())), least, mean, greatest


def _label(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    for index, axes in enumerate(panels):
        if index % columns == 0:
            axes.set_ylabel("predicted")
        if index >= len(panels) - columns:
            axes.set_xlabel("true")
            axes.tick_params(labelbottom=True)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower right", ncols=2)
