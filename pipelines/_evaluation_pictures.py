"""Which scored images are drawn, and their pictures."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_maxmin.pipelines._scoring import Prediction
from wsi_maxmin.progress import Progress
from wsi_maxmin.sinks.samples_picture import THUMBNAIL_PX, ScoredPicture, write, write_overview

PICTURES, OVERVIEW = "pictures", "overview.png"
SHEET = 24

Row = Mapping[str, Any]


def choose(rows: Sequence[Row], count: int | None) -> list[int]:
    """Return the positions of the images to draw, worst first: half of `count` the worst, half the best; None for all.

    An image's score is the mean of those of its F1+ and F1− that are defined. Images without ground truth come last.
    """
    scored = sorted((score, index) for index, row in enumerate(rows) if (score := _score(row)) is not None)
    order = [index for _, index in scored]
    order += [index for index, row in enumerate(rows) if _score(row) is None]
    return order if count is None else worst_and_best(order, len(scored), count)


def worst_and_best(order: Sequence[int], scored: int, count: int) -> list[int]:
    """Return half of `count` from the front of the first `scored`, half from their end, then others to fill up."""
    taken = min(count, scored)
    worst = (taken + 1) // 2
    return [*order[:worst], *order[scored - (taken - worst) : scored], *order[scored : scored + count - taken]]


def draw_pictures(
    out: Path,
    predictions: Iterable[Prediction],
    rows: Sequence[Row],
    *,
    threshold: float,
    total: int,
    progress: Progress,
) -> list[str]:
    """Draw one picture an image into ``pictures``, and those at both ends of the order on ``overview.png``.

    Parameters
    ----------
    out : Path
        Folder of the evaluation.
    predictions : iterable of Prediction
        One image each, worst first.
    rows : sequence of mapping
        Their rows of the table.
    threshold : float
    total : int
        How many images were scored.

    Returns
    -------
    list of str
        The files that were written, relative to `out`.
    """
    if not rows:
        return []
    (out / PICTURES).mkdir(exist_ok=True)
    scored = sum(_score(row) is not None for row in rows)
    on_sheet = set(worst_and_best(range(len(rows)), scored, SHEET))
    thumbnails, names = [], _file_names(rows)
    with progress.track("draw", len(rows), unit="image") as advance:
        for index, (prediction, row) in enumerate(zip(predictions, rows, strict=True)):
            picture = _picture(prediction, row, threshold)
            write(picture, out / PICTURES / names[index])
            if index in on_sheet:
                thumbnails.append(picture.shrunk(THUMBNAIL_PX))
            advance()
    title = f"{len(thumbnails)} of {total} images, the worst first, the best last (mean of F1+ and F1−)"
    write_overview(thumbnails, out / OVERVIEW, title)
    return [OVERVIEW, *(f"{PICTURES}/{name}" for name in names)]


def _score(row: Row) -> float | None:
    scores = [row[key] for key in ("f1_foreground", "f1_background") if row.get(key) is not None]
    return float(np.mean(scores)) if scores else None


def _file_names(rows: Sequence[Row]) -> list[str]:
    """Return a name for each image's picture, no two the same."""
    names: dict[str, None] = {}
    for row in rows:
        stem = Path(str(row["image"]).replace("/", "_")).stem
        name, copy = f"{stem}.png", 1
        while name in names:
            copy += 1
            name = f"{stem}_{copy}.png"
        names[name] = None
    return list(names)


def _picture(prediction: Prediction, row: Row, threshold: float) -> ScoredPicture:
    item = prediction.item
    return ScoredPicture(
        name=str(row["image"]),
        facts=_facts(row),
        image=item.image[0].permute(1, 2, 0).numpy(),
        soft_mask=prediction.mask[0, 0].cpu().numpy(),
        truth=item.mask[0, 0].numpy().astype(np.bool_) if item.mask.numel() else None,
        threshold=threshold,
    )


def _facts(row: Row) -> str:
    words = [str(row["label"])]
    if row["predicted"] is not None:
        words.append(f"predicted {row['predicted']}")
    for title, key in (("F1+", "f1_foreground"), ("F1−", "f1_background")):
        if row.get(key) is not None:
            words.append(f"{title} {row[key]:.1f}")
    return ", ".join(words)
