"""U-Net (Ronneberger et al., MICCAI 2015), trained on masks: the upper bound of the paper's tables."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from wsi_maxmin.config import ModelConfig, Strict, parse
from wsi_maxmin.losses import LossTerms, weighted_sum
from wsi_maxmin.models._base import SegOutput, WeakSegmenter

_STEPS = 5


class Params(Strict):
    """What the config of this method may say under ``model.params``."""

    width: int = Field(16, gt=0, description="channels at full size; doubled at each of the five halvings")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelOutput(SegOutput):
    """What the U-Net says beside the mask.

    Attributes
    ----------
    pixel_logits : (B, 2, H, W) float
        Scores of background and foreground.
    """

    pixel_logits: Tensor


class UNet(WeakSegmenter):
    """An encoder of six blocks, each of the last five at half the size, and a decoder with skip connections.

    An image of any size will do: the decoder brings its maps to each skip's size by nearest neighbour. It separates
    foreground from background however many classes images have, and gives none of them.

    Parameters
    ----------
    config : ModelConfig
        It must not name an encoder: the U-Net has its own.
    params : Params
    """

    SUPERVISION: ClassVar[Literal["image", "pixel"]] = "pixel"
    CLASSIFIES: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, params: Params) -> None:
        super().__init__(None, config)
        widths = [params.width * 2**step for step in range(_STEPS + 1)]
        self.down = nn.ModuleList(
            [_block(3, widths[0]), *(_block(c, 2 * c, stride=2) for c in widths[:-1])],
        )
        deepest_first = widths[:0:-1]
        self.before_up = nn.ModuleList(_block(c, c) for c in deepest_first)
        self.after_up = nn.ModuleList(_block(c + c // 2, c // 2) for c in deepest_first)
        self.head = nn.Conv2d(widths[0], 2, 1)

    def segment(self, image: Tensor) -> PixelOutput:
        """Segment images at their own size."""
        skips = []
        maps = image
        for block in self.down:
            maps = block(maps)
            skips.append(maps)
        skips.pop()
        for before, after in zip(self.before_up, self.after_up, strict=True):
            skip = skips.pop()
            up = interpolate(before(maps), skip.shape[-2:], mode="nearest")
            maps = after(torch.cat([up, skip], dim=1))
        logits = self.head(maps)
        mask = torch.softmax(logits.detach().float(), dim=1)[:, 1:]
        return PixelOutput(image_logits=None, cams=None, mask=mask, pixel_logits=logits)

    def loss(self, output: SegOutput, label: Tensor, truth: Tensor | None = None) -> LossTerms:  # noqa: ARG002
        """Cross-entropy of the pixels; `truth` is foreground wherever it is not 0."""
        if not isinstance(output, PixelOutput) or truth is None:
            raise ValueError("the loss needs the ground truth of the images")
        return weighted_sum({"pixel": cross_entropy(output.pixel_logits, (truth[:, 0] > 0).long())})


def _block(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def build(config: ModelConfig, num_classes: int, positive: int) -> UNet:  # noqa: ARG001 - pixels have two classes
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have, or the config names an encoder.
    """
    return UNet(config, parse(Params, config.params, source="model.params"))
