"""In what finished runs differ from the paper's: settings, images, seeds, versions, devices."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsi_maxmin.config import EncoderConfig, load_config
from wsi_maxmin.paper._protocol import Protocol
from wsi_maxmin.run_results import RunResult

NAMED_BY = ("command", "name", "summary", "notes", "seed")
"""Settings that name a run and do not decide what a row is."""

_THRESHOLD = 0.5
_PACKAGES = ("torch", "torchvision", "timm")
# Scores say which images they are of.
_LEFT_OUT = {*NAMED_BY, "data.test"}
# Told as one: its options are no settings of ours.
_WHOLE = ("model.encoder",)

Rows = Mapping[str, Sequence[RunResult]]
"""Title of each row, and its runs."""


def images_scored(run: RunResult) -> tuple[str, int]:
    """Return the split that a run's scores are of, and its number of images."""
    scores = run.scores or {}
    # A method without classes has no samples that count for an error.
    return scores["split"], scores["samples"] or scores["masks"]


def what_differs(rows: Rows, protocol: Protocol) -> tuple[str, ...]:
    """Say in what the runs behind the rows of a table differ from the paper's, a sentence each."""
    found = _Found(rows)
    for run in found.runs:
        for what in (*_of_scores(run, protocol), *_of_settings(run, protocol)):
            found.add(what, run)
    return (*found.sentences(), *_made_with(rows))


class _Found:
    """Differences, and the runs that have each."""

    def __init__(self, rows: Rows) -> None:
        self._rows = {title: list(runs) for title, runs in rows.items() if runs}
        self._of: dict[str, list[RunResult]] = {}

    @property
    def runs(self) -> list[RunResult]:
        return [run for runs in self._rows.values() for run in runs]

    def add(self, what: str, run: RunResult) -> None:
        self._of.setdefault(what, []).append(run)

    def sentences(self) -> Iterable[str]:
        for what, having in self._of.items():
            yield f"{what}: {self._who(having)}."

    def _who(self, having: Sequence[RunResult]) -> str:
        """Name the rows, and their seeds where only some of them are meant."""
        meant = {id(run) for run in having}
        if all(id(run) in meant for run in self.runs):
            return "every row that was run"
        if all(id(run) in meant for run in self.runs if run.epochs):
            return "every row that was trained"
        named = []
        for title, runs in self._rows.items():
            mine = [run for run in runs if id(run) in meant]
            seeds = "" if len(mine) == len(runs) else f" (seed {', '.join(str(run.seed) for run in mine)})"
            named += [f"{title}{seeds}"] if mine else []
        return ", ".join(named)


def _of_scores(run: RunResult, protocol: Protocol) -> Iterable[str]:
    scores = run.scores or {}
    split, count = images_scored(run)
    paper = f"the paper's figures are of its {protocol.test_images:,} test images"
    if split == "valid":
        yield f"Scored on {count:,} validation images, which also choose the epoch; {paper}, so they do not compare"
    elif split == "train":
        yield f"Scored on {count:,} images that were learnt from; {paper}, so they do not compare"
    elif count != protocol.test_images:
        yield f"Scored on {count:,} test images; {paper}"
    labels = {"true": "true", "predicted": "predicted", "none": "positive"}
    if scores["label_source"] != protocol.label_source:
        mine, theirs = labels[scores["label_source"]], labels[protocol.label_source]
        yield f"Class maps, where a method has them, are those of the {mine} label, the paper's of the {theirs} one"
    if scores["threshold"] != _THRESHOLD:
        yield f"Masks are binarised at {scores['threshold']}, the paper's at {_THRESHOLD}"


def _of_settings(run: RunResult, protocol: Protocol) -> Iterable[str]:
    """Compare with the row's config as it ships, read by the paper's lists."""
    ordered = next(ordered for ordered in protocol.order if ordered.run == run.name)
    if not ordered.trained:
        return
    lists = [f"data.{split}={path}" for split, path in protocol.lists if path is not None]
    config = load_config(protocol.config_of(run.name), lists)
    mine, shipped = dict(_leaves(run.settings)), dict(_leaves(config.identity()))
    for key in sorted({*mine, *shipped} - _LEFT_OUT):
        # What a run of an earlier version did not know yet it did as the default does.
        told = key in mine or key.startswith("model.params.")
        if told and mine.get(key) != shipped.get(key):
            yield f"`{key}` is {_said(mine.get(key))}, not {_said(shipped.get(key))} as in the config of the row"
    if len(run.epochs) != config.training.epochs:
        yield f"`training.epochs` is {len(run.epochs)}, not {config.training.epochs} as in the config of the row"
    encoder = run.settings["model"]["encoder"]
    started = encoder["weights"] == "none" and not run.settings["training"].get("start_from")
    if started and config.model.encoder != EncoderConfig():
        yield "The encoder starts from random weights, the paper's from those of ImageNet"


def _made_with(rows: Rows) -> Iterable[str]:
    runs = [run for of_row in rows.values() for run in of_row]
    if not runs:
        return
    seeds = sorted({len(of_row) for of_row in rows.values() if of_row})
    yield f"Seeds a row: {' or '.join(map(str, seeds))}; the paper does not say which or how many it took."
    trained = [run for run in runs if run.epochs] or runs
    packages = {name: sorted({run.packages[name] for run in trained if name in run.packages}) for name in _PACKAGES}
    versions = ", ".join(f"{name} {' and '.join(found)}" for name, found in packages.items() if found)
    devices = " and ".join(sorted({run.device for run in trained}))
    yield f"Trained on {devices} with {versions}."


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and name not in _WHOLE:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _said(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, Mapping):
        options = ", ".join(f"{key}={option}" for key, option in (value.get("options") or {}).items())
        frozen = "frozen statistics" if value.get("freeze_norm") else ""
        weights = f"weights {value.get('weights')}"
        return f"({', '.join(part for part in (value.get('name'), options, weights, frozen) if part)})"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_said, value))})"
    return str(value)
