"""Batches of samples, read by processes that stay from one epoch to the next."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from wsi_maxmin.data._dataset import Draw, Item, SampleDataset
from wsi_maxmin.errors import WsiMaxminError
from wsi_maxmin.progress import Progress

_FORKS = sys.platform == "linux"

Collate = Callable[[Sequence[Item]], Any]


def keep_images(dataset: SampleDataset, *, workers: int, limit_mb: int, progress: Progress) -> None:
    """Hold decoded images in memory, if the processes that load are going to share them.

    Raises
    ------
    InputError
        If an image cannot be read.
    """
    if _FORKS or not workers:
        dataset.keep(limit_mb * 2**20, progress)


class Batches:
    """A loader that is told, each time, which samples to put together.

    Parameters
    ----------
    dataset : SampleDataset
    workers : int
        Processes; 0 reads in the calling one.
    collate : callable
        Makes a batch of a list of items.
    pin : bool
        Put batches where a GPU can fetch them by itself.
    """

    def __init__(self, dataset: SampleDataset, *, workers: int, collate: Collate, pin: bool = False) -> None:
        self._order = _Order()
        # Else a process that was itself spawned, as the second of several devices is, would spawn its loaders.
        context = "fork" if workers and _FORKS else None
        self._loader: DataLoader[Any] = DataLoader(
            _Reading(dataset),
            batch_sampler=self._order,
            num_workers=workers,
            multiprocessing_context=context,
            collate_fn=_Collating(collate),
            pin_memory=pin,
            persistent_workers=workers > 0,
            worker_init_fn=_leave_interrupts,
            # Else it draws from the global generator: once a run with processes that stay, once more after a resume.
            generator=torch.Generator(),
        )

    def load(self, batches: Sequence[Sequence[Draw]]) -> Iterator[Any]:
        """Yield batches of these samples, in this order.

        Raises
        ------
        InputError, SlideError
            If a sample cannot be read.
        """
        self._order.batches = batches
        for batch in self._loader:
            if isinstance(batch, WsiMaxminError):
                raise batch
            yield batch


class _Order:
    """The batches of the epoch under way, as the torch loader asks for them."""

    def __init__(self) -> None:
        self.batches: Sequence[Sequence[Draw]] = ()

    def __iter__(self) -> Iterator[list[Draw]]:
        return map(list, self.batches)


class _Reading(Dataset[Item | WsiMaxminError]):
    """Samples, or why one cannot be read: a loader process would bury the message in its traceback."""

    def __init__(self, samples: SampleDataset) -> None:
        self._samples = samples

    def __getitem__(self, key: Draw) -> Item | WsiMaxminError:
        try:
            return self._samples[key]
        except WsiMaxminError as error:
            return error


class _Collating:
    """Pass errors on, those of reading and those of putting together."""

    def __init__(self, collate: Collate) -> None:
        self._collate = collate

    def __call__(self, items: Sequence[Item | WsiMaxminError]) -> Any:
        read = [item for item in items if isinstance(item, Item)]
        for item in items:
            if isinstance(item, WsiMaxminError):
                return item
        try:
            return self._collate(read)
        except WsiMaxminError as error:
            return error


def _leave_interrupts(_: int) -> None:
    """Leave Ctrl-C to the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
