"""One row of the paper's tables with one seed, in a folder of its own: trained or made without training, and scored."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from wsi_maxmin.config import EncoderConfig, RunConfig, load_config
from wsi_maxmin.data import Split
from wsi_maxmin.paper import OrderedRun, Protocol
from wsi_maxmin.pipelines._scoring import LabelSource
from wsi_maxmin.pipelines.evaluate import SCORES, EvaluateSettings, evaluate_model
from wsi_maxmin.pipelines.train import train_model
from wsi_maxmin.progress import Progress
from wsi_maxmin.run_results import SCORES_FOLDER
from wsi_maxmin.runinfo import RUN_FILE, digest, environment, read_json, write_json, write_text
from wsi_maxmin.training import BEST, METRICS, TrainingResult

_WEIGHTS = "weights_digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What all runs share.

    Attributes
    ----------
    protocol : Protocol
    data : Path
    folder : Path
        Of the folders of the runs.
    overrides : tuple of str
        Of every config, ``key.sub=value``.
    device : torch.device
    split : {"train", "valid", "test"}
        That is scored.
    label_source : {"true", "predicted"}
    """

    protocol: Protocol
    data: Path
    folder: Path
    overrides: tuple[str, ...]
    device: torch.device
    split: Split
    label_source: LabelSource

    def lists(self, *splits: Split) -> list[str]:
        """Return overrides that take the paper's lists of these splits, as far as the data have them."""
        named = [(split, getattr(self.protocol.lists, split)) for split in splits]
        return [f"data.{split}={path}" for split, path in named if path is not None and (self.data / path).is_file()]

    def reading(self) -> list[str]:
        """Return the overrides that say how the data are read for scoring."""
        own = [override for override in self.overrides if override.startswith("data.")]
        return [*self.lists("train", "valid", "test"), *own]

    def on_validation(self) -> "Workplace":
        """Return the same with validation scored."""
        return replace(self, split="valid")


class RowRun:
    """A row of a table with a seed.

    Attributes
    ----------
    ordered : OrderedRun
    seed : int
    name : str
        Of its folder: ``ROW-sSEED``.
    folder : Path
    source : str or None
        Name of the run whose weights it takes.
    """

    def __init__(self, place: Workplace, ordered: OrderedRun, seed: int) -> None:
        self._place = place
        self.ordered, self.seed = ordered, seed
        self.name = f"{ordered.run}-s{seed}"
        self.folder = place.folder / self.name
        self.source = None if ordered.weights_of is None else f"{ordered.weights_of}-s{seed}"
        self.config_name = place.protocol.config_of(ordered.run)

    @property
    def learns(self) -> bool:
        """Whether it has a training of its own."""
        return self.ordered.trained and self.source is None

    def overrides(self) -> list[str]:
        """Return what the row's config is changed by; a choice of encoder is nothing to a method that has none."""
        own = list(self._place.overrides)
        if load_config(self.config_name).model.encoder == EncoderConfig():
            own = [override for override in own if not override.startswith(("encoder=", "model.encoder."))]
        return [*self._place.lists("train", "valid"), *own, f"seed={self.seed}"]

    def config(self) -> RunConfig:
        """Return the config that is asked for."""
        return load_config(self.config_name, self.overrides())

    def settings(self) -> dict[str, Any]:
        """Return what decides the result, as `train` writes it to ``run.json``."""
        return {"command": "train", **self.config().identity()}

    def train(self, *, minutes: float | None, progress: Progress) -> TrainingResult:
        """Train, or go on; the scores of an earlier epoch are removed, unless the training is refused."""
        scores = self.folder / SCORES_FOLDER / SCORES
        limit = [] if minutes is None else [f"training.max_minutes={minutes}"]
        result = train_model(
            self.config_name,
            self._place.data,
            self.folder,
            overrides=[*self.overrides(), *limit],
            device=str(self._place.device),
            existing="resume",
            on_start=lambda: scores.unlink(missing_ok=True),
            progress=progress,
        )
        assert result is not None  # only further processes of torchrun have none
        return result

    def take_weights(self, trained: Path) -> None:
        """Make the model of another run's: its weights, this row's method."""
        source, own = load_checkpoint(trained / BEST), self.config()
        model = source.config.model.model_copy(update={"name": own.model.name, "params": own.model.params})
        config = source.config.model_copy(update={"name": own.name, "summary": own.summary, "model": model})
        checkpoint = Checkpoint(
            config=config,
            weights=source.weights,
            epoch=source.epoch,
            metrics=source.metrics,
            optimizer={},
            facts=source.facts,
        )
        checkpoint.build()
        self._begin()
        save_checkpoint(self.folder / BEST, checkpoint)
        shutil.copyfile(trained / METRICS, self.folder / METRICS)
        facts = read_json(trained / RUN_FILE) or {}
        trained_with = {key: facts.get(key) for key in ("environment", "device")}
        weights = {"weights_of": self.source, _WEIGHTS: digest(trained / BEST)}
        self._finish(config, best_epoch=source.epoch, **trained_with, **weights)

    def has_weights_of(self, trained: Path) -> bool:
        """Say whether the model here was made of the one there, as it is now."""
        return (read_json(self.folder / RUN_FILE) or {}).get(_WEIGHTS) == digest(trained / BEST)

    def make_untrained(self) -> None:
        """Say what the method is; it has no weights and no epochs."""
        self._begin()
        write_text(self.folder / METRICS, "")
        self._finish(self.config(), best_epoch=0, device=self._place.device.type, environment=environment())

    def score(self, *, progress: Progress) -> dict[str, Any]:
        """Score the model of the folder, or of the config where there is nothing to learn."""
        return evaluate_model(
            str(self.folder) if self.ordered.trained else self.config_name,
            self._place.data,
            self._place.split,
            out=self.folder / SCORES_FOLDER,
            overrides=self._place.reading(),
            device=str(self._place.device),
            settings=EvaluateSettings(label_source=self._place.label_source),
            progress=progress,
        )

    def is_scored(self) -> bool:
        """Say whether the scores that are asked for are there."""
        scores = read_json(self.folder / SCORES_FOLDER / SCORES) or {}
        sources = (self._place.label_source, "none")
        return scores.get("split") == self._place.split and scores.get("label_source") in sources

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (RUN_FILE, f"{SCORES_FOLDER}/{SCORES}"):
            (self.folder / name).unlink(missing_ok=True)

    def _finish(self, config: RunConfig, **facts: Any) -> None:
        """Write ``run.json``, in the form of a training's; last, since it says that the rest is there."""
        settings = {"command": "train", **config.identity()}
        write_json(self.folder / RUN_FILE, {"status": "done", "settings": settings, **facts, "epochs": []})


def row_runs(place: Workplace, rows: Iterable[OrderedRun], seeds: Sequence[int]) -> list[RowRun]:
    """Return the runs in order: every row with the first seed, then with the next; what learns nothing has one seed."""
    chosen = tuple(rows)
    return [
        RowRun(place, ordered, seed)
        for index, seed in enumerate(seeds)
        for ordered in chosen
        if ordered.trained or index == 0
    ]
