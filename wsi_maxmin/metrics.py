"""Classification error, Dice of foreground and background, areas under ROC curves.

Equation numbers are those of Belharbi et al., IEEE TMI 41:702 (2022).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating[Any]]
Confusion = npt.NDArray[np.int64]


class _Mean:
    """Means of several values, each over the times that it was defined."""

    def __init__(self, count: int) -> None:
        self._sums = [0.0] * count
        self._counts = [0] * count

    def add(self, values: Sequence[float | None]) -> None:
        for index, value in enumerate(values):
            if value is not None:
                self._sums[index] += value
                self._counts[index] += 1

    def means(self) -> list[float | None]:
        return [total / count if count else None for total, count in zip(self._sums, self._counts, strict=True)]


def dice(predicted: BoolArray, truth: BoolArray) -> float | None:
    """Return 2·|P ∩ T| / (|P| + |T|), without smoothing; None where the truth is empty (Eq. 14)."""
    return dice_of(count_pixels(predicted, truth))[0]


def count_pixels(predicted: BoolArray, truth: BoolArray) -> Confusion:
    """Count the pixels of a mask, (2, 2) int64: predicted rows, true columns, background first.

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
    return np.bincount(2 * predicted.ravel() + truth.ravel(), minlength=4).reshape(2, 2)


def dice_of(counts: Confusion) -> tuple[float | None, float | None]:
    """Return the Dice of the foreground and that of the background, None where the truth has none (Eq. 14, 15)."""
    wrong = int(counts[0, 1] + counts[1, 0])
    background, foreground = (
        2 * int(right) / (2 * int(right) + wrong) if total else None
        for right, total in zip(counts.diagonal(), counts.sum(axis=0), strict=True)
    )
    return foreground, background


def foreground_fractions(counts: Confusion) -> tuple[float, float]:
    """Return the share of an image that is foreground, as predicted and in truth."""
    total = int(counts.sum())
    return int(counts[1].sum()) / total, int(counts[:, 1].sum()) / total


@dataclass
class MaskScores:
    """F1+ and F1− as means over images, the confusion matrix of all their pixels, and mean region sizes.

    F1+ is the Dice of the foreground over the images that have some; F1− that of the complements over the images that
    have background (Eq. 14 and 15). Sums are kept, not images: memory does not grow.
    """

    images: int = 0
    confusion: Confusion = field(default_factory=lambda: np.zeros((2, 2), dtype=np.int64))
    _dice: _Mean = field(default_factory=lambda: _Mean(2))
    _fractions: _Mean = field(default_factory=lambda: _Mean(2))

    def update(self, predicted: BoolArray, truth: BoolArray) -> tuple[float | None, float | None]:
        """Add the mask of one image, (H, W) bool; return its own F1+ and F1−, None where not defined.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        counts = count_pixels(predicted, truth)
        self.add(counts)
        return dice_of(counts)

    def add(self, counts: Confusion) -> None:
        """Add one image by its own confusion matrix, as `count_pixels` gives it."""
        self.images += 1
        self.confusion += counts
        self._dice.add(dice_of(counts))
        self._fractions.add(foreground_fractions(counts))

    @property
    def f1(self) -> tuple[float | None, float | None]:
        """F1+ and F1− in per cent, None where no image has the region."""
        foreground, background = (None if mean is None else 100 * mean for mean in self._dice.means())
        return foreground, background

    def summary(self) -> dict[str, Any]:
        """Return F1+ and F1− in per cent, the confusion matrix, and the mean share of an image that is foreground.

        The matrix has predicted rows and true columns (background first); each column sums to 1.
        """
        columns = self.confusion.sum(axis=0)
        normalised = np.divide(self.confusion, columns, where=columns > 0, out=np.full((2, 2), np.nan))
        predicted, true = self._fractions.means()
        return {
            "f1_foreground": self.f1[0],
            "f1_background": self.f1[1],
            "masks": self.images,
            "pixel_confusion": [[None if np.isnan(v) else float(v) for v in row] for row in normalised],
            "predicted_fraction": predicted,
            "true_fraction": true,
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
    found = bootstrap_intervals(lambda chosen: {"": statistic(chosen)}, count, repeats=repeats, level=level, seed=seed)
    return found.get("")


def bootstrap_intervals(
    statistics: Callable[[npt.NDArray[np.intp]], Mapping[str, float | None]],
    count: int,
    *,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return the percentile intervals of several statistics over the same resamples.

    A resample counts for the statistics that it defines; one that none defines has no interval.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, value in statistics(rng.integers(0, count, count)).items():
            if value is not None:
                values.setdefault(name, []).append(value)
    intervals = {}
    for name, defined in values.items():
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        intervals[name] = float(low), float(high)
    return intervals
