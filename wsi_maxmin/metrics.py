"""Classification error, Dice of foreground and background, areas under ROC curves.

Equation numbers are those of Belharbi et al., IEEE TMI 41:702 (2022).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating[Any]]


def dice(predicted: BoolArray, truth: BoolArray) -> float | None:
    """Return 2·|P ∩ T| / (|P| + |T|), without smoothing; None where the truth is empty (Eq. 14)."""
    if not truth.any():
        return None
    return 2 * int((predicted & truth).sum()) / (int(predicted.sum()) + int(truth.sum()))


@dataclass
class MaskScores:
    """F1+ and F1− as means over images, and the confusion matrix of all their pixels.

    F1+ is the Dice of the foreground over the images that have some; F1− that of the complements over the images that
    have background (Eq. 14 and 15).
    """

    images: int = 0
    foreground: list[float] = field(default_factory=list)
    background: list[float] = field(default_factory=list)
    confusion: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), dtype=np.int64))

    def update(self, predicted: BoolArray, truth: BoolArray) -> tuple[float | None, float | None]:
        """Add one image; return its own F1+ and F1−, None where not defined.

        Parameters
        ----------
        predicted, truth : (H, W) bool
            True is foreground.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"shapes differ: predicted {predicted.shape}, truth {truth.shape}")
        self.images += 1
        scores = dice(predicted, truth), dice(~predicted, ~truth)
        for values, score in zip((self.foreground, self.background), scores, strict=True):
            if score is not None:
                values.append(score)
        self.confusion += np.bincount(2 * predicted.ravel() + truth.ravel(), minlength=4).reshape(2, 2)
        return scores

    def summary(self) -> dict[str, Any]:
        """Return F1+ and F1− in per cent, and the confusion matrix.

        The matrix has predicted rows and true columns (background first); each column sums to 1.
        """
        columns = self.confusion.sum(axis=0)
        normalised = np.divide(self.confusion, columns, where=columns > 0, out=np.full((2, 2), np.nan))
        return {
            "f1_foreground": _percent(self.foreground),
            "f1_background": _percent(self.background),
            "masks": self.images,
            "pixel_confusion": [[None if np.isnan(v) else float(v) for v in row] for row in normalised],
        }


@dataclass
class ErrorRate:
    """Classification error in per cent (Eq. 13)."""

    wrong: int = 0
    total: int = 0

    def update(self, predicted: npt.NDArray[np.integer[Any]], truth: npt.NDArray[np.integer[Any]]) -> None:
        """Add a batch of class indices, (B,) each."""
        self.wrong += int((predicted != truth).sum())
        self.total += len(truth)

    def summary(self) -> dict[str, Any]:
        """Return the error, None without samples."""
        return {"error": 100 * self.wrong / self.total if self.total else None, "samples": self.total}


def roc_auc(score: FloatArray, truth: BoolArray) -> float | None:
    """Return the area under the ROC curve, ties counted half; None where the truth has one class only.

    Parameters
    ----------
    score : (N,) float
    truth : (N,) bool
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(score)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def bootstrap_interval(
    statistic: Callable[[npt.NDArray[np.intp]], float | None],
    count: int,
    *,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile interval of a statistic over resampled items.

    Parameters
    ----------
    statistic : callable
        Given the (N,) indices of a resample, the statistic, or None where it is not defined.
    count : int
        Number of items.

    Returns
    -------
    (low, high), or None where no resample defines the statistic
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, count, count)) for _ in range(repeats)]
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _percent(values: list[float]) -> float | None:
    return 100 * float(np.mean(values)) if values else None
