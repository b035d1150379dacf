"""Scores over the slides of a cohort, with intervals from resampled slides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_maxmin.froc import RATES, Detections, Froc, froc_of
from wsi_maxmin.metrics import bootstrap_intervals, roc_auc
from wsi_maxmin.pixel_curves import PixelCounts, add_counts

LEAST_SLIDES = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideScore:
    """What counts of one slide.

    Attributes
    ----------
    tumour : bool
        Whether it holds any, by the reference list.
    score : float
        For the slide's ROC curve.
    detections : Detections
    pixels : PixelCounts
    dice : float or None
        At the threshold; None without annotated pixels.
    """

    tumour: bool
    score: float
    detections: Detections
    pixels: PixelCounts
    dice: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortScore:
    """One score over all slides.

    Attributes
    ----------
    value : float or None
        None where it is not defined.
    low, high : float or None
        The 95 % interval over resampled slides.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


def score_cohort(slides: Sequence[SlideScore], *, repeats: int, seed: int = 0) -> dict[str, CohortScore]:
    """Return FROC score, sensitivities at its rates, AUC, Dice and average precision.

    Parameters
    ----------
    slides : sequence of SlideScore
    repeats : int
        Resamples of the intervals; 0 for none. Of fewer than `LEAST_SLIDES` slides there are none.
    seed : int
        Of the resamples.
    """
    values = _values(slides)

    def resampled(chosen: npt.NDArray[np.intp]) -> dict[str, float | None]:
        return _values([slides[index] for index in chosen])

    repeats = repeats if len(slides) >= LEAST_SLIDES else 0
    intervals = bootstrap_intervals(resampled, len(slides), repeats=repeats, seed=seed)
    return {name: CohortScore(value=value, **_ends(intervals.get(name))) for name, value in values.items()}


def _ends(interval: tuple[float, float] | None) -> dict[str, float]:
    return {} if interval is None else {"low": interval[0], "high": interval[1]}


def cohort_froc(slides: Sequence[SlideScore]) -> Froc | None:
    """Return the FROC curve of a cohort; None without lesions."""
    return froc_of([slide.detections for slide in slides])


def _values(slides: Sequence[SlideScore]) -> dict[str, float | None]:
    froc = cohort_froc(slides)
    every = froc_of([slide.detections for slide in slides], lowest=True)
    dice = [slide.dice for slide in slides if slide.dice is not None]
    at_rates = (None,) * len(RATES) if froc is None else froc.at_rates
    return {
        "froc": None if froc is None else froc.score,
        "froc_with_lowest": None if every is None else every.score,
        **{f"sensitivity_at_{rate:g}": value for rate, value in zip(RATES, at_rates, strict=True)},
        "auc": roc_auc(np.array([slide.score for slide in slides]), np.array([slide.tumour for slide in slides])),
        "dice": float(np.mean(dice)) if dice else None,
        "average_precision": add_counts([slide.pixels for slide in slides]).average_precision(),
    }
