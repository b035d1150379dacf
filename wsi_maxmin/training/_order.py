"""Which samples an epoch shows, in which order, to which process, and at which learning rate."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_maxmin.config import TrainingConfig
from wsi_maxmin.data._dataset import Draw
from wsi_maxmin.errors import InputError


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0."""
    return max(config.learning_rate * config.decay ** (epoch // config.decay_every), config.learning_rate_floor)


def epoch_order(labels: Sequence[int], *, balance: bool, seed: int, epoch: int, repeat: int = 1) -> list[int]:
    """Return the order in which an epoch shows the samples; repeated, all of them before any for the next time.

    Balanced, an epoch is as long as before but shows every class equally often (to within one): shuffled samples of a
    rare class come round again, those of a frequent class take turns over the epochs' random orders.
    """
    rng = np.random.default_rng([seed, epoch])
    return [int(index) for _ in range(repeat) for index in _one_round(np.asarray(labels), rng, balance=balance)]


def _one_round(labels: npt.NDArray[np.int64], rng: np.random.Generator, *, balance: bool) -> npt.NDArray[np.int64]:
    indices = np.arange(len(labels))
    if not balance:
        return rng.permutation(indices)
    classes = [indices[labels == label] for label in np.unique(labels)]
    share = math.ceil(len(labels) / len(classes))
    drawn = [
        np.concatenate([rng.permutation(members) for _ in range(math.ceil(share / len(members)))])[:share]
        for members in classes
    ]
    return rng.permutation(np.concatenate(drawn))


def as_draws(order: Sequence[int], epoch: int) -> list[Draw]:
    """Count how often each sample was shown before, so that every showing is augmented in its own way."""
    shown: Counter[int] = Counter()
    draws = []
    for index in order:
        draws.append(Draw(index, epoch, shown[index]))
        shown[index] += 1
    return draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One process's share of a batch.

    Attributes
    ----------
    draws : list of Draw
    weight : float
        Of its mean loss: gradients that are added up over the batches of a step, and averaged over the processes, are
        then those of the mean over all samples of the step.
    of : int
        Samples in the whole batch.
    ends_step : bool
        Whether the optimiser takes its step after it.
    """

    draws: list[Draw]
    weight: float
    of: int
    ends_step: bool


def deal(draws: Sequence[Draw], *, batch_size: int, accumulate: int, rank: int = 0, ranks: int = 1) -> list[Share]:
    """Deal an epoch's samples, each to one process, and return the shares of one of them.

    Every batch takes `batch_size` samples for each process, and every step `accumulate` batches. What is left at the
    end makes a smaller batch; if it is too little for a sample each, it goes into the batch before.

    Raises
    ------
    InputError
        If there are fewer samples than processes.
    """
    if len(draws) < ranks:
        raise InputError("there are fewer training samples than processes", got=f"{len(draws)} for {ranks}")
    size = batch_size * ranks
    starts = list(range(0, len(draws), size))
    if len(draws) - starts[-1] < ranks:
        starts.pop()
    batches = [draws[start:end] for start, end in zip(starts, [*starts[1:], len(draws)], strict=True)]
    shares = []
    for first in range(0, len(batches), accumulate):
        step = batches[first : first + accumulate]
        total = sum(len(batch) for batch in step)
        for number, batch in enumerate(step, start=1):
            low, high = (len(batch) * edge // ranks for edge in (rank, rank + 1))
            weight, ends_step = (high - low) * ranks / total, number == len(step)
            shares.append(Share(draws=list(batch[low:high]), weight=weight, of=len(batch), ends_step=ends_step))
    return shares
