"""PN: a segmenter held to presence and non-presence of each class by its size alone.

The constraint is the one on region sizes of Kervadec et al., Medical Image Analysis 54 (2019), with the bounds that an
image-level label gives.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsi_maxmin.config import ModelConfig, parse
from wsi_maxmin.losses import LossTerms, presence_penalty, weighted_sum
from wsi_maxmin.models._base import SegOutput
from wsi_maxmin.models._cams import CamParams, CamSegmenter
from wsi_maxmin.models._encoder import Encoder
from wsi_maxmin.models._pooling import modality_mean


class Params(CamParams):
    """What the config of this method may say under ``model.params``."""

    modalities: int = Field(5, gt=0, description="maps a class, averaged")
    penalty_weight: float = Field(1e-5, ge=0, description="weight of the size penalty, the only term")


class PresenceNonPresence(CamSegmenter):
    """One head of several maps a class; a class of the image must have pixels, any other must have none.

    Sizes are counted at the size of the image: the published weight is made for them. There is no class output
    (``image_logits`` is None), hence no classification error, no accuracy to select an epoch by (the last one is kept),
    and no predicted label: the rule ``label`` needs the true one.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    num_classes, positive : int
    params : Params
    """

    CLASSIFIES: ClassVar[bool] = False

    def __init__(self, encoder: Encoder, config: ModelConfig, num_classes: int, positive: int, params: Params) -> None:
        super().__init__(encoder, config, params.mask_rule, positive)
        self.params = params
        self.conv = nn.Conv2d(encoder.channels, num_classes * params.modalities, 1)

    def segment(self, image: Tensor) -> SegOutput:
        """Segment images into classes."""
        return self._output(
            image.shape[-2:], None, modality_mean(self.conv(self.encoder(image)), self.params.modalities)
        )

    def loss(self, output: SegOutput, label: Tensor, truth: Tensor | None = None) -> LossTerms:  # noqa: ARG002
        """Weighted size penalty."""
        if output.cams is None:
            raise ValueError("the loss needs an output with class activation maps")
        maps = interpolate(output.cams.float(), output.mask.shape[-2:], mode="bilinear", align_corners=True)
        penalty = presence_penalty(torch.softmax(maps, dim=1), label)
        return weighted_sum({"presence": penalty}, {"presence": self.params.penalty_weight})


def build(config: ModelConfig, num_classes: int, positive: int) -> PresenceNonPresence:
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have.
    """
    params = parse(Params, config.params, source="model.params")
    return PresenceNonPresence(Encoder(config.encoder), config, num_classes, positive, params)
