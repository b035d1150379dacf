"""Colour jitter of a whole batch at once, each image by its own factors and in its own order.

The operations are torchvision's (brightness, contrast, saturation, hue), and so are their pixels, up to one grey level
where a sum rounds the other way. torchvision's functions take one factor a call: a batch would be a call for each image
and operation, which on a GPU takes longer than a training step of a small network.
"""

import torch
from torch import Tensor

NEUTRAL = (1.0, 1.0, 1.0, 0.0)
"""Factor of each operation that changes nothing: brightness, contrast, saturation, hue."""

_WHITE = 255.0
_GREY = (0.2989, 0.587, 0.114)
_RED_GREEN_BLUE = (5.0, 3.0, 1.0)


def jitter(images: Tensor, colours: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue of images, on their device.

    Parameters
    ----------
    images : (B, 3, H, W) uint8
    colours : (B, N, 2) float64, on the CPU
        What is done to each image, in this order: an operation, counted from 0, and its factor. Hue is turned by that
        share of the colour circle.

    Returns
    -------
    (B, 3, H, W) uint8
    """
    if not colours.numel():
        return images
    images = images.clone()
    for step in colours.unbind(dim=1):
        for operation, change in enumerate((_brighten, _contrast, _saturate, _turn_hue)):
            chosen = (step[:, 0] == operation).nonzero().flatten()
            if len(chosen):
                factor = step[chosen, 1].view(-1, 1, 1, 1)
                place = chosen.to(images.device)
                images[place] = change(images[place].float(), factor).to(torch.uint8)
    return images


def _brighten(image: Tensor, factor: Tensor) -> Tensor:
    return (image * _beside(image, factor)).clamp(0, _WHITE)


def _contrast(image: Tensor, factor: Tensor) -> Tensor:
    return _blend(image, _grey(image).mean(dim=(1, 2, 3), keepdim=True), factor)


def _saturate(image: Tensor, factor: Tensor) -> Tensor:
    return _blend(image, _grey(image), factor)


def _turn_hue(image: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of HSV's hexagon: a colour is its value, less its chroma times a share that hue alone decides."""
    image = image / _WHITE
    value, chroma = image.amax(dim=1), image.amax(dim=1) - image.amin(dim=1)
    red, green, blue = image.unbind(dim=1)
    divisor = torch.where(chroma > 0, chroma, 1)
    sixths = torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    sixths = torch.where(value == red, (green - blue) / divisor, sixths) + 6 * _beside(image, turns)[:, 0]
    place = (sixths[:, None] + image.new_tensor(_RED_GREEN_BLUE).view(1, 3, 1, 1)).remainder(6)
    share = torch.minimum(place, 4 - place).clamp(0, 1)
    # torchvision's rounding: all 256 levels are equally wide.
    return (value[:, None] - chroma[:, None] * share) * (_WHITE + 1 - 1e-3)


def _blend(image: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (image * _beside(image, factor) + other * _beside(image, 1 - factor)).clamp(0, _WHITE)


def _grey(image: Tensor) -> Tensor:
    weights = image.new_tensor(_GREY).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True).floor()


def _beside(image: Tensor, factor: Tensor) -> Tensor:
    """Return factors of float64 where the image is, in its own type; not all devices have float64."""
    return factor.to(image.dtype).to(image.device)
