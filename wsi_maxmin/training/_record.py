"""What a training says of itself: losses of an epoch, a line of JSON for each, and TensorBoard's files."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_maxmin.errors import DivergedError, MissingExtraError
from wsi_maxmin.losses import LossTerms

METRICS = "metrics.jsonl"
BOARD = "tensorboard"

_LOOK_EVERY_S = 0.5


class Losses:
    """Means of an epoch's loss terms, over samples.

    They add up on the device: to look at each of them would make the device wait for this process after every batch.

    Parameters
    ----------
    device : torch.device
    epoch : int
        Counted from 1.

    Attributes
    ----------
    sums : (terms,) float
        Sums over the samples, the total first.
    """

    def __init__(self, device: torch.device, epoch: int) -> None:
        # The one kind of device that has no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._epoch = epoch
        self.sums = torch.zeros(0, dtype=dtype, device=device)
        self._names: list[str] = []
        self._newest: LossTerms | None = None
        self._note, self._noted = "", 0.0

    def add(self, terms: LossTerms, samples: int) -> None:
        """Add the terms of a batch."""
        self._newest = terms
        values = torch.stack([terms.total.detach(), *terms.terms.values()]).to(self.sums.dtype) * samples
        if not self._names:
            self._names = ["total", *terms.terms]
            self.sums = torch.zeros_like(values)
        self.sums += values

    def note(self) -> str:
        """Return a loss of this half second, to be shown.

        Raises
        ------
        DivergedError
            If the losses are no longer numbers.
        """
        now = time.monotonic()
        if self._newest is not None and now - self._noted >= _LOOK_EVERY_S:
            self._note, self._noted = f"loss {float(self._newest.total.detach()):.3f}", now
            self.check(self.sums)
        return self._note

    def check(self, sums: Tensor) -> None:
        """Raise DivergedError if sums of the losses are not numbers."""
        if self._newest is not None and not math.isfinite(float(sums[0])):
            raise DivergedError(
                f"the loss is not a number in epoch {self._epoch}",
                got=str({name: float(value) for name, value in self._newest.terms.items()}),
                remedy="lower training.learning_rate",
            )

    def means(self, sums: Tensor, samples: int) -> dict[str, float]:
        """Return named means of sums over samples.

        Raises
        ------
        DivergedError
            If one is not a number.
        """
        self.check(sums)
        return {f"loss_{name}": value / samples for name, value in zip(self._names, sums.tolist(), strict=True)}


class Record:
    """``metrics.jsonl``, and TensorBoard's files where asked for; they hold an epoch once, also after a resume.

    Parameters
    ----------
    out : Path
    done : int
        Epochs that the run goes on after.
    tensorboard : bool

    Raises
    ------
    MissingExtraError
        If TensorBoard is asked for and not installed.
    """

    def __init__(self, out: Path, *, done: int, tensorboard: bool) -> None:
        self._log = out / METRICS
        # What it holds of later epochs, from before an interruption, is not shown.
        self._board = find_board()(str(out / BOARD), purge_step=done + 1) if tensorboard else None
        # A run that was stopped between the two writes has logged an epoch that its checkpoint lacks.
        logged = self._log.read_text(encoding="utf-8").splitlines(keepends=True) if self._log.is_file() else []
        self._log.write_text("".join(logged[:done]), encoding="utf-8")

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of one epoch."""
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(metrics) + "\n")
        if self._board is not None:
            for name, value in metrics.items():
                if name != "epoch" and value is not None:
                    self._board.add_scalar(name, value, metrics["epoch"])
            self._board.flush()

    def close(self) -> None:
        """Close what is open."""
        if self._board is not None:
            self._board.close()


def find_board() -> Any:
    """Return the class that writes TensorBoard's files.

    Raises
    ------
    MissingExtraError
        If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError(
            "training.tensorboard needs a package that is not installed",
            got="no tensorboard",
            remedy='pip install "wsi-maxmin[tensorboard]", or --set training.tensorboard=false',
        ) from None
    return SummaryWriter
