"""What the methods share whose masks are read off one map a class."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from wsi_maxmin.config import ModelConfig, Strict
from wsi_maxmin.losses import LossTerms, weighted_sum
from wsi_maxmin.models._base import SegOutput, WeakSegmenter
from wsi_maxmin.models._encoder import Encoder
from wsi_maxmin.models._resize import enlarge

MaskRule = Literal["label", "positive"]


class CamParams(Strict):
    """What the config of every such method may say."""

    mask_rule: MaskRule = Field(
        "label", description="mask what speaks for the image's label, or for the positive class whatever the label"
    )


class CamSegmenter(WeakSegmenter):
    """A classifier whose class activation maps (CAMs) are its masks.

    The mask of a class is where its map is the highest: for each position the soft mask is the sigmoid of the class's
    map less the highest other one, which for two classes is the softmax over the maps. It is ≥ 0.5 exactly where the
    argmax is the class; of maps that tie there (to float32's rounding, about 1e-7) each counts as the highest.

    Without a label, as on slides, the mask is that of the positive class, brought to the image's size bilinearly.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    rule : {"label", "positive"}
        Which class's mask `mask_for` gives: the label's (published for GlaS), or the positive one's (P512).
    positive : int
        Index of the positive class.
    """

    def __init__(self, encoder: Encoder, config: ModelConfig, rule: MaskRule, positive: int) -> None:
        super().__init__(encoder, config)
        self.rule = rule
        self.positive = positive

    def class_masks(self, cams: Tensor) -> Tensor:
        """Return the soft mask of every class, (B, K, h, w) in [0, 1], from CAMs of that shape."""
        return margin_masks(cams)

    def mask_for(self, output: SegOutput, label: Tensor) -> Tensor:
        """Return the soft masks of the labels, or of the positive class, as the rule says; (B, 1, h, w)."""
        if output.cams is None:
            raise ValueError("the mask of a label needs an output with class activation maps")
        return self._wanted(self.class_masks(output.cams), label)

    def _wanted(self, masks: Tensor, label: Tensor) -> Tensor:
        if self.rule == "positive":
            return masks[:, [self.positive]]
        return masks[torch.arange(len(masks), device=masks.device), label.to(masks.device)].unsqueeze(1)

    def _output(self, size: Sequence[int], logits: Tensor | None, cams: Tensor, downsample: int = 1) -> SegOutput:
        masks = self.class_masks(cams.detach())[:, [self.positive]]
        full = enlarge(masks, size, align_corners=False, downsample=downsample)
        return SegOutput(image_logits=logits, cams=cams, mask=full.clamp(0, 1))

    def loss(self, output: SegOutput, label: Tensor, truth: Tensor | None = None) -> LossTerms:  # noqa: ARG002
        """Cross-entropy of the image's class."""
        if output.image_logits is None:
            raise ValueError("the loss needs an output with class scores")
        return weighted_sum({"image": cross_entropy(output.image_logits, label)})


def margin_masks(maps: Tensor) -> Tensor:
    """Return sigmoid(map − highest other map), (B, K, h, w) in [0, 1], of maps of any sign, K ≥ 2."""
    maps = maps.float()
    return torch.sigmoid(maps - _highest_other(maps))


def share_masks(maps: Tensor) -> Tensor:
    """Return map / (map + highest other map), (B, K, h, w) in [0, 1], of maps ≥ 0, K ≥ 2.

    Like `margin_masks` it is ≥ 0.5 where the map is the highest, but the same for maps of any scale. Where all maps are
    0 there is no evidence of any class, and it is 0.
    """
    maps = maps.float()
    total = maps + _highest_other(maps)
    return maps / torch.where(total > 0, total, 1)


def _highest_other(maps: Tensor) -> Tensor:
    first, second = maps.topk(2, dim=1).values.split(1, dim=1)
    return torch.where(maps == first, second, first)
