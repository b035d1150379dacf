"""F1+ and F1− of soft masks at many thresholds, from one histogram an image.

A pixel is foreground at a threshold where its value, float32, is ≥ the threshold rounded to float32: what ``mask >= t``
computes in numpy and torch. To know that at every threshold of a list it is enough to know how many of them the value
reaches. Counts of that number are whole pixels, so nothing is rounded into bins, and memory does not grow with images.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_maxmin.metrics import Confusion, MaskScores

GRID = tuple(step / 20 for step in range(1, 20))
"""0.05, 0.10, …, 0.95."""


class ThresholdSweep:
    """Mask scores at each of several thresholds.

    Parameters
    ----------
    thresholds : iterable of float
        In [0, 1], in any order.

    Attributes
    ----------
    edges : (T,) float32
        The thresholds in rising order, as values are compared with them.
    """

    def __init__(self, thresholds: Iterable[float] = GRID) -> None:
        self._scores = {threshold: MaskScores() for threshold in sorted(set(thresholds))}
        self.edges: npt.NDArray[np.float32] = np.array(list(self._scores), dtype=np.float32)

    def add(self, matrices: Iterable[Confusion]) -> None:
        """Add one image by its confusion matrix at each threshold, as `confusions` gives them."""
        for scores, matrix in zip(self._scores.values(), matrices, strict=True):
            scores.add(matrix)

    def index(self, threshold: float) -> int:
        """Return the place of one of the thresholds among all."""
        return list(self._scores).index(threshold)

    def at(self, threshold: float) -> MaskScores:
        """Return the scores at one of the thresholds."""
        return self._scores[threshold]

    def table(self) -> list[dict[str, float | None]]:
        """Return rows of ``threshold``, ``f1_foreground``, ``f1_background`` and the ``mean`` of both, in per cent."""
        return [_row(threshold, scores) for threshold, scores in self._scores.items()]


def confusions(levels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return an image's confusion matrix at each of T thresholds, (T, 2, 2).

    Parameters
    ----------
    levels : (2, T + 1) int64
        Its pixels counted by truth (background first) and by how many of the thresholds they reach.
    """
    # Pixels that reach threshold i are those that reach more than i thresholds.
    foreground = levels[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    background = levels.sum(axis=1, keepdims=True) - foreground
    return np.moveaxis(np.stack([background, foreground]), -1, 0)


def best_threshold(table: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of the highest mean, of equal ones that nearest to 0.5; None where no mean is defined."""
    rows = [row for row in table if row["mean"] is not None]
    return max(rows, key=lambda row: (row["mean"], -abs(row["threshold"] - 0.5)), default=None)


def _row(threshold: float, scores: MaskScores) -> dict[str, float | None]:
    foreground, background = scores.f1
    mean = None if foreground is None or background is None else (foreground + background) / 2
    return {"threshold": threshold, "f1_foreground": foreground, "f1_background": background, "mean": mean}
