"""Score a model on labelled images: classification error, and Dice of its masks where there is ground truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from wsi_maxmin.data import Sample, Split, read_samples
from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import InputError
from wsi_maxmin.metrics import Confusion, ErrorRate, dice_of, foreground_fractions
from wsi_maxmin.pipelines._evaluated_model import build_with, load_evaluated, reading_as
from wsi_maxmin.pipelines._evaluation_pictures import OVERVIEW, PICTURES, choose, draw_pictures
from wsi_maxmin.pipelines._scoring import LabelSource, Prediction, count_levels, predict
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import environment, read_json, write_json
from wsi_maxmin.thresholds import GRID, ThresholdSweep, best_threshold, confusions

Scores = dict[str, Any]
Row = dict[str, Any]

SCORES, IMAGES, THRESHOLDS = "scores.json", "images.csv", "thresholds.csv"
_IMAGE_COLUMNS = (
    "image", "label", "predicted", "f1_foreground", "f1_background", "predicted_fraction", "true_fraction",
)  # fmt: skip
_THRESHOLD_COLUMNS = ("threshold", "f1_foreground", "f1_background", "mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSettings:
    """How a model is scored.

    Attributes
    ----------
    label_source : {"predicted", "true"}
        Which class a method is asked to mask, where its mask depends on one.
    threshold : float
        A pixel is foreground where its soft mask is ≥ it.
    batch_size : int
        Most images a pass; images of another size never share one.
    workers : int, optional
        Processes that read images; by default as many as the model's own config names.
    pictures : int, optional
        How many images to draw, half of them the worst, half the best; None draws all.
    """

    label_source: LabelSource = "predicted"
    threshold: float = 0.5
    batch_size: int = 8
    workers: int | None = None
    pictures: int | None = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError("no such threshold", got=self.threshold, expected="a number from 0 to 1")
        if self.batch_size < 1:
            raise InputError("no such batch size", got=self.batch_size, expected="at least 1")


def evaluate_model(
    model: str,
    data: Path,
    split: Split,
    *,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    settings: EvaluateSettings | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Return error, F1+ and F1− in per cent, the pooled pixel confusion matrix, region sizes, and the best threshold.

    The soft mask is brought to the ground truth's own size bilinearly and binarised. With `out`, the scores go to
    ``scores.json``, a row an image to ``images.csv``, F1 at every threshold of a grid to ``thresholds.csv``, and
    pictures to ``pictures`` and ``overview.png``. The model's own config says how `data` is read, but for
    `overrides`, ``data.key=value``; ``model.params.key=value`` changes what no weight depends on, and is said in the
    scores.

    Raises
    ------
    InputError
        If model, data, overrides or device are not usable, or a listed mask is missing.
    """
    where, progress, settings = pick_device(device), progress or Quiet(), settings or EvaluateSettings()
    checkpoint = load_evaluated(model)
    config = reading_as(checkpoint.config, overrides)
    network, changed = build_with(checkpoint, overrides)
    samples = read_samples(data, config.data, split, seed=config.seed)
    check_masks(samples)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    workers = config.training.workers if settings.workers is None else settings.workers
    run = partial(
        predict,
        network.on(where),
        shorter_side_px=config.data.shorter_side_px,
        label_source=settings.label_source,
        workers=workers,
        device=where,
    )
    scorer = _Scorer(samples, config.data.classes, settings.threshold)
    with progress.track("evaluate", len(samples), unit="image") as advance:
        for prediction in run(samples, batch_size=settings.batch_size):
            scorer.add(prediction)
            advance(len(prediction.item.label))
    scores = scorer.summary(split) | {"label_source": _label_source(settings, scorer.rows)}
    if changed:
        scores["changed"] = changed
    if out is not None:
        _remove_earlier(out)
        scorer.write_tables(out)
        chosen = choose(scorer.rows, settings.pictures)
        drawn = draw_pictures(
            out,
            run([samples[index] for index in chosen], batch_size=1),
            [scorer.rows[index] for index in chosen],
            threshold=settings.threshold,
            total=len(samples),
            progress=progress,
        )
        facts = {"model": checkpoint.fingerprint(), "split": split, "pictures": drawn, "environment": environment()}
        # Last: where scores are, the files beside them are theirs.
        write_json(out / SCORES, scores | facts)
    return scores


class _Scorer:
    """Sums over images, and a row an image, both in the order of the samples: rounding depends on nothing else."""

    def __init__(self, samples: Sequence[Sample], classes: Sequence[str], threshold: float) -> None:
        self._samples = samples
        self._classes = classes
        self._threshold = threshold
        self._error = ErrorRate()
        self._early: dict[int, tuple[Row, Confusion | None]] = {}
        self.sweep = ThresholdSweep({*GRID, threshold})
        self.rows: list[Row] = []

    def add(self, prediction: Prediction) -> None:
        """Add the images of a prediction; one that comes before its turn waits."""
        item, labels = prediction.item, prediction.item.label.tolist()
        classes = [None] * len(labels) if prediction.classes is None else prediction.classes
        if prediction.classes is not None:
            self._error.update(np.array(classes), np.array(labels))
        known = item.mask.numel() > 0
        truth = item.mask if known else torch.zeros(prediction.mask.shape, dtype=torch.uint8)
        levels = count_levels(prediction.mask, truth, self.sweep.edges)
        for position, label, given, of_image in zip(item.position.tolist(), labels, classes, levels, strict=True):
            row: Row = {"image": self._samples[position].name, "label": self._classes[label]}
            row["predicted"] = None if given is None else self._classes[given]
            matrices = confusions(of_image)
            row |= _mask_row(matrices[self.sweep.index(self._threshold)], known=known)
            self._early[position] = row, matrices if known else None
        while (following := self._early.pop(len(self.rows), None)) is not None:
            row, scored = following
            self.rows.append(row)
            if scored is not None:
                self.sweep.add(scored)

    def summary(self, split: Split) -> Scores:
        """Return the scores of all images."""
        best = best_threshold(self.sweep.table())
        return {
            **self._error.summary(),
            **self.sweep.at(self._threshold).summary(),
            "threshold": self._threshold,
            "best_threshold": None if best is None else best | {"chosen_on": split},
        }

    def write_tables(self, out: Path) -> None:
        """Write a row an image, and a row a threshold."""
        _write_csv(out / IMAGES, self.rows, _IMAGE_COLUMNS)
        _write_csv(out / THRESHOLDS, self.sweep.table(), _THRESHOLD_COLUMNS)


def _mask_row(counts: Confusion, *, known: bool) -> Row:
    """Return the cells of an image's mask from its confusion matrix; `known` is whether the truth is."""
    predicted, true = foreground_fractions(counts)
    if not known:
        return {"predicted_fraction": predicted}
    foreground, background = (None if score is None else 100 * score for score in dice_of(counts))
    return {
        "f1_foreground": foreground,
        "f1_background": background,
        "predicted_fraction": predicted,
        "true_fraction": true,
    }


def check_masks(samples: Iterable[Sample]) -> None:
    """Check that the ground truth that samples name is there.

    Raises
    ------
    InputError
        If it is not.
    """
    for path in dict.fromkeys(sample.mask_path for sample in samples if sample.mask_path is not None):
        if not path.is_file():
            raise InputError("a ground-truth mask is missing", got=path, remedy="restore it or empty its cell")


def _label_source(settings: EvaluateSettings, rows: Sequence[Row]) -> str:
    """Return where labels came from: from nowhere where a method was to predict them and predicts none."""
    predicts = any(row["predicted"] is not None for row in rows)
    return settings.label_source if predicts or settings.label_source == "true" else "none"


def _remove_earlier(out: Path) -> None:
    """Remove the scores of an earlier evaluation, and first the pictures that they list: others may be a user's own."""
    listed = (read_json(out / SCORES) or {}).get("pictures")
    for name in listed if isinstance(listed, list) else ():
        # By the last part alone: a file must not be able to name others for removal.
        (out / (OVERVIEW if name == OVERVIEW else Path(PICTURES, Path(str(name)).name))).unlink(missing_ok=True)
    (out / SCORES).unlink(missing_ok=True)


def _write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write a table; a file of that name is replaced only once the new one is whole."""
    partial_file = path.with_name(f".{path.name}.partial")
    pd.DataFrame(rows, columns=list(columns)).to_csv(partial_file, index=False)
    partial_file.replace(path)
