"""Samples as tensors: read, resized, and augmented together with their mask."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, default_collate
from torchvision.transforms import v2

from wsi_maxmin.config import AugmentConfig
from wsi_maxmin.data._augment import BACKGROUND, GLASS, draw
from wsi_maxmin.data._colour import jitter
from wsi_maxmin.data._pixels import read_image, read_mask
from wsi_maxmin.data._samples import Sample, SlidePart
from wsi_maxmin.errors import InputError
from wsi_maxmin.progress import Progress

_NOTHING = torch.empty(0)

_Resized = tuple[torch.Tensor, torch.Size]
"""An image as the network takes it, and its height and width before that."""


class Item(NamedTuple):
    """One sample as tensors.

    Attributes
    ----------
    image : (3, H, W) uint8
    mask : (1, H, W) uint8, 1 = foreground, at the ground truth's own size; (0,) where none was asked for or given
    label : () int64
    position : () int64, in the list of samples
    colour : (operations, 2) float64, the colour jitter that is still to be done; (0,) where there is none
    """

    image: torch.Tensor
    mask: torch.Tensor
    label: torch.Tensor
    position: torch.Tensor
    colour: torch.Tensor = _NOTHING


class Draw(NamedTuple):
    """A sample as it is shown in training.

    Attributes
    ----------
    position : int
        In the list of samples.
    epoch : int
    turn : int
        How often this epoch has shown the sample before.
    """

    position: int
    epoch: int = 0
    turn: int = 0


class SampleDataset(Dataset[Item]):
    """Read samples; in training, augment each from a seed of its own.

    Parameters
    ----------
    samples : sequence of Sample
    shorter_side_px : int or None
        Resize the image (never the ground truth, unless augmented with it) so that its shorter side has this length.
    augment : AugmentConfig or None
        None gives the image as it is.
    masks : bool
        Whether ground truth is read. Weakly supervised training leaves it closed.
    seed : int
        With what a `Draw` holds it decides the augmentation, whatever the number of loader processes.
    defer_colour : bool
        Leave the colour jitter in the item, for the device that the batch goes to.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        shorter_side_px: int | None = None,
        augment: AugmentConfig | None = None,
        masks: bool = False,
        seed: int = 0,
        defer_colour: bool = False,
    ) -> None:
        self.samples = list(samples)
        self._masks = masks
        self._seed = seed
        self._resize = v2.Resize(shorter_side_px, antialias=True) if shorter_side_px else None
        self._augment = augment
        self._defer_colour = defer_colour
        self._kept: dict[int, _Resized] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> Item:
        """Read one sample; an index alone is its first showing in the first epoch."""
        shown = key if isinstance(key, Draw) else Draw(key)
        sample = self.samples[shown.position]
        image, size = self._kept.get(shown.position) or self._read(shown.position)
        mask = self._truth(sample, size) if self._masks else torch.empty(0, dtype=torch.uint8)
        item = Item(image, mask, torch.tensor(sample.label), torch.tensor(shown.position))
        return item if self._augment is None else self._augmented(item, shown, self._augment)

    def keep(self, limit_bytes: int, progress: Progress) -> None:
        """Hold as many images, decoded and resized, as fit the limit; processes that are forked later share them.

        Images that lie in slides are left there: a slide's reader is one thread's at a time.

        Raises
        ------
        InputError
            If an image cannot be read.
        """
        if limit_bytes <= 0:
            return
        wanted = [index for index, sample in enumerate(self.samples) if not isinstance(sample.image, SlidePart)]
        with ThreadPoolExecutor() as pool, progress.track("read", len(wanted), unit="image") as advance:
            # As many at a time as there are threads: what is read beyond the limit is read for nothing.
            together = os.cpu_count() or 1
            for start in range(0, len(wanted), together):
                some = wanted[start : start + together]
                for position, kept in zip(some, pool.map(self._read, some), strict=True):
                    limit_bytes -= kept[0].nbytes
                    if limit_bytes < 0:
                        return
                    self._kept[position] = kept
                    advance()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is kept: a process that is not forked would get a copy."""
        return self.__dict__ | {"_kept": {}}

    def _read(self, position: int) -> "_Resized":
        image = read_image(self.samples[position].image)
        return (image if self._resize is None else self._resize(image)), image.shape[-2:]

    @staticmethod
    def _truth(sample: Sample, size: torch.Size) -> torch.Tensor:
        if sample.mask is not None:
            return read_mask(sample.mask)
        return torch.zeros((1, *size) if sample.background_only else 0, dtype=torch.uint8)

    def _augmented(self, item: Item, shown: Draw, config: AugmentConfig) -> Item:
        height, width = item.image.shape[-2:]
        choice = draw(config, (height, width), (self._seed, shown.epoch, shown.position, shown.turn))
        image, mask, colour = choice.move(item.image, GLASS), item.mask, choice.colour_table()
        if self._masks:
            if not mask.numel():
                raise InputError("a sample has no ground truth", got=self.samples[shown.position].name)
            if mask.shape[-2:] != item.image.shape[-2:]:
                mask = v2.functional.resize(mask, [height, width], v2.InterpolationMode.NEAREST)
            mask = choice.move(mask, BACKGROUND)
        if self._defer_colour:
            return item._replace(image=image, mask=mask, colour=colour)
        return item._replace(image=jitter(image[None], colour[None])[0], mask=mask)


def collate(items: Sequence[Item]) -> Item:
    """Stack samples into a batch.

    Raises
    ------
    InputError
        If their sizes differ.
    """
    sizes = {tuple(item.image.shape[-2:]) for item in items}
    if len(sizes) > 1:
        raise InputError(
            "images of different sizes cannot share a batch",
            got=", ".join(f"{width}×{height}" for height, width in sorted(sizes)[:3]),
            remedy="set augment.crop_px, or training.batch_size to 1",
        )
    batch: Item = default_collate(list(items))
    return batch


def collate_by_size(items: Sequence[Item]) -> list[Item]:
    """Stack samples into as few batches as their sizes, and those of their ground truths, allow."""
    alike: dict[tuple[torch.Size, torch.Size], list[Item]] = {}
    for item in items:
        alike.setdefault((item.image.shape, item.mask.shape), []).append(item)
    return [collate(group) for group in alike.values()]
