"""What `wsi-maxmin evaluate-slides` left: scores of a cohort, its curves, its slides and its lesions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_maxmin.errors import InputError
from wsi_maxmin.froc import RATES
from wsi_maxmin.reports._about import MOST_ROWS, column, counted, number, read_rows, settings_section
from wsi_maxmin.reports._charts import Chart, Line, draw
from wsi_maxmin.reports._parts import Charts, Column, Facts, Highlights, Note, Part, Report, Request, Section, Table
from wsi_maxmin.runinfo import read_json

EXPECTED = "scores of evaluate-slides"
_SCORES, _SLIDES = "scores.json", "slide_scores.csv"
_NAMES = {
    "froc": "FROC score",
    "froc_with_lowest": "FROC score, the lowest threshold too",
    **{f"sensitivity_at_{rate:g}": f"Lesions hit at {rate:g} false positives a slide" for rate in RATES},
    "auc": "AUC of slides",
    "dice": "Dice of pixels",
    "average_precision": "Average precision of pixels",
}
_FIRST = ("froc", "auc", "dice", "average_precision")
_SLIDE_COLUMNS = {
    "slide_id": ("Slide", None), "label": ("Label", None), "score": ("Score", 3), "candidates": ("Candidates", 0),
    "false_positives": ("False positives", 0), "lesions": ("Lesions", 0), "lesions_hit": ("Lesions hit", 0),
    "isolated": ("Isolated", 0), "dice": ("Dice", 3), "average_precision": ("Average precision", 3),
    "tissue_mm2": ("Tissue, mm²", 2), "called_mm2": ("Called tumour, mm²", 3),
    "annotated_mm2": ("Annotated, mm²", 3), "annotated_off_tissue_mm2": ("Annotated off tissue, mm²", 3),
}  # fmt: skip
_LESION_COLUMNS = {
    "slide_id": ("Slide", None), "lesion": ("Lesion", 0), "probability": ("Probability", 3),
    "area_um2": ("Area, µm²", 0), "major_axis_um": ("Major axis, µm", 0), "isolated": ("Isolated tumour cells", None),
    "x": ("x, px", 0), "y": ("y, px", 0), "width": ("Width, px", 0), "height": ("Height, px", 0),
}  # fmt: skip
_YES_NO = {"True": "yes", "False": "no"}

Columns = Mapping[str, tuple[str, int | None]]


def is_one(folder: Path) -> bool:
    """Say whether `evaluate-slides` wrote here."""
    return (folder / _SCORES).is_file() and (folder / _SLIDES).is_file()


def describe(folder: Path, request: Request) -> Report:  # noqa: ARG001
    """Return what the scores say.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    scores = _read(folder)
    return Report(
        title=folder.resolve().name,
        what="Scores of slides",
        sections=[*sections(folder), settings_section(scores.get("settings", {}), scores.get("environment", {}))],
    )


def sections(folder: Path) -> list[Section]:
    """Return scores with their curves, slides and lesions.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    scores = _read(folder)
    lesions = read_rows(folder / "lesions.csv")
    found = [
        Section(anchor="scores", title="Scores", parts=[*_summary(scores), *_curves(folder)]),
        Section(
            anchor="scored-slides",
            title="Scored slides",
            parts=_table(read_rows(folder / _SLIDES), _SLIDE_COLUMNS, "Slides", _SLIDES),
        ),
        Section(anchor="lesions", title="Lesions", parts=_table(lesions, _LESION_COLUMNS, "Lesions", "lesions.csv")),
    ]
    return [section for section in found if section.parts]


def labels_of(folder: Path) -> dict[str, str]:
    """Return the label of each scored slide, by its name in the reference list."""
    return {row["slide_id"]: row["label"] for row in read_rows(folder / _SLIDES)}


def _read(folder: Path) -> Mapping[str, Any]:
    scores = read_json(folder / _SCORES)
    if scores is None or not all(isinstance(scores.get(name), Mapping) for name in _FIRST):
        raise InputError(f"{folder / _SCORES} is damaged", remedy="wsi-maxmin evaluate-slides … --out writes it again")
    return scores


def _summary(scores: Mapping[str, Any]) -> list[Part]:
    settings = scores.get("settings") or {}
    rows = [[name, *(scores[key][part] for part in ("value", "low", "high"))] for key, name in _NAMES.items()
            if key in scores]  # fmt: skip
    columns = [Column(name="Score"), *(Column(name=name, digits=3) for name in ("Value", "Low", "High"))]
    intervals = any(row[2] is not None for row in rows)
    facts = [
        ("Slides", f"{scores['slides']:,}, {scores['tumour_slides']:,} of them with tumour"),
        ("Lesions", f"{scores['lesions']:,}, and {scores['isolated']:,} groups of isolated tumour cells"),
        ("Candidates", f"{scores['candidates']:,}, from {settings.get('candidates_from', 'heatmaps')}"),
        ("Protocol", str(settings.get("protocol", ""))),
    ]
    said = (
        f"Low and high hold 95 % of the scores of {settings.get('bootstrap', 0):,} resamples of slides."
        if intervals
        else "There are no intervals: of fewer than ten slides resamples say nothing, or none were asked for."
    )
    if (lowest := scores.get("froc_with_lowest", {}).get("value")) != scores["froc"]["value"]:
        said += (
            f" The organisers' FROC leaves out the lowest threshold; where no lesion is missed that is a real one, "
            f"and with it the score is {_shown(lowest)}."
        )
    return [
        Highlights(rows=[(_NAMES[key], _shown(scores[key]["value"])) for key in _FIRST]),
        Facts(rows=facts),
        Table(caption="Scores over the cohort, from 0 to 1", columns=columns, rows=rows),
        Note(text=said),
    ]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _curves(folder: Path) -> list[Part]:
    charts = [_froc(folder), _roc(folder), _precision_recall(folder)]
    drawn = [chart for chart in charts if chart is not None]
    said = "Points: the rates that the FROC score is the mean of, and precision at the model's threshold."
    return [Charts(charts=drawn), Note(text=said)] if drawn else []


def _froc(folder: Path) -> Chart | None:
    rows = read_rows(folder / "froc.csv")
    if not rows:
        return None
    x, y = (np.array(column(rows, name))[::-1] for name in ("false_positives", "sensitivity"))
    # The curve goes on at its highest sensitivity, as the score reckons.
    x, y = np.append(x, max(x[-1], RATES[-1])), np.append(y, y[-1])
    marks = list(zip(RATES, np.interp(RATES, x, y).tolist(), strict=True))
    kept = x <= RATES[-1]
    line = Line(
        name="lesions hit",
        x=[*x[kept].tolist(), RATES[-1]],
        y=[*y[kept].tolist(), float(np.interp(RATES[-1], x, y))],
    )
    return draw(
        "FROC: lesions hit", [line], x_name="false positives a slide", y_name="lesions hit",
        x_range=(0, RATES[-1]), y_range=(0, 1), marks=marks,
    )  # fmt: skip


def _roc(folder: Path) -> Chart | None:
    rows = read_rows(folder / "roc.csv")
    line = Line(
        name="tumour slides called", x=column(rows, "false_positive_rate"), y=column(rows, "true_positive_rate")
    )
    return draw(
        "ROC: tumour slides called", [line], x_name="normal slides called tumour", y_name="tumour slides called",
        x_range=(0, 1), y_range=(0, 1),
    )  # fmt: skip


def _precision_recall(folder: Path) -> Chart | None:
    rows = read_rows(folder / "precision_recall.csv")
    line = Line(name="precision", x=column(rows, "recall"), y=column(rows, "precision"))
    thresholds = {value for row in read_rows(folder / _SLIDES) if (value := number(row.get("threshold"))) is not None}
    known = list(zip(column(rows, "threshold"), line.x, line.y, strict=True))
    marks = [next(((x, y) for at, x, y in known if at >= threshold), None) for threshold in sorted(thresholds)]
    return draw(
        "Precision of tissue pixels", [line], x_name="recall", y_name="precision",
        x_range=(0, 1), y_range=(0, 1), marks=[mark for mark in marks if mark is not None],
    )  # fmt: skip


def _table(rows: Sequence[Mapping[str, str]], columns: Columns, what: str, file: str) -> list[Part]:
    if not rows:
        return []
    shown = [[_cell(row.get(key), digits) for key, (_, digits) in columns.items()] for row in rows[:MOST_ROWS]]
    heads = [Column(name=name, digits=digits) for name, digits in columns.values()]
    return [Table(caption=f"{what}: {counted(len(rows), file)}", columns=heads, rows=shown)]


def _cell(text: str | None, digits: int | None) -> str | float | None:
    if digits is not None:
        return number(text)
    return _YES_NO.get(text, text) if text else None
