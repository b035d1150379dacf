"""Random changes of a sample: drawn from a seed of its own, done to image and mask alike, on any device.

torchvision's random transforms draw from torch's global generator, so that a sample's change would depend on its
neighbours in a batch, and on the process that loads it. Here the choices are numbers, drawn first. Crops, flips and
turns move pixels and are exact anywhere. Colour jitter comes after them, on fewer pixels, and is done by `_colour`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from wsi_maxmin.config import AugmentConfig
from wsi_maxmin.data._colour import NEUTRAL

GLASS = 255
BACKGROUND = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is done to one sample.

    Attributes
    ----------
    top, left : int
        Corner of the crop in the image; negative where the image is smaller than the crop.
    side : int or None
        Of the crop; None keeps the whole image.
    mirrored, upside_down : bool
    quarter_turns : int
    colour : tuple of (int, float)
        Operations of the colour jitter, in their order, and their factors.
    """

    top: int
    left: int
    side: int | None
    mirrored: bool
    upside_down: bool
    quarter_turns: int
    colour: tuple[tuple[int, float], ...]

    def move(self, pixels: Tensor, fill: int) -> Tensor:
        """Crop, flip and turn (C, H, W) pixels; what lies outside is `fill`."""
        if self.side is not None:
            pixels = _window(pixels, self.top, self.left, self.side, fill)
        mirrored = [axis for axis, flipped in ((-1, self.mirrored), (-2, self.upside_down)) if flipped]
        return torch.rot90(pixels.flip(mirrored), self.quarter_turns, (-2, -1)).contiguous()

    def colour_table(self) -> Tensor:
        """Return the colour jitter as a tensor, (operations, 2) float64, so that it can travel in a batch."""
        return torch.tensor(self.colour, dtype=torch.float64).view(-1, 2)


def draw(config: AugmentConfig, size: tuple[int, int], seed: tuple[int, ...]) -> Choice:
    """Choose what is done to an image.

    The same numbers are drawn whatever the config says, so that one kind of change does not alter the choice of others.

    Parameters
    ----------
    config : AugmentConfig
    size : (int, int)
        Height and width of the image.
    seed : tuple of int
        Of this sample, in this epoch.
    """
    rng = np.random.default_rng(seed)
    where, flips, turns = rng.random(2), rng.random(2), int(rng.integers(4))
    order, spread = rng.permutation(len(NEUTRAL)), rng.random(len(NEUTRAL))
    top, left = (_corner(u, length, config.crop_px) for u, length in zip(where, size, strict=True))
    return Choice(
        top=top,
        left=left,
        side=config.crop_px,
        mirrored=bool(flips[0] < config.horizontal_flip),
        upside_down=bool(flips[1] < config.vertical_flip),
        quarter_turns=turns if config.rotate_90 else 0,
        colour=tuple((int(i), _factor(int(i), config.jitter[i], spread[i])) for i in order if config.jitter[i]),
    )


def _corner(u: float, length: int, crop: int | None) -> int:
    """Return the start of a window that lies in the image, or that the image lies in."""
    if crop is None:
        return 0
    slack = length - crop
    return int(u * (abs(slack) + 1)) * (1 if slack >= 0 else -1)


def _factor(operation: int, strength: float, u: float) -> float:
    """Return a factor as torchvision's ColorJitter draws it: uniform around the neutral one, none below 0."""
    low, high = NEUTRAL[operation] - strength, NEUTRAL[operation] + strength
    if NEUTRAL[operation]:
        low = max(low, 0.0)
    return float(low + (high - low) * u)


def _window(pixels: Tensor, top: int, left: int, side: int, fill: int) -> Tensor:
    height, width = pixels.shape[-2:]
    around = (max(-left, 0), max(left + side - width, 0), max(-top, 0), max(top + side - height, 0))
    if any(around):
        pixels = pad(pixels, around, value=fill)
    top, left = max(top, 0), max(left, 0)
    return pixels[..., top : top + side, left : left + side]
