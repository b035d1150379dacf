"""A training: what on what, how it went, and its scores where it was evaluated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from wsi_maxmin.reports import evaluation
from wsi_maxmin.reports._about import duration, gibibytes, percent, settings_section
from wsi_maxmin.reports._charts import Chart, Line, divide, draw
from wsi_maxmin.reports._parts import Bars, Charts, Facts, Highlights, Note, Part, Report, Request, Section
from wsi_maxmin.run_results import SCORES_FOLDER, RunResult, read_run
from wsi_maxmin.runinfo import RUN_FILE, command_of, read_json

EXPECTED = "a training (train)"
_CONFIG = "config.yaml"
_ENDS = {
    "stopped": "Stopped at its time limit",
    "interrupted": "Interrupted",
    "failed": "Failed",
    "running": "Not ended: still running, or ended without a word",
}
_SHOWN = {"valid_accuracy": "validation accuracy, %", "valid_f1": "validation F1, %", "learning_rate": "learning rate"}


def is_one(folder: Path) -> bool:
    """Say whether `train` wrote here."""
    return command_of(folder) == "train"


def describe(folder: Path, request: Request) -> Report:  # noqa: ARG001
    """Return what is known of a training, finished or not.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    run, facts = read_run(folder, unfinished=True), read_json(folder / RUN_FILE) or {}
    config = folder / _CONFIG
    resolved = config.read_text(encoding="utf-8") if config.is_file() else None
    scored = [] if run.scores is None else evaluation.sections(folder / SCORES_FOLDER, run.scores, run.images)
    found = [
        Section(anchor="summary", title="Summary", parts=_summary(run, facts, _epochs_asked(resolved))),
        Section(anchor="curves", title="Training curves", parts=_curves(run)),
        *scored,
        Section(anchor="time", title="Where the time went", parts=_time(facts)),
        settings_section(resolved or run.settings, facts.get("environment", {})),
    ]
    return Report(
        title=folder.resolve().name, what="Training", sections=[section for section in found if section.parts]
    )


def _epochs_asked(config: str | None) -> int | None:
    try:
        values = yaml.safe_load(config or "")
        return int(values["training"]["epochs"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def _summary(run: RunResult, facts: Mapping[str, Any], asked: int | None) -> list[Part]:
    settings, done = run.settings, len(run.epochs)
    parts: list[Part] = []
    if (status := facts.get("status")) != "done":
        of = f" of {asked}" if asked else ""
        parts.append(
            Note(
                text=f"{_ENDS.get(str(status), str(status))}: {done}{of} epochs are done. "
                "wsi-maxmin train … --resume goes on.",
                warning=True,
            )
        )
    if run.scores is None:
        parts.append(Note(text="Not evaluated: wsi-maxmin evaluate RUN --data DIR --out RUN/scores adds its scores."))
    best = run.epochs[run.best_epoch - 1] if 0 < run.best_epoch <= done else {}
    rows = [("Best epoch", f"{run.best_epoch} of {asked or done}" if run.best_epoch else "–")]
    rows += [
        (name, percent(best[key]))
        for name, key in (("Validation accuracy", "valid_accuracy"), ("Validation F1", "valid_f1"))
        if best.get(key) is not None
    ]
    rows += evaluation.highlights(run.scores or {})
    rows.append(("Training and validation", duration(run.seconds)))
    return [*parts, Highlights(rows=rows), Facts(rows=_facts(run, facts, settings)), *_notes(settings)]


def _notes(settings: Mapping[str, Any]) -> list[Part]:
    """Return what the config says of its data's licence and the like."""
    return [Note(text=str(settings["notes"]))] if settings.get("notes") else []


def _facts(run: RunResult, facts: Mapping[str, Any], settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, model = (settings.get(key) or {} for key in ("data", "model"))
    encoder = model.get("encoder") or {}
    return [
        ("What", str(settings.get("summary") or "")),
        ("Method", str(model.get("name") or "")),
        ("Encoder", str(encoder.get("name") or "")),
        ("Begins with", str(encoder.get("weights") or "")),
        ("Data", str(data.get("format") or "")),
        ("Trained on", str(data.get("train") or "")),
        ("Validated on", str(data.get("valid") or "")),
        ("Classes", ", ".join(map(str, data.get("classes") or ()))),
        ("Positive class", str(data.get("positive") or "")),
        ("Seed", str(run.seed)),
        ("Device", run.device + (f", {facts['processes']} processes" if facts.get("processes", 1) > 1 else "")),
        ("Peak memory", gibibytes(facts.get("peak_memory_bytes"))),
        ("Model", f"{run.model.name}, {run.model.stat().st_size / 1e6:.1f} MB" if run.model else "not kept"),
    ]


def _curves(run: RunResult) -> list[Part]:
    keys = dict.fromkeys(key for epoch in run.epochs for key in epoch)
    wanted = [key for key in keys if key.startswith("loss_")] + [key for key in _SHOWN if key in keys]
    charts = [chart for key in wanted if (chart := curve(run, key)) is not None]
    if not charts:
        return []
    note = "Losses are means over the training images of an epoch; the dashed line is the best epoch, which was kept."
    return [Note(text=note), Charts(charts=charts)]


def curve(run: RunResult, key: str, *, title: str = "") -> Chart | None:
    """Return a value of each epoch as a chart, titled by what it is unless told otherwise."""
    # An accuracy is null where nothing was classified.
    values = [float("nan") if (value := epoch.get(key)) is None else value for epoch in run.epochs]
    name = _SHOWN.get(key) or f"loss, {key.removeprefix('loss_')}"
    return draw(
        title or name.capitalize().replace("f1", "F1"),
        [Line(name=name, x=range(1, len(values) + 1), y=values)],
        x_name="epoch",
        y_name=name,
        x_range=(1, max(len(values), 2)),
        y_range=(0, 100) if name.endswith("%") else None,
        rule=run.best_epoch or None,
        whole=True,
    )


def _time(facts: Mapping[str, Any]) -> list[Part]:
    epochs = facts.get("epochs") or []
    stages = [(name, sum(epoch[f"{key}_seconds"] for epoch in epochs)) for name, key in _STAGES]
    bar = divide(stages, "s")
    if bar is None:
        return []
    rates = sorted(epoch["images_per_second"] for epoch in epochs if "images_per_second" in epoch)
    rows = [("Images a second", f"{rates[len(rates) // 2]:.1f} (median over epochs, training)")] if rates else []
    return [Bars(bar=bar), Facts(rows=rows)]


_STAGES = (("training", "train"), ("validation", "valid"))
