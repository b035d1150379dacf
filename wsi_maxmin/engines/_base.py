"""What every engine does: take tiles, and give soft masks and class scores, now or a little later."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

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


class Engine(ABC):
    """A model that is ready to run.

    Attributes
    ----------
    name, precision : str
    depth : int
        Batches that may be under way at once: so many `submit` before the first is waited for.
    """

    name: str
    precision: str
    depth: int = 1

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
