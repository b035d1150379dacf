"""Samples as tensors: read, resized, and augmented together with their mask."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from wsi_maxmin.config import AugmentConfig
from wsi_maxmin.data._pixels import read_image, read_mask
from wsi_maxmin.data._samples import Sample
from wsi_maxmin.errors import InputError


class Item(NamedTuple):
    """One sample as tensors.

    Attributes
    ----------
    image : (3, H, W) uint8
    mask : (1, H, W) uint8, 1 = foreground, at the ground truth's own size; (0,) where none was asked for or given
    label : () int64
    position : () int64, in the list of samples
    """

    image: torch.Tensor
    mask: torch.Tensor
    label: torch.Tensor
    position: torch.Tensor


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
        With the epoch and the sample's index it decides the augmentation, whatever the number of loader processes.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        shorter_side_px: int | None = None,
        augment: AugmentConfig | None = None,
        masks: bool = False,
        seed: int = 0,
    ) -> None:
        self.samples = list(samples)
        self.epoch = 0
        self._masks = masks
        self._seed = seed
        self._resize = v2.Resize(shorter_side_px, antialias=True) if shorter_side_px else None
        self._augment = build_augmentation(augment) if augment is not None else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        image = read_image(sample.image)
        mask = self._truth(sample, image) if self._masks else torch.empty(0, dtype=torch.uint8)
        if self._resize is not None:
            image = self._resize(image)
        if self._augment is not None:
            image, mask = self._augmented(image, mask, index)
        return Item(image, mask, torch.tensor(sample.label), torch.tensor(index))

    @staticmethod
    def _truth(sample: Sample, image: torch.Tensor) -> torch.Tensor:
        if sample.mask is not None:
            return read_mask(sample.mask)
        return torch.zeros((1, *image.shape[-2:]) if sample.background_only else 0, dtype=torch.uint8)

    def _augmented(self, image: torch.Tensor, mask: torch.Tensor, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._augment is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence([self._seed, self.epoch, index]).generate_state(1)[0]))
            if not mask.numel():
                return self._augment(tv_tensors.Image(image)).as_subclass(torch.Tensor), mask
            if mask.shape[-2:] != image.shape[-2:]:
                mask = v2.functional.resize(mask, list(image.shape[-2:]), v2.InterpolationMode.NEAREST)
            paired = self._augment(tv_tensors.Image(image), tv_tensors.Mask(mask))
            return paired[0].as_subclass(torch.Tensor), paired[1].as_subclass(torch.Tensor)


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


def build_augmentation(config: AugmentConfig) -> v2.Transform:
    """Return the random transform of images and masks that a config describes."""
    steps: list[v2.Transform] = [v2.ColorJitter(*config.jitter)] if any(config.jitter) else []
    if config.crop_px is not None:
        white_background = {tv_tensors.Image: 255, tv_tensors.Mask: 0}
        steps.append(v2.RandomCrop(config.crop_px, pad_if_needed=True, fill=white_background))
    steps += [v2.RandomHorizontalFlip(config.horizontal_flip), v2.RandomVerticalFlip(config.vertical_flip)]
    if config.rotate_90:
        steps.append(RandomRotate90())
    return v2.Compose(steps)


class RandomRotate90(v2.Transform):  # type: ignore[misc]  # torchvision ships no types
    """Turn image and mask by the same random multiple of 90°, without resampling."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002 - torchvision's form
        """Draw the number of quarter turns."""
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn one tensor."""
        return tv_tensors.wrap(torch.rot90(inpt, params["turns"], (-2, -1)), like=inpt)
