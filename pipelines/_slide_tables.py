"""The tables of scored slides, and the files of an evaluation of slides."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wsi_maxmin.candidates import Candidates
from wsi_maxmin.cohort_scores import CohortScore, SlideScore, cohort_froc
from wsi_maxmin.froc import RATES, Lesion
from wsi_maxmin.pixel_curves import add_counts
from wsi_maxmin.runinfo import environment, write_json
from wsi_maxmin.sinks import curves_picture
from wsi_maxmin.sinks._ngff import least_byte

SCORES = "scores.json"

Row = dict[str, Any]

_COLUMNS = {
    "scores": ("score", "value", "low", "high"),
    "slides": (
        "slide_id", "label", "score", "candidates", "false_positives", "lesions", "lesions_hit", "isolated",
        "threshold", "dice", "average_precision", "tissue_mm2", "called_mm2", "annotated_mm2",
        "annotated_off_tissue_mm2",
    ),
    "lesions": (
        "slide_id", "lesion", "x", "y", "width", "height", "area_um2", "major_axis_um", "isolated", "probability",
        "hit_x", "hit_y",
    ),
    "candidates": ("slide_id", "probability", "x", "y", "lands_on", "lesion"),
    "froc": ("threshold", "false_positives", "sensitivity"),
    "roc": ("threshold", "false_positive_rate", "true_positive_rate"),
    "precision_recall": ("threshold", "precision", "recall"),
}  # fmt: skip


@dataclass(slots=True)
class SlideTables:
    """What was found of each slide, in the order of the cohort."""

    scores: list[SlideScore] = field(default_factory=list)
    slides: list[Row] = field(default_factory=list)
    lesions: list[Row] = field(default_factory=list)
    candidates: list[Row] = field(default_factory=list)

    def add(
        self,
        slide_id: str,
        score: SlideScore,
        points: Candidates,
        lesions: Sequence[Lesion],
        threshold: float,
        pixel_um: float,
    ) -> None:
        """Add one slide; `pixel_um` is the side of its heatmap's pixels."""
        detections, counts = score.detections, score.pixels.counts
        mm2 = (pixel_um / 1000) ** 2
        self.scores.append(score)
        self.slides.append(
            {
                "slide_id": slide_id,
                "label": "tumor" if score.tumour else "normal",
                "score": score.score,
                "candidates": len(points),
                "false_positives": len(detections.false_positives),
                "lesions": detections.targets,
                "lesions_hit": int((detections.lesion_probability > 0).sum()),
                "isolated": len(lesions) - detections.targets,
                "threshold": threshold,
                "dice": score.dice,
                "average_precision": score.pixels.average_precision(),
                "tissue_mm2": counts.sum() * mm2,
                "called_mm2": counts[:, least_byte(threshold) :].sum() * mm2,
                "annotated_mm2": counts[1].sum() * mm2,
                "annotated_off_tissue_mm2": score.pixels.off_tissue * mm2,
            }
        )
        self.lesions += [
            {"slide_id": slide_id, **_lesion_row(lesion, points, int(detections.best[index]))}
            for index, lesion in enumerate(lesions)
        ]
        isolated = {lesion.number for lesion in lesions if lesion.isolated}
        for probability, x, y, number in zip(points.probability, points.x, points.y, detections.landed, strict=True):
            where = "isolated" if number in isolated else "lesion" if number else "false positive"
            row = {"slide_id": slide_id, "probability": float(probability), "x": int(x), "y": int(y)}
            self.candidates.append(row | {"lands_on": where, "lesion": int(number) or None})


def _lesion_row(lesion: Lesion, points: Candidates, best: int) -> Row:
    row: Row = {
        "lesion": lesion.number,
        **{name: getattr(lesion.box, name) for name in ("x", "y", "width", "height")},
        "area_um2": round(lesion.area_um2, 1),
        "major_axis_um": round(lesion.major_axis_um, 1),
        "isolated": lesion.isolated,
    }
    if best >= 0:
        hit = {
            "probability": float(points.probability[best]),
            "hit_x": int(points.x[best]),
            "hit_y": int(points.y[best]),
        }
        row |= hit
    return row


def write_scores(
    out: Path, tables: SlideTables, scores: Mapping[str, CohortScore], settings: Mapping[str, Any]
) -> None:
    """Write tables, curves and ``scores.json``; those of an earlier evaluation are replaced."""
    out.mkdir(parents=True, exist_ok=True)
    (out / SCORES).unlink(missing_ok=True)
    for name in ("froc", "roc", "precision_recall"):
        for ending in ("csv", "png"):
            (out / f"{name}.{ending}").unlink(missing_ok=True)
    values = {name: asdict(score) for name, score in scores.items()}
    _write_csv(out, "scores", [{"score": name, **value} for name, value in values.items()])
    _write_csv(out, "slides", tables.slides, "slide_scores")
    _write_csv(out, "lesions", tables.lesions)
    _write_csv(out, "candidates", tables.candidates)
    _write_froc(out, tables, scores)
    _write_roc(out, tables, scores)
    _write_precision_recall(out, tables, scores)
    totals = {name: sum(row[name] for row in tables.slides) for name in ("candidates", "lesions", "isolated")}
    facts = {"slides": len(tables.slides), "tumour_slides": sum(score.tumour for score in tables.scores), **totals}
    # Last: where scores are, the files beside them are theirs.
    write_json(out / SCORES, {**values, **facts, "settings": dict(settings), "environment": environment()})


def _write_froc(out: Path, tables: SlideTables, scores: Mapping[str, CohortScore]) -> None:
    froc = cohort_froc(tables.scores)
    if froc is None:
        return
    curve = froc.threshold, froc.false_positives, froc.sensitivity
    _write_csv(out, "froc", np.column_stack(curve))
    targets = sum(score.detections.targets for score in tables.scores)
    curves_picture.write_froc(
        out / "froc.png",
        froc.false_positives,
        froc.sensitivity,
        rates=RATES,
        title=f"FROC score {_shown(scores['froc'])}\nlesions: {targets}, slides: {len(tables.slides)}",
    )


def _write_roc(out: Path, tables: SlideTables, scores: Mapping[str, CohortScore]) -> None:
    value = np.array([score.score for score in tables.scores])
    tumour = np.array([score.tumour for score in tables.scores])
    if tumour.all() or not tumour.any():
        return
    threshold = np.concatenate([[np.inf], np.unique(value)[::-1]])
    rates = [(value[group, None] >= threshold).mean(axis=0) for group in (~tumour, tumour)]
    _write_csv(out, "roc", np.column_stack([threshold, *rates]))
    title = f"Slides: AUC {_shown(scores['auc'])}\nwith tumour: {tumour.sum()}, without: {(~tumour).sum()}"
    curves_picture.write_roc(out / "roc.png", *rates, title=title)


def _write_precision_recall(out: Path, tables: SlideTables, scores: Mapping[str, CohortScore]) -> None:
    if not any(score.tumour for score in tables.scores):
        return
    precision, recall = add_counts([score.pixels for score in tables.scores]).precision_recall()
    _write_csv(out, "precision_recall", np.column_stack([np.arange(256) / 255, precision, recall]))
    thresholds = sorted({row["threshold"] for row in tables.slides})
    average, dice = _shown(scores["average_precision"]), _shown(scores["dice"])
    curves_picture.write_precision_recall(
        out / "precision_recall.png",
        precision,
        recall,
        at=[least_byte(threshold) for threshold in thresholds],
        title=f"Pixels of tissue: average precision {average}\n"
        f"Dice {dice} at {', '.join(map('{:g}'.format, thresholds))}, mean over slides with tumour",
    )


def _shown(score: CohortScore) -> str:
    if score.value is None:
        return "–"
    interval = "" if score.low is None else f" ({score.low:.3f} to {score.high:.3f})"
    return f"{score.value:.3f}{interval}"


def _write_csv(out: Path, name: str, rows: Any, file: str | None = None) -> None:
    """Write a table; a file of that name is replaced only once the new one is whole."""
    path = out / f"{file or name}.csv"
    partial = path.with_name(f".{path.name}.partial")
    pd.DataFrame(rows, columns=list(_COLUMNS[name])).to_csv(partial, index=False, lineterminator="\n")
    partial.replace(path)
