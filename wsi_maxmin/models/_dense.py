"""What a method must be made of to be run densely: a trunk over large regions, the rest over each window's maps."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsi_maxmin.errors import InputError
from wsi_maxmin.models._base import SegOutput, TileModel
from wsi_maxmin.models._encoder import Encoder

_FAR_CELLS = 48
_TOLERANCE = 1e-3


@runtime_checkable
class DenseMethod(Protocol):
    """A method whose outputs follow from a few maps, of which each position depends on the features there."""

    encoder: Encoder

    def normalise(self, image: Tensor) -> Tensor:
        """Bring pixels to what the encoder takes."""

    def image_cams(self, features: Tensor) -> Tensor:
        """Return maps (B, M, h, w) of features (B, C, h, w)."""

    def read_cams(self, cams: Tensor, size: Sequence[int], downsample: int = 1) -> SegOutput:
        """Classify and segment images of a size, given their maps alone.

        With `downsample` > 1 the mask is that of the evidence's means over so many pixels squared.
        """


@runtime_checkable
class ForegroundMethod(DenseMethod, Protocol):
    """One that classifies what its mask leaves of the image, with a second look through the trunk."""

    def foreground_cams(self, features: Tensor) -> Tensor:
        """Return maps (B, K, h, w) of the features of masked images."""

    def foreground_scores(self, cams: Tensor) -> Tensor:
        """Return the scores (B, K) of masked images, given those maps alone."""


class ImagePass(nn.Module):
    """Regions (B, H, W, 3) uint8 to the maps of their features, (B, M, h, w)."""

    def __init__(self, method: DenseMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, image: Tensor) -> Tensor:
        """Run the trunk."""
        return self.method.image_cams(self.method.encoder(self._normalised(image))).float()

    def _normalised(self, image: Tensor) -> Tensor:
        return self.method.normalise(image.permute(0, 3, 1, 2))


class ForegroundPass(ImagePass):
    """Regions under a soft mask, (B, 1, H / d, W / d) float in [0, 1], to the maps of what is left of them."""

    method: ForegroundMethod

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]  # it takes a mask
        """Mask, and run the trunk."""
        full = interpolate(mask, image.shape[1:3], mode="bilinear", align_corners=False)
        return self.method.foreground_cams(self.method.encoder(self._normalised(image) * full)).float()


def dense_method(model: TileModel, tile_px: int) -> tuple[DenseMethod, int]:
    """Return a model as one that can be run densely, and the pixels a position of its features.

    Raises
    ------
    InputError
        If it cannot: its outputs do not follow from maps, or its trunk is not the same everywhere.
    """
    reason = getattr(model, "refuses_regions", None)
    if not isinstance(model, DenseMethod) or reason:
        raise InputError(
            "this model cannot be run densely",
            got=model.kind,
            expected=reason or "a method whose scores and masks follow from class maps, such as maxmin, wildcat or cam",
            remedy="--mode tile",
        )
    return model, _trunk_stride(model.encoder, tile_px)


@torch.no_grad()
def _trunk_stride(encoder: nn.Module, tile_px: int) -> int:
    """Return the trunk's step, having seen on a strip of noise that it looks at no far pixel and is the same all along.

    Zero padding at the strip's ends reaches less far than `_FAR_CELLS` positions in the trunks that pass.
    """
    side = int(encoder(torch.zeros(1, 3, tile_px, tile_px)).shape[-1])
    step = tile_px // side
    noise = torch.randn(1, 3, 2 * step, (2 * _FAR_CELLS + 2) * step, generator=torch.Generator().manual_seed(0))
    features = _of_strip(encoder, noise)
    changed = noise.clone()
    changed[..., :step] = 4
    middle, scale = features.shape[-1] // 2, features.std()
    shifted = _of_strip(encoder, noise.roll(-step, dims=-1))
    looks_far = (_of_strip(encoder, changed)[..., middle:] - features[..., middle:]).abs().max() / scale
    differs = (shifted[..., middle - 1] - features[..., middle]).abs().max() / scale
    if step * side != tile_px or not max(looks_far, differs) < _TOLERANCE:
        raise InputError(
            "the model's encoder cannot be run over large regions",
            got="a feature depends on pixels far away (squeeze-and-excitation, attention) or on where it is",
            expected="convolutions alone, such as those of resnet18 or efficientnet_lite0",
            remedy="--mode tile",
        )
    return step


def _of_strip(encoder: nn.Module, strip: Tensor) -> Tensor:
    try:
        features: Tensor = encoder(strip)
    except (AssertionError, RuntimeError):  # a transformer takes one size
        return torch.full((1, 1, 2, 2 * _FAR_CELLS + 2), torch.nan)
    return features
