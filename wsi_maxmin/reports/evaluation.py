"""What `wsi-maxmin evaluate` left: scores of a model on labelled images, a row an image, pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_maxmin.reports._about import MOST_ROWS, column, counted, percent, read_rows, settings_section
from wsi_maxmin.reports._charts import Line, draw
from wsi_maxmin.reports._parts import (
    Card,
    Cards,
    Charts,
    Column,
    Facts,
    Highlights,
    Note,
    Part,
    Report,
    Request,
    Section,
    Table,
)
from wsi_maxmin.reports._pictures import share_of, shrink
from wsi_maxmin.run_results import ImageRow, read_scores

EXPECTED = "scores of evaluate"
_SCORES, _IMAGES, _THRESHOLDS, _PICTURES = "scores.json", "images.csv", "thresholds.csv", "pictures"
_MOST_PICTURES = 24
_SETTINGS = ("model", "split", "label_source", "threshold")

Scores = Mapping[str, Any]


def is_one(folder: Path) -> bool:
    """Say whether `evaluate` wrote here."""
    return (folder / _SCORES).is_file() and (folder / _IMAGES).is_file()


def describe(folder: Path, request: Request) -> Report:  # noqa: ARG001
    """Return what the scores say.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    found, images = read_scores(folder)
    scores = found or {}
    settings = {key: scores[key] for key in _SETTINGS if key in scores}
    return Report(
        title=f"Scores of {scores.get('model', folder.resolve().name)}",
        what="Scores on labelled images",
        sections=[*sections(folder, scores, images), settings_section(settings, scores.get("environment", {}))],
    )


def highlights(scores: Scores) -> list[tuple[str, str]]:
    """Return the scores that a reader looks for first."""
    named = (("F1+", "f1_foreground"), ("F1−", "f1_background"), ("Classification error", "error"))
    return [(name, percent(scores[key])) for name, key in named if scores.get(key) is not None]


def sections(folder: Path, scores: Scores, images: Sequence[ImageRow] | None) -> list[Section]:
    """Return scores, thresholds, pictures and images, as far as there are any.

    Parameters
    ----------
    folder : Path
        Where the files are.
    scores : mapping
        In per cent.
    images : sequence of mapping, or None
        A row each.
    """
    found = [
        Section(anchor="scores", title="Scores", parts=_summary(scores)),
        Section(anchor="thresholds", title="Thresholds", parts=_thresholds(folder, scores)),
        Section(anchor="pictures", title="Pictures", parts=_pictures(folder, scores)),
        Section(anchor="images", title="Images", parts=_images(images or ())),
    ]
    return [section for section in found if section.parts]


def _summary(scores: Scores) -> list[Part]:
    facts = [
        ("Split", str(scores.get("split", ""))),
        ("Images", f"{scores['samples']:,}" if scores.get("samples") else ""),
        ("With a mask", f"{scores['masks']:,}" if scores.get("masks") else ""),
        ("Threshold", f"{scores['threshold']:g}" if "threshold" in scores else ""),
        ("Masks are of the", f"{scores['label_source']} class" if scores.get("label_source") else ""),
        ("Foreground, predicted", _share(scores.get("predicted_fraction"))),
        ("Foreground, true", _share(scores.get("true_fraction"))),
    ]
    parts: list[Part] = [Highlights(rows=highlights(scores)), Facts(rows=facts)]
    if (confusion := scores.get("pixel_confusion")) is not None:
        names = ("background", "foreground")
        rows = [[name, *(100 * share for share in row)] for name, row in zip(names, confusion, strict=True)]
        columns = [Column(name="Predicted"), *(Column(name=f"True {name}, %", digits=1) for name in names)]
        caption = "All pixels of all images; each column sums to 100 %"
        parts.append(Table(caption=caption, columns=columns, rows=rows))
    return parts


def _share(fraction: float | None) -> str:
    return "" if fraction is None else percent(100 * fraction)


def _thresholds(folder: Path, scores: Scores) -> list[Part]:
    rows = read_rows(folder / _THRESHOLDS)
    x = column(rows, "threshold")
    lines = [
        Line(name=name, x=x, y=column(rows, key)) for name, key in (("F1+", "f1_foreground"), ("F1−", "f1_background"))
    ]
    chart = draw(
        "F1 at thresholds of the soft mask",
        lines,
        x_name="threshold",
        y_name="F1, %",
        x_range=(0, 1),
        y_range=(0, 100),
        rule=scores.get("threshold"),
    )
    if chart is None:
        return []
    parts: list[Part] = [Charts(charts=[chart])]
    if best := scores.get("best_threshold"):
        text = (
            f"The dashed line is the threshold of the scores. The mean of F1+ and F1− is highest at "
            f"{best['threshold']:g}: {percent(best['mean'])}, chosen on these very images ({best['chosen_on']}); "
            "expect less of others."
        )
        parts.append(Note(text=text))
    return parts


def _pictures(folder: Path, scores: Scores) -> list[Part]:
    listed = scores.get("pictures")
    # By the last part alone: a list must not be able to name files elsewhere.
    names = [Path(str(name)).name for name in listed or () if str(name).startswith(f"{_PICTURES}/")]
    half = _MOST_PICTURES // 2
    shown = names if len(names) <= _MOST_PICTURES else [*names[:half], *names[-half:]]
    cards = []
    for index, name in enumerate(shown, 1):
        alt = f"Image, soft mask and truth of {name}"
        picture = shrink(folder / _PICTURES / name, alt, most_bytes=share_of(len(shown)))
        if picture is not None:
            cards.append(Card(anchor=f"picture-{index}", title=Path(name).stem, picture=picture))
    if not cards:
        return []
    return [Note(text=f"{len(cards)} of {len(names)} pictures, the worst first."), Cards(cards=cards)]


def _images(images: Sequence[ImageRow]) -> list[Part]:
    if not images:
        return []
    order = sorted(images, key=_mean)[:MOST_ROWS]
    numbers = (
        ("F1+, %", "f1_foreground", 1), ("F1−, %", "f1_background", 1),
        ("Foreground, predicted, %", "predicted_fraction", 100), ("Foreground, true, %", "true_fraction", 100),
    )  # fmt: skip
    columns = [Column(name=name) for name in ("Image", "Label", "Predicted")]
    columns += [Column(name=name, digits=1) for name, _, _ in numbers]
    rows = [
        [
            row.get("image"),
            row.get("label"),
            row.get("predicted"),
            *(_times(row.get(key), by) for _, key, by in numbers),
        ]
        for row in order
    ]
    caption = f"Images: {counted(len(images), _IMAGES)}, the lowest mean of F1+ and F1− first"
    return [Table(caption=caption, columns=columns, rows=rows)]


def _times(cell: str | float | None, by: int) -> float | None:
    return None if cell is None else float(cell) * by


def _mean(row: ImageRow) -> float:
    """Return what images are sorted by; those without truth come last."""
    scores = [float(cell) for key in ("f1_foreground", "f1_background") if (cell := row.get(key)) is not None]
    return sum(scores) / len(scores) if scores else float("inf")
