"""Curves of a cohort's scores: FROC, ROC, precision and recall."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 150
_INCHES = 5.0
_LINE = "#0072b2"

_Curve = npt.NDArray[np.floating[Any]]


def write_froc(path: Path, false_positives: _Curve, sensitivity: _Curve, *, rates: Sequence[float], title: str) -> None:
    """Draw sensitivity against false positives a slide, with a point at each rate that the score is the mean of."""
    figure, axes = _square(title)
    # The curve goes on at its highest sensitivity, as the score reckons.
    x = np.append(false_positives[::-1], max(false_positives[0], max(rates)))
    y = np.append(sensitivity[::-1], sensitivity[0])
    axes.plot(x, y, color=_LINE)
    axes.plot(rates, np.interp(rates, x, y), "o", color=_LINE, markersize=5, label="points of the score", clip_on=False)
    axes.set(xlabel="false positives a slide", ylabel="lesions hit", xlim=(0, max(rates)), ylim=(0, 1.02))
    axes.legend(loc="lower right", frameon=False)
    _save(figure, path)


def write_roc(path: Path, false_rate: _Curve, true_rate: _Curve, *, title: str) -> None:
    """Draw the ROC curve of slides."""
    figure, axes = _square(title)
    axes.plot(false_rate, true_rate, color=_LINE, clip_on=False)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="normal slides called tumour", ylabel="tumour slides called tumour", xlim=(0, 1), ylim=(0, 1.02))
    _save(figure, path)


def write_precision_recall(path: Path, precision: _Curve, recall: _Curve, *, at: Sequence[int], title: str) -> None:
    """Draw precision against recall of pixels, from each byte on, with a point at the bytes of thresholds."""
    figure, axes = _square(title)
    known = np.isfinite(precision) & np.isfinite(recall)
    axes.plot(recall[known], precision[known], color=_LINE, clip_on=False)
    if shown := [byte for byte in at if known[byte]]:
        axes.plot(recall[shown], precision[shown], "o", color=_LINE, label="at the threshold", clip_on=False)
        axes.legend(loc="lower left", frameon=False)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    _save(figure, path)


def _square(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_INCHES, _INCHES), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png")
    partial.replace(path)
