"""The loop over epochs, and what each of them leaves."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wsi_maxmin.checkpoint import save_checkpoint
from wsi_maxmin.config import RunConfig
from wsi_maxmin.data import Sample
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import environment
from wsi_maxmin.training._epoch import Trainer
from wsi_maxmin.training._order import learning_rate
from wsi_maxmin.training._ranks import ALONE, Ranks
from wsi_maxmin.training._record import Record
from wsi_maxmin.training._state import Training, start
from wsi_maxmin.training._validation import Validator

BEST = "model.safetensors"
LAST = "last.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training leaves.

    Attributes
    ----------
    model : Path
        Checkpoint of the best epoch.
    epoch : int
        That epoch, counted from 1.
    accuracy : float or None
        Its validation accuracy, per cent; None where the best epoch was not chosen by it.
    f1 : float or None
        Mean of its F1+ and F1− on validation, per cent, of a method that learns from masks.
    done : int
        Epochs done.
    stopped : bool
        Whether ``training.max_minutes`` ended the run before its last epoch.
    """

    model: Path
    epoch: int
    accuracy: float | None
    f1: float | None = None
    done: int
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochTimes:
    """How long an epoch took.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    train_seconds, valid_seconds : float
    images_per_second : float
        Training samples, of all processes together.
    """

    epoch: int
    train_seconds: float
    valid_seconds: float
    images_per_second: float


def train(
    config: RunConfig,
    train_samples: Sequence[Sample],
    valid_samples: Sequence[Sample],
    out: Path,
    *,
    device: torch.device,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    on_epoch: Callable[[EpochTimes], None] | None = None,
) -> TrainingResult:
    """Train, and keep the epoch of the best validation score, ties to the latest.

    The score is the accuracy; for a method that learns from masks it is the mean of F1+ and F1−, and where a method
    gives no classes the last epoch is kept. Only a method of the former kind has masks opened. If `out` holds
    ``last.safetensors`` of the same config, training goes on after it, with the same result (on a CPU to the bit) as if
    it had never stopped.

    Parameters
    ----------
    config : RunConfig
    train_samples, valid_samples : sequence of Sample
    out : Path
        An existing folder.
    device : torch.device
    ranks : Ranks
        All ranks call this alike; the first writes.
    progress : Progress, optional
    on_epoch : callable, optional
        Told how long each epoch took.

    Raises
    ------
    DivergedError
        If the loss is no longer a number.
    InputError
        If a sample cannot be read, or the device cannot compute as the config says.
    MissingExtraError
        If TensorBoard is asked for and not installed.
    OutputExistsError
        If `out` holds a run of another config.
    """
    progress = progress or Quiet()
    training = start(config, device, ranks, out / LAST)
    trainer = Trainer(training, train_samples, progress)
    validator = Validator(training, valid_samples, progress)
    facts = {"environment": environment(), "train": len(train_samples), "valid": len(valid_samples)}
    limit = _Limit(config.training.max_minutes)
    with _recording(training, out) as record:
        while training.done < config.training.epochs:
            metrics, times = _epoch(training, trainer, validator, progress)
            if record is not None:
                _keep(training, metrics, facts, out, record)
            if on_epoch is not None:
                on_epoch(times)
            if ranks.agree(limit.ends_before_the_next(), device):
                break
    best = {training.score_name: training.best.score}
    return TrainingResult(
        model=out / BEST,
        epoch=training.best.epoch,
        accuracy=best.get("accuracy"),
        f1=best.get("f1"),
        done=training.done,
        stopped=training.done < config.training.epochs,
    )


def _epoch(
    training: Training, trainer: Trainer, validator: Validator, progress: Progress
) -> tuple[dict[str, Any], EpochTimes]:
    """Train and validate once; return the metrics and how long it took."""
    began = time.monotonic()
    rate = learning_rate(training.config.training, training.done)
    for group in training.optimizer.param_groups:
        group["lr"] = rate
    losses, shown = trainer.run(training.done, progress)
    training.ranks.average_buffers(training.model)
    training.model.end_epoch()
    trained = time.monotonic()
    scores = validator.run()
    training.done += 1
    name = training.score_name
    training.best.update(training.done, scores[f"valid_{name}"])
    best = {f"best_{name}": training.best.score, "best_epoch": training.best.epoch}
    times = EpochTimes(
        epoch=training.done,
        train_seconds=round(trained - began, 3),
        valid_seconds=round(time.monotonic() - trained, 3),
        images_per_second=round(shown / (trained - began), 2),
    )
    return {"epoch": training.done, "learning_rate": rate, **losses, **scores, **best}, times


def _keep(training: Training, metrics: dict[str, Any], facts: dict[str, Any], out: Path, record: Record) -> None:
    """Write what an epoch leaves: last the checkpoint that a resumed run goes by."""
    checkpoint = training.checkpoint(metrics, facts)
    if training.best.epoch == training.done:
        save_checkpoint(out / BEST, checkpoint)
    record.add(metrics)
    save_checkpoint(out / LAST, checkpoint)


@contextmanager
def _recording(training: Training, out: Path) -> Iterator[Record | None]:
    if not training.ranks.first:
        yield None
        return
    with closing(Record(out, done=training.done, tensorboard=training.config.training.tensorboard)) as record:
        yield record


class _Limit:
    """Tells when to stop, so that an epoch is not cut off: a job that is killed loses the epoch under way."""

    def __init__(self, minutes: float | None) -> None:
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._last, self._longest = time.monotonic(), 0.0

    def ends_before_the_next(self) -> bool:
        """Say, at the end of an epoch, whether the time left is less than the longest one took."""
        now = time.monotonic()
        self._last, self._longest = now, max(self._longest, now - self._last)
        return now + self._longest > self._end
