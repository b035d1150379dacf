"""Several trainings: a row each with its scores, and their curves side by side."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from wsi_maxmin.reports._about import settings_section
from wsi_maxmin.reports._parts import Charts, Column, Highlights, Note, Part, Report, Request, Section, Table
from wsi_maxmin.reports.training import curve
from wsi_maxmin.run_results import GATHERED, RunResult, is_finished, read_runs
from wsi_maxmin.runinfo import RUN_FILE, command_of

EXPECTED = "several trainings, or what was gathered of them"
_COLUMNS = (
    ("Training", None), ("Method", None), ("Seed", 0), ("Scored on", None), ("Error, %", 2), ("F1+, %", 2),
    ("F1−, %", 2), ("Area, %", 1), ("Best epoch", 0), ("Epochs", 0), ("Time, min", 1),
)  # fmt: skip
_CURVES = (("loss_total", "Total loss"), ("valid_accuracy", "Validation accuracy"))


def is_one(folder: Path) -> bool:
    """Say whether trainings lie in a folder, or were gathered there."""
    return (folder / GATHERED).is_file() or (command_of(folder) is None and bool(_trainings(folder)))


def describe(folder: Path, request: Request) -> Report:  # noqa: ARG001
    """Return what is known of the trainings that are finished.

    Raises
    ------
    InputError
        If a file of one is damaged.
    """
    gathered = (folder / GATHERED).is_file()
    unfinished = [] if gathered else [path.name for path in _trainings(folder) if not is_finished(path)]
    runs = read_runs([folder] if gathered else _trainings(folder))
    found = [
        Section(anchor="summary", title="Summary", parts=_summary(folder, runs, unfinished)),
        Section(anchor="trainings", title="Trainings", parts=[_table(runs)] if runs else []),
        *(Section(anchor=key, title=title, parts=_charts(runs, key)) for key, title in _CURVES),
        settings_section({_called(run): dict(run.settings) for run in runs}, {"packages": _packages(runs)}),
    ]
    return Report(
        title=folder.resolve().name, what="Trainings", sections=[section for section in found if section.parts]
    )


def _trainings(folder: Path) -> list[Path]:
    below = sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))
    return [path for path in below if command_of(path) == "train"]


def _summary(folder: Path, runs: Sequence[RunResult], unfinished: Sequence[str]) -> list[Part]:
    said = f"Not finished, and left out: {', '.join(unfinished)}. wsi-maxmin train … --resume goes on."
    scored = sum(run.scores is not None for run in runs)
    rows = [("Finished", f"{len(runs):,} of {len(runs) + len(unfinished):,}"), ("Scored", f"{scored:,}")]
    tables = f"wsi-maxmin reproduce DATASET --tables-only --runs {shlex.quote(str(folder))} --out TABLES"
    return [
        *([Note(text=said, warning=True)] if unfinished else []),
        Highlights(rows=rows),
        Note(text=f"Means over seeds, beside the paper's scores, are made by {tables}."),
    ]


def _table(runs: Sequence[RunResult]) -> Table:
    caption = f"{len(runs):,} trainings; area is the share of pixels that the mask calls foreground"
    columns = [Column(name=name, digits=digits) for name, digits in _COLUMNS]
    return Table(caption=caption, columns=columns, rows=[_row(run) for run in runs])


def _row(run: RunResult) -> list[str | float | None]:
    scores = run.scores or {}
    area = scores.get("predicted_fraction")
    on = " ".join(str(scores[key]) for key in ("samples", "split") if key in scores)
    return [
        run.name,
        (run.settings.get("model") or {}).get("name"),
        run.seed,
        on or None,
        *(scores.get(key) for key in ("error", "f1_foreground", "f1_background")),
        None if area is None else 100 * area,
        run.best_epoch or None,
        len(run.epochs) or None,
        run.seconds / 60 if run.epochs else None,
    ]


def _charts(runs: Sequence[RunResult], key: str) -> list[Part]:
    having = [run for run in runs if any(key in epoch for epoch in run.epochs)]
    drawn = [chart for run in having if (chart := curve(run, key, title=_called(run))) is not None]
    return [Note(text="The dashed line is the best epoch, which was kept."), Charts(charts=drawn)] if drawn else []


def _called(run: RunResult) -> str:
    return f"{run.name}, seed {run.seed}"


def _packages(runs: Sequence[RunResult]) -> dict[str, str]:
    """Return the versions of the packages, several where trainings differ."""
    names = dict.fromkeys(name for run in runs for name in run.packages)
    return {
        name: ", ".join(dict.fromkeys(run.packages[name] for run in runs if name in run.packages)) for name in names
    }
