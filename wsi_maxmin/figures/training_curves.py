"""Fig. B.1 and B.2: losses and validation accuracy over the epochs, a method each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wsi_maxmin.errors import MissingResultsError
from wsi_maxmin.figures._results import (
    GLAS,
    P512,
    Drawing,
    Method,
    Results,
    left_out,
    seeds_of,
)
from wsi_maxmin.figures._style import BLACK, lines, rows_and_columns, sheet

FIGURES = {"B.1": f"training curves on {GLAS.title}", "B.2": f"training curves on {P512.title}"}

_COLUMNS = 4
_UNTRAINED = ("all-ones", "grad-cam")
"""One learns nothing, the other is read off the model of CAM-Avg."""
_TOTAL, _ACCURACY = "loss_total", "valid_accuracy"
_LOSS = "loss_"


def draw(number: str, results: Results) -> Drawing:
    """Draw each method's losses, unweighted but for their total, and below them its accuracy on validation."""
    dataset = {"B.1": GLAS, "B.2": P512}[number]
    trained = (method for method in results.trained(dataset) if method.name not in _UNTRAINED)
    methods = [method for method in trained if all(run.epochs for run in method.runs)]
    if not methods:
        raise MissingResultsError(f"no training curves on {dataset.title}", remedy=dataset.command)
    rows, columns = rows_and_columns(len(methods), _COLUMNS)
    several = any(len(method.runs) > 1 for method in methods)
    title = (
        f"{dataset.title}: terms of the loss in training, and accuracy on validation, over the epochs; "
        f"{seeds_of(methods)}{', mean and range over seeds' if several else ''}"
    )
    figure = sheet(0.85 + 2.4 * rows, title)
    ratios = {"height_ratios": [1.6, 1] * rows}
    grid = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw=ratios)
    styles = _styles(methods)
    for index in range(rows * columns):
        row, column = 2 * (index // columns), index % columns
        losses, accuracy = grid[row, column], grid[row + 1, column]
        if index >= len(methods):
            losses.set_axis_off()
            accuracy.set_axis_off()
            continue
        _draw_method(losses, accuracy, methods[index], styles)
        if column == 0:
            losses.set_ylabel("loss")
            accuracy.set_ylabel("accuracy [%]")
    figure.align_ylabels()
    _key(figure, styles)
    facts = {"dataset": dataset.name, "methods": [_facts(method) for method in methods]}
    return Drawing(figure=figure, facts=facts, left_out=left_out(methods, dataset, *_UNTRAINED))


def _styles(methods: Sequence[Method]) -> dict[str, dict[str, Any]]:
    """Return a line for each term that any of the methods has."""
    terms = {key: None for method in methods for run in method.runs for key in run.epochs[0] if key.startswith(_LOSS)}
    terms.pop(_TOTAL, None)
    total = {"color": BLACK, "linestyle": "-", "linewidth": 1.4}
    return {_TOTAL: total} | dict(zip(terms, lines(), strict=False))


def _draw_method(losses: Axes, accuracy: Axes, method: Method, styles: dict[str, dict[str, Any]]) -> None:
    terms = [term for term in styles if term in method.runs[0].epochs[0]]
    # With one term the total is that term.
    for term in terms if len(terms) > 2 else terms[:1]:
        _draw_curve(losses, method, term, styles[term])
    _draw_curve(accuracy, method, _ACCURACY, {"color": BLACK, "linestyle": "-"})
    losses.set_title(method.title)
    losses.tick_params(labelbottom=False)
    losses.sharex(accuracy)
    accuracy.set(xlabel="epoch", ylim=(0, 105))
    for axes in (losses, accuracy):
        axes.grid(visible=True)


def _draw_curve(axes: Axes, method: Method, key: str, line: dict[str, Any]) -> None:
    by_epoch: dict[float, list[float]] = {}
    for run in method.runs:
        for epoch in run.epochs:
            if key in epoch:
                by_epoch.setdefault(epoch["epoch"], []).append(epoch[key])
    if not by_epoch:
        return
    epochs, values = list(by_epoch), list(by_epoch.values())
    if len(method.runs) > 1:
        low, high = [min(of) for of in values], [max(of) for of in values]
        axes.fill_between(epochs, low, high, color=line["color"], alpha=0.2, linewidth=0)
    axes.plot(epochs, [float(np.mean(of)) for of in values], label=key, **line)


def _key(figure: Figure, styles: dict[str, dict[str, Any]]) -> None:
    handles = [Line2D([], [], label=term.removeprefix(_LOSS), **line) for term, line in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _facts(method: Method) -> dict[str, Any]:
    return {
        "run": method.name,
        "seeds": [run.seed for run in method.runs],
        "epochs": [len(run.epochs) for run in method.runs],
        "kept": [run.best_epoch for run in method.runs],
    }
