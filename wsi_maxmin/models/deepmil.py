"""Attention-based deep multiple-instance learning (Ilse et al., ICML 2018), one attention a class, not gated.

The positions of the feature map are the instances. The attention of class c is softmax over positions of
V_c tanh(U F), the class's score a linear function of the features' mean under it.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from wsi_maxmin.config import ModelConfig, parse
from wsi_maxmin.models._base import SegOutput
from wsi_maxmin.models._cams import CamParams, CamSegmenter, MaskRule, share_masks
from wsi_maxmin.models._encoder import Encoder


class Params(CamParams):
    """What the config of this method may say under ``model.params``."""

    mask_rule: MaskRule = Field(
        "label", description="attention of the label above half the mean; or where the positive class's is the highest"
    )
    attention_channels: int = Field(128, gt=0, description="channels of tanh(U F)")


class DeepMil(CamSegmenter):
    """Attention maps on the trunk and a linear score a class; `cams` are the attentions, which sum to 1.

    With the rule ``label`` (GlaS) the mask is where the label's attention a exceeds 1/(2hw), half its mean; softly
    a / (a + 1/(2hw)), which is 0.5 there. With ``positive`` (P512) it is where the positive class's attention is the
    highest; softly its share, a_p / (a_p + highest other).

    Attentions are relative to their own image: on slides, a tile without tumour too has positions above the mean.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    num_classes, positive : int
    params : Params
    """

    def __init__(self, encoder: Encoder, config: ModelConfig, num_classes: int, positive: int, params: Params) -> None:
        super().__init__(encoder, config, params.mask_rule, positive)
        self.attention = nn.Sequential(
            nn.Conv2d(encoder.channels, params.attention_channels, 1),
            nn.Tanh(),
            nn.Conv2d(params.attention_channels, num_classes, 1),
        )
        self.scores = nn.ModuleList(nn.Linear(encoder.channels, 1) for _ in range(num_classes))

    def class_masks(self, cams: Tensor) -> Tensor:
        """Return the soft mask of every class, (B, K, h, w) in [0, 1], as the rule says."""
        if self.rule == "positive":
            return share_masks(cams)
        half_mean = 1 / (2 * cams.shape[2] * cams.shape[3])
        return cams.float() / (cams.float() + half_mean)

    def segment(self, image: Tensor) -> SegOutput:
        """Classify images by their features under each class's attention."""
        features = self.encoder(image)
        attention = torch.softmax(self.attention(features).flatten(2), dim=2)
        means = torch.einsum("bkp,bcp->kbc", attention, features.flatten(2))
        logits = torch.cat([score(mean) for score, mean in zip(self.scores, means, strict=True)], dim=1)
        return self._output(image.shape[-2:], logits, attention.unflatten(2, features.shape[2:]))


def build(config: ModelConfig, num_classes: int, positive: int) -> DeepMil:
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have.
    """
    params = parse(Params, config.params, source="model.params")
    return DeepMil(Encoder(config.encoder), config, num_classes, positive, params)
