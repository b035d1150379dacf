"""What every engine does: take tiles, and give soft masks and class scores, now or a little later."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class Outputs(NamedTuple):
    """What a model says of tiles, as tile maps keep it.

    Attributes
    ----------
    masks : (B, 1, h, w) float16 in [0, 1]
        Soft masks, averaged over `downsample`² pixels; of a classifier without masks (B, 0, h, w).
    logits : (B, K) float32
        Class scores; of a method without classes (B, 0).
    """

    masks: npt.NDArray[np.float16]
    logits: npt.NDArray[np.float32]


class Pending(Protocol):
    """Outputs that are under way."""

    def __call__(self) -> Outputs:
        """Wait for them."""


class DeviceTimes(NamedTuple):
    """How long a device has worked so far.

    Attributes
    ----------
    computing : float
        Seconds in which it computed for at least one tile.
    transfer : float
        Seconds in which pixels went to a GPU or outputs came back.
    """

    computing: float
    transfer: float


class Meter:
    """Measures how long a device computes; any number of threads may tell it.

    A GPU's own clock measures from the first kernel of a batch to its last, gaps between them included, and each copy.
    On a CPU the device computes while a tile is in the engine, however many are there at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tiles = 0
        self._since = 0.0
        self._computing = 0.0
        self._transfer = 0.0

    def begin(self) -> None:
        """Say that a tile goes into the engine."""
        with self._lock:
            if not self._tiles:
                self._since = time.perf_counter()
            self._tiles += 1

    def end(self) -> None:
        """Say that it has come out."""
        with self._lock:
            self._tiles -= 1
            if not self._tiles:
                self._computing += time.perf_counter() - self._since

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Say so of a block."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def add(self, *, computing: float, transfer: float) -> None:
        """Add seconds that a device's own clock has measured."""
        with self._lock:
            self._computing += computing
            self._transfer += transfer

    def read(self) -> DeviceTimes:
        """Return the seconds so far."""
        with self._lock:
            running = time.perf_counter() - self._since if self._tiles else 0.0
            return DeviceTimes(self._computing + running, self._transfer)


class Engine(ABC):
    """A model that is ready to run.

    Attributes
    ----------
    name, precision : str
    depth : int
        Batches that may be under way at once: so many `submit` before the first is waited for.
    meter : Meter
        Told by the engine when it computes.
    """

    name: str
    precision: str
    depth: int = 1
    meter: Meter

    def __new__(cls, *_: object, **__: object) -> Self:
        """Give each engine its meter, so that none can forget to."""
        engine = super().__new__(cls)
        engine.meter = Meter()
        return engine

    @abstractmethod
    def submit(self, images: Sequence[Pixels]) -> Pending:
        """Begin to run tiles, (H, W, 3) uint8 each, all of the model's size; the order of batches is kept.

        A tile's outputs do not depend on the others in the batch.
        """

    def run(self, images: Sequence[Pixels]) -> Outputs:
        """Run tiles and wait for their outputs."""
        return self.submit(images)()


def reduce_mask(mask: npt.NDArray[np.float32], downsample: int) -> npt.NDArray[np.float16]:
    """Average soft masks (B, 1, H, W) over `downsample`² pixels."""
    count, channels, height, width = mask.shape
    blocks = mask.reshape(count, channels, height // downsample, downsample, width // downsample, downsample)
    means: npt.NDArray[np.float16] = blocks.mean(axis=(3, 5), dtype=np.float32).astype(np.float16)
    return means


def as_outputs(found: Mapping[str, npt.NDArray[np.float32]], side_px: int, downsample: int) -> Outputs:
    """Return what a graph gives of one tile of `side_px`, by its outputs' names; nothing is shared with `found`."""
    side = side_px // downsample
    mask = reduce_mask(found["mask"], downsample) if "mask" in found else np.empty((1, 0, side, side), np.float16)
    return Outputs(mask, np.array(found.get("logits", np.empty((1, 0))), dtype=np.float32))


def join(parts: Sequence[Outputs]) -> Outputs:
    """Put the outputs of successive tiles together."""
    return Outputs(np.concatenate([part.masks for part in parts]), np.concatenate([part.logits for part in parts]))
