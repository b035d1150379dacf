"""Processes that train one model together, each on its own share of every batch: torch's DistributedDataParallel.

Two ways lead there. ``training.devices: N`` makes the process that was started the first rank; it starts the others on
the same machine. ``torchrun`` starts all of them, on any number of machines, and tells each its rank.
"""

import inspect
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import InputError

# The older name is deprecated, the newer one unknown to older torch.
_BUFFERS = "forward_sync_buffers"
_LEAVE_BUFFERS = _BUFFERS if _BUFFERS in inspect.signature(DistributedDataParallel).parameters else "broadcast_buffers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The place of a process among those that train together.

    Attributes
    ----------
    rank, count : int
        Its number, and how many there are. The first alone reports and writes.
    place : int
        Its number on this machine, which is that of its GPU.
    torchrun : bool
        Whether torchrun started it.
    """

    rank: int = 0
    count: int = 1
    place: int = 0
    torchrun: bool = False

    @property
    def first(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a network whose backward pass averages gradients over all ranks."""
        if self.count == 1:
            return model
        # Buffers are averaged once an epoch; by default the first rank's would replace the others' at every pass.
        options: dict[str, Any] = {_LEAVE_BUFFERS: False}
        wrapped: nn.Module = DistributedDataParallel(model, gradient_as_bucket_view=True, **options)
        return wrapped

    def hold_back(self, network: nn.Module, *, until_later: bool) -> AbstractContextManager[None]:
        """Keep the gradients of a batch to this rank, as long as its step has more batches to come."""
        held: AbstractContextManager[None] = network.no_sync() if until_later and self.count > 1 else nullcontext()  # type: ignore[operator]
        return held

    def total(self, values: Tensor) -> Tensor:
        """Add up values over all ranks."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def agree(self, decision: bool, device: torch.device) -> bool:
        """Return the first rank's decision."""
        return bool(self.total(torch.tensor([int(decision and self.first)], device=device))[0])

    @torch.no_grad()
    def average_buffers(self, model: nn.Module) -> None:
        """Replace running statistics by their mean over all ranks: what each would have, had it averaged every batch.

        They are exponential means, and so linear in what every batch adds.
        """
        buffers = [value for value in model.buffers() if value.is_floating_point()]
        if self.count == 1 or not buffers:
            return
        # In float64 the mean of equal values is that value: what does not depend on data stays as it is.
        mean = self.total(torch.cat([value.double().flatten() for value in buffers])) / self.count
        for value, part in zip(buffers, mean.split([value.numel() for value in buffers]), strict=True):
            value.copy_(part.view(value.shape))


ALONE = Ranks()


def plan_ranks(devices: int, device: str) -> tuple[Ranks, torch.device]:
    """Return this process's place and device, before any other process has been started.

    Parameters
    ----------
    devices : int
        What the config asks for; 1 leaves it to torchrun, if that started this process.
    device : str
        As `pick_device` takes it.

    Raises
    ------
    InputError
        If there are not so many devices, or torchrun started another number of processes.
    """
    ranks = _told_by_torchrun()
    if ranks is not None and devices not in (1, ranks.count):
        raise InputError(
            "torchrun started another number of processes than the config asks for",
            got=f"{ranks.count}, and training.devices={devices}",
            remedy="leave training.devices out",
        )
    picked = pick_device(device)
    needed = ranks.place + 1 if ranks is not None else devices
    ranks = ranks or Ranks(count=devices)
    if ranks.count == 1:
        return ranks, picked
    here = torch.cuda.device_count()
    if picked.type not in ("cpu", "cuda") or ":" in device or (picked.type == "cuda" and here < needed):
        raise InputError(
            "so many devices are not here",
            got=f"{needed} times --device {device}; the number of GPUs is {here}",
            remedy="--set training.devices=1, or --device cuda without a number",
        )
    return ranks, device_of(ranks, picked)


def _told_by_torchrun() -> Ranks | None:
    try:
        rank, count, place = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except KeyError:
        return None
    return Ranks(rank=rank, count=count, place=place, torchrun=True)


def device_of(ranks: Ranks, kind: torch.device) -> torch.device:
    return torch.device(kind.type, ranks.place) if kind.type == "cuda" else kind
