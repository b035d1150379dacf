"""Train a model as a config says: samples, loop, checkpoint, facts."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
import yaml

from wsi_maxmin.cohort import Existing, claim, locked
from wsi_maxmin.config import RunConfig, load_config
from wsi_maxmin.data import Sample, read_samples
from wsi_maxmin.data._check import check_samples
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import RUN_FILE, Stopwatch, environment, peak_memory_bytes, read_json, write_json
from wsi_maxmin.training import (
    BEST,
    BOARD,
    LAST,
    METRICS,
    EpochTimes,
    Ranks,
    TrainingResult,
    check_method,
    join_ranks,
    plan_ranks,
    train,
)

CONFIG = "config.yaml"


def train_model(
    config: str,
    data: Path,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
    existing: Existing = "refuse",
    on_start: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> TrainingResult | None:
    """Train and write checkpoints, ``metrics.jsonl``, the resolved ``config.yaml`` and ``run.json`` to `out`.

    Data are checked before anything is written; `on_start` is called in between. Of several processes that torchrun
    started, the first does all of that and the others return None.

    Raises
    ------
    InputError, OutputExistsError
        If the config, the data or the device are not usable, or `out` holds a run.
    WorkerDiedError
        If a process that trains beside this one ends.
    """
    run, progress = load_config(config, overrides), progress or Quiet()
    ranks, where = plan_ranks(run.training.devices, device)
    train_samples = read_samples(data, run.data, "train", seed=run.seed)
    valid_samples = read_samples(data, run.data, "valid", seed=run.seed)
    work = partial(_train, run, train_samples, valid_samples, out)
    if not ranks.first:
        with join_ranks(ranks, where, work):
            work(ranks, where)
        return None
    progress.say(
        f"{run.name}: {len(train_samples)} training and {len(valid_samples)} validation samples, on {where}"
        + (f" and {ranks.count - 1} more" if ranks.count > 1 else "")
    )
    with locked(out):
        settings = {"command": "train", **run.identity()}
        fresh = claim(out, settings, existing)
        check_samples(train_samples, valid_samples, run, masks=check_method(run, where), progress=progress)
        if on_start is not None:
            on_start()
        if fresh:
            for name in (BEST, LAST, METRICS, CONFIG, RUN_FILE):
                (out / name).unlink(missing_ok=True)
            shutil.rmtree(out / BOARD, ignore_errors=True)
        resolved = yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (out / CONFIG).write_text(resolved, encoding="utf-8")
        with _RunFile(out, settings, {"device": str(where), "processes": ranks.count}) as run_file:
            with join_ranks(ranks, where, work):
                result = work(ranks, where, progress=progress, on_epoch=run_file.add)
            run_file.finish(result)
    return result


def _train(
    run: RunConfig,
    train_samples: Sequence[Sample],
    valid_samples: Sequence[Sample],
    out: Path,
    ranks: Ranks,
    device: torch.device,
    **reporting: Any,
) -> TrainingResult:
    """Train in one of the processes; a function of a module, so that it reaches those that are started."""
    return train(run, train_samples, valid_samples, out, device=device, ranks=ranks, **reporting)


class _RunFile:
    """``run.json``, true at any moment: settings, versions, how the run ended, how long each epoch took.

    Parameters
    ----------
    out : Path
        An earlier run's file there gives the times of its epochs.
    settings, facts : dict
    """

    def __init__(self, out: Path, settings: dict[str, Any], facts: dict[str, Any]) -> None:
        self._path = out / RUN_FILE
        self._epochs: list[dict[str, Any]] = (read_json(self._path) or {}).get("epochs", [])
        self._facts = {"settings": settings, "environment": environment(), **facts}
        self._watch = Stopwatch()
        self._end = "failed"

    def add(self, times: EpochTimes) -> None:
        """Keep the times of an epoch; one that is done again replaces itself."""
        earlier = [epoch for epoch in self._epochs if epoch["epoch"] < times.epoch]
        self._epochs = [*earlier, asdict(times)]
        self._write("running")

    def finish(self, result: TrainingResult) -> None:
        """Keep what the run has come to, and whether it is all that was asked for."""
        self._end = "stopped" if result.stopped else "done"
        scores = {"best_valid_accuracy": result.accuracy, "best_valid_f1": result.f1}
        self._facts |= {
            "best_epoch": result.epoch,
            **{key: score for key, score in scores.items() if score is not None},
        }

    def __enter__(self) -> Self:
        self._write("running")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._write("interrupted" if kind is KeyboardInterrupt else self._end)

    def _write(self, status: str) -> None:
        measured = {"elapsed_seconds": round(self._watch.elapsed, 1), "peak_memory_bytes": peak_memory_bytes()}
        write_json(self._path, {"status": status, **self._facts, **measured, "epochs": self._epochs})
