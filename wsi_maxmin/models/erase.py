"""ERASE, adversarial erasing (Wei et al., CVPR 2017): classify, erase what decided, classify again."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from wsi_maxmin.config import ModelConfig, parse
from wsi_maxmin.losses import LossTerms, weighted_sum
from wsi_maxmin.models._base import SegOutput
from wsi_maxmin.models._cams import CamParams, CamSegmenter
from wsi_maxmin.models._encoder import Encoder


class Params(CamParams):
    """What the config of this method may say under ``model.params``."""

    rounds: int = Field(1, gt=0, description="how often a region is erased and the rest classified; not published")
    erased: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="erase where a map is within this share of its maximum"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedOutput(SegOutput):
    """What ERASE says beside the masks.

    Attributes
    ----------
    regions : (B, K, H, W) float in [0, 1]
        For each class, what was erased for it in any round: softly, ≥ 0.5 where it was.
    erased_logits : (B, rounds, K, K) float or None
        Class scores of the images without what was erased for each class, ``[image, round, erased class]``; None in
        eval mode.
    """

    regions: Tensor
    erased_logits: Tensor | None


class Erase(CamSegmenter):
    """One 1×1 convolution without bias to a map a class, its mean as score, and erasing.

    A pixel of the image is erased, that is set to 0 after normalisation, where the class's map (brought to the image's
    size) is at least 1 − `erased` of its maximum in the image; nothing is if no value is above 0. Erasing is for a
    class, and the label is not known when an image is segmented. So each class has its own chain of erased images, and
    the loss takes the label's: a training step classifies 1 + K · rounds images for each one. Masks do not need the
    last of these classifications, so that in eval mode the default of one round costs a single pass.

    The mask of a class is the union of its erased regions: softly the maximum over rounds of (a / max a)^γ, with γ such
    that it is 0.5 at a = (1 − `erased`) · max a.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    num_classes, positive : int
    params : Params
    """

    def __init__(self, encoder: Encoder, config: ModelConfig, num_classes: int, positive: int, params: Params) -> None:
        super().__init__(encoder, config, params.mask_rule, positive)
        self.rounds = params.rounds
        self.exponent = math.log(0.5) / math.log(1 - params.erased)
        self.conv = nn.Conv2d(encoder.channels, num_classes, 1, bias=False)

    def segment(self, image: Tensor) -> ErasedOutput:
        """Classify images, erase, and classify what is left."""
        logits, cams = self._classify(image)
        remaining = image.unsqueeze(1).expand(-1, cams.shape[1], -1, -1, -1)
        own, regions, erased_logits = cams, [], []
        for step in range(1, self.rounds + 1):
            regions.append(self._region(own.detach(), image.shape[-2:]))
            if step == self.rounds and not self.training:
                break
            remaining = remaining * (regions[-1] < 0.5).unsqueeze(2)
            again, maps = (value.unflatten(0, cams.shape[:2]) for value in self._classify(remaining.flatten(0, 1)))
            erased_logits.append(again)
            own = maps.diagonal(dim1=1, dim2=2).movedim(-1, 1)
        union = torch.stack(regions).amax(dim=0)
        return ErasedOutput(
            image_logits=logits,
            cams=cams,
            mask=union[:, [self.positive]],
            regions=union,
            erased_logits=torch.stack(erased_logits, dim=1) if self.training else None,
        )

    def _classify(self, image: Tensor) -> tuple[Tensor, Tensor]:
        cams = self.conv(self.encoder(image))
        return cams.mean(dim=(2, 3)), cams

    def _region(self, cams: Tensor, size: torch.Size) -> Tensor:
        maps = interpolate(cams.float(), size, mode="bilinear", align_corners=True).relu()
        highest = maps.amax(dim=(2, 3), keepdim=True)
        return (maps / torch.where(highest > 0, highest, 1)) ** self.exponent

    def mask_for(self, output: SegOutput, label: Tensor) -> Tensor:
        """Return what is erased for the labels, or for the positive class, as the rule says; (B, 1, H, W)."""
        if not isinstance(output, ErasedOutput):
            raise ValueError("the mask of a label needs an output of this method")
        return self._wanted(output.regions, label)

    def loss(self, output: SegOutput, label: Tensor, truth: Tensor | None = None) -> LossTerms:  # noqa: ARG002
        """CE of the image, plus the mean over rounds of CE of what is left once the label's regions are erased."""
        if not isinstance(output, ErasedOutput) or output.image_logits is None or output.erased_logits is None:
            raise ValueError("the loss needs an output of training mode, with the logits of erased images")
        left = output.erased_logits[torch.arange(len(label), device=label.device), :, label]
        return weighted_sum(
            {
                "image": cross_entropy(output.image_logits, label),
                "erased": cross_entropy(left.flatten(0, 1), label.repeat_interleave(self.rounds)),
            }
        )


def build(config: ModelConfig, num_classes: int, positive: int) -> Erase:
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have.
    """
    params = parse(Params, config.params, source="model.params")
    return Erase(Encoder(config.encoder), config, num_classes, positive, params)
