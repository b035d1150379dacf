"""Fig. 9 and 11 to 13: images, their truth, and what each method marks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from wsi_maxmin.errors import MissingResultsError
from wsi_maxmin.figures._results import (
    GLAS,
    P512,
    SEM,
    Dataset,
    Drawing,
    Method,
    Pictured,
    Results,
    left_out,
    split_of,
)
from wsi_maxmin.figures._style import MAP, PAGE_IN, VERMILION, rows_and_columns, sheet
from wsi_maxmin.run_results import RunResult

FIGURES = {
    "9": f"images and masks on {GLAS.title}",
    "11": f"further images and masks on {GLAS.title}",
    "12": f"images with tumour and masks on {P512.title}",
    "13": f"images without tumour and masks on {P512.title}",
}

_PANELS_A_LINE = 7
_TITLE_IN = 0.26
_LETTERS_AN_INCH = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which images a figure shows.

    Attributes
    ----------
    dataset : Dataset
    label : str or None
        Images of one class alone.
    parts : int
        The images, ordered by their score, are cut into so many parts.
    taken : tuple of int
        From these parts the middle one is shown.
    """

    dataset: Dataset
    label: str | None
    parts: int
    taken: tuple[int, ...]


CHOICES = {
    "9": Choice(dataset=GLAS, label=None, parts=6, taken=(0, 2, 4)),
    "11": Choice(dataset=GLAS, label=None, parts=6, taken=(1, 3, 5)),
    "12": Choice(dataset=P512, label="tumor", parts=3, taken=(0, 1, 2)),
    "13": Choice(dataset=P512, label="normal", parts=3, taken=(0, 1, 2)),
}


def draw(number: str, results: Results) -> Drawing:
    """Draw the image, the truth, and each method's soft mask with a line at its threshold; F1+ and F1− above it.

    Raises
    ------
    MissingResultsError
        If there are no scores of single images, no model was kept, or no data were given.
    """
    choice = CHOICES[number]
    methods, split = results.scored(choice.dataset)
    kept = [method for method in methods if method.with_model is not None]
    reference = next((method for method in methods if method.name == SEM), methods[-1])
    names = choose(choice, reference.runs[0])
    if not kept:
        raise MissingResultsError(
            f"no model of {choice.dataset.title} was kept",
            got=f"scores of {', '.join(method.name for method in methods)} alone",
            remedy=f"give the folders that the trainings wrote, or {choice.dataset.command}",
        )
    if results.look is None or not names:
        remedy = f"wsi-maxmin figures RUNS --only {number} --data DIR --out DIR"
        raise MissingResultsError("pictures need the images" if names else "no scores of single images", remedy=remedy)
    shown = results.look([run for method in kept if (run := method.with_model)], split, names)
    rule = _rule(choice, reference)
    facts = {
        "dataset": choice.dataset.name,
        "split": split,
        "images": names,
        "chosen": rule,
        "methods": [{"run": method.name, "seed": run.seed} for method in kept if (run := method.with_model)],
    }
    figure = _draw(f"{choice.dataset.title}, {split_of(split)}. {rule}", kept, shown)
    return Drawing(figure=figure, facts=facts, left_out=left_out(kept, choice.dataset, lack="no model"))


def choose(choice: Choice, run: RunResult) -> list[str]:
    """Return the names of images at even steps of the mean of F1+ and F1−, the worst first; equals go by name."""
    rows = [row for row in run.images or () if choice.label in (None, row["label"])]
    scored = [
        (float(np.mean(defined)), str(row["image"]))
        for row in rows
        if (defined := [of for key in ("f1_foreground", "f1_background") if isinstance(of := row.get(key), float)])
    ]
    order = [name for _, name in sorted(scored)]
    places = [(2 * part + 1) * len(order) // (2 * choice.parts) for part in choice.taken]
    return [order[place] for place in dict.fromkeys(places)] if order else []


def _rule(choice: Choice, reference: Method) -> str:
    which = f" of class {choice.label}" if choice.label else ""
    parts = ", ".join(str(part + 1) for part in choice.taken)
    return (
        f"Images{which} ordered by the mean of F1+ and F1− of {reference.title} (seed {reference.runs[0].seed}), cut "
        f"into {choice.parts} parts; shown are the middles of parts {parts}"
    )


def _draw(title: str, methods: Sequence[Method], shown: Sequence[Pictured]) -> Any:
    panels = 2 + len(methods)
    lines, columns = rows_and_columns(panels, _PANELS_A_LINE)
    width_in = PAGE_IN / columns
    tallest = max(of.image.shape[0] / of.image.shape[1] for of in shown)
    figure = sheet(0.8 + len(shown) * lines * (width_in * tallest + _TITLE_IN), title)
    grid = figure.subplots(len(shown) * lines, columns, squeeze=False)
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
    for axes in grid.ravel():
        axes.set_axis_off()
    for index, picture in enumerate(shown):
        of_picture = grid[index * lines : (index + 1) * lines].ravel()
        of_picture[0].set_title(_in_two_lines(picture.name, int(width_in * _LETTERS_AN_INCH)), parse_math=False)
        _draw_picture(list(of_picture), picture, methods)
    colours = ScalarMappable(Normalize(0, 1), MAP)
    figure.colorbar(
        colours, ax=grid.ravel().tolist(), orientation="horizontal", shrink=0.25, aspect=30, pad=0.01,
        label="soft mask; the line is its threshold; numbers are F1+ / F1−",
    )  # fmt: skip
    return figure


def _draw_picture(panels: Sequence[Axes], picture: Pictured, methods: Sequence[Method]) -> None:
    panels[0].imshow(picture.image, interpolation="antialiased")
    panels[1].set_title("truth")
    if picture.truth is not None:
        panels[1].imshow(picture.truth, cmap=MAP, vmin=0, vmax=1, interpolation="nearest")
    for axes, method in zip(panels[2:], methods, strict=False):
        mask = picture.masks[method.name]
        threshold = float(((method.with_model or method.runs[0]).scores or {}).get("threshold", 0.5))
        axes.imshow(mask, cmap=MAP, vmin=0, vmax=1, interpolation="nearest")
        if mask.min() < threshold <= mask.max():
            axes.contour(mask, levels=[threshold], colors=VERMILION, linewidths=0.7)
        scores = " / ".join("–" if score is None else f"{score:.0f}" for score in picture.scores[method.name])
        axes.set_title(f"{method.title}\n{scores}")


def _in_two_lines(name: str, letters: int) -> str:
    """Return a name broken to lines of so many letters, its middle left out if they are not enough."""
    if len(name) > 2 * letters:
        name = f"{name[: letters - 1]}…{name[-letters:]}"
    return f"{name[:letters]}\n{name[letters:]}" if len(name) > letters else name
