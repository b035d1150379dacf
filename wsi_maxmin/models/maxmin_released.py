"""The Camelyon16-P512 objective of the Max-Min authors' released code, which is another one than the paper's.

A class head and a mask head of one channel share a trunk. Normal patches are told to have no foreground at all,
metastatic ones to have some; the paper's two-sided size barrier (`wsi_maxmin.models.maxmin`) forces some foreground
into every image. Nothing is masked and classified again.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, softplus

from wsi_maxmin.config import Fraction, ModelConfig, Positive, Strict, parse
from wsi_maxmin.losses import LossTerms, extended_log_barrier, weighted_sum
from wsi_maxmin.models._base import SegOutput, WeakSegmenter
from wsi_maxmin.models._encoder import Encoder
from wsi_maxmin.models._pooling import WildcatHead, modality_mean


class Params(Strict):
    """What the config of this method may say under ``model.params``."""

    modalities: int = Field(4, gt=0, description="of the class head: maps a class, averaged")
    k_max: Fraction = 0.1
    k_min: Fraction = 0.0
    alpha: float = 0.6
    dropout: Fraction = 0.0
    mask_modalities: int = Field(5, gt=0, description="of the mask head: maps, averaged")
    omega: Positive = Field(5.0, description="steepness of the soft mask")
    class_weight: float = Field(10.0, ge=0, description="of the image's cross-entropy")
    barrier_normalised: bool = Field(False, description="divide region sizes by the number of pixels")
    barrier_t: Positive = 5.0
    barrier_growth: Positive = Field(1.01, description="factor of t after each epoch")
    barrier_cap: Positive = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceOutput(SegOutput):
    """What this method says beside class and mask.

    Attributes
    ----------
    evidence : (B, 1, H, W) float
        The mask head's map; the mask is sigmoid(ω · evidence).
    """

    evidence: Tensor


class MaxMinReleased(WeakSegmenter):
    """Class head and mask head on one trunk; the class is the argmax of the image's own scores.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    num_classes : int
    positive : int
        Index of the class whose images have foreground; all others are taken to have none.
    params : Params
    """

    barrier_t: Tensor

    ADJUSTABLE = ("omega",)

    def __init__(self, encoder: Encoder, config: ModelConfig, num_classes: int, positive: int, params: Params) -> None:
        super().__init__(encoder, config)
        self.params = params
        self.positive = positive
        pooling = params.model_dump(include={"modalities", "k_max", "k_min", "alpha", "dropout"})
        self.classifier = WildcatHead(encoder.channels, num_classes, **pooling)
        self.localizer = nn.Conv2d(encoder.channels, params.mask_modalities, 1)
        self.register_buffer("barrier_t", torch.tensor(params.barrier_t))

    def segment(self, image: Tensor) -> EvidenceOutput:
        """Classify images and mask them, in one pass."""
        features = self.encoder(image)
        logits, cams = self.classifier(features)
        evidence = modality_mean(self.localizer(features), self.params.mask_modalities)
        evidence = interpolate(evidence, image.shape[-2:], mode="bilinear", align_corners=True)
        mask = torch.sigmoid(self.params.omega * evidence)
        return EvidenceOutput(image_logits=logits, cams=cams, mask=mask, evidence=evidence)

    def loss(self, output: SegOutput, label: Tensor, truth: Tensor | None = None) -> LossTerms:  # noqa: ARG002
        """10·CE(s, y), no foreground in normal images, a size barrier on the foreground of positive ones.

        The last two are means over the images of their kind, 0 if the batch has none: −log(1 − sigmoid(evidence)),
        averaged over pixels, and ψ_t(−s+).
        """
        if not isinstance(output, EvidenceOutput) or output.image_logits is None:
            raise ValueError("the loss needs an output of this method")
        positive = label == self.positive
        reduce = torch.mean if self.params.barrier_normalised else torch.sum
        sizes = reduce(output.mask.float(), dim=(1, 2, 3))
        empty = softplus(output.evidence.float()).mean(dim=(1, 2, 3))
        terms = {
            "image": cross_entropy(output.image_logits, label),
            "normal": _mean_of(empty, ~positive),
            "barrier": _mean_of(extended_log_barrier(-sizes, self.barrier_t), positive),
        }
        return weighted_sum(terms, {"image": self.params.class_weight})

    def end_epoch(self) -> None:
        """Raise the barrier's t towards its cap."""
        p = self.params
        self.barrier_t.mul_(p.barrier_growth).clamp_(max=max(p.barrier_cap, p.barrier_t))


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


def build(config: ModelConfig, num_classes: int, positive: int) -> MaxMinReleased:
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have.
    """
    params = parse(Params, config.params, source="model.params")
    return MaxMinReleased(Encoder(config.encoder), config, num_classes, positive, params)
