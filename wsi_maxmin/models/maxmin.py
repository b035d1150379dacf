"""Max-Min uncertainty (Belharbi et al., IEEE TMI 41:702, 2022; arXiv 2011.07221).

A localizer proposes a soft mask M+ of the region that decides the class; a classifier must be certain of the image
under M+ and as uncertain as possible of the image under 1 − M+. Both share one trunk.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from wsi_maxmin.config import Fraction, ModelConfig, Positive, Strict, parse
from wsi_maxmin.losses import (
    LossTerms,
    explicit_negative_entropy,
    size_barrier,
    surrogate_entropy,
    weighted_sum,
)
from wsi_maxmin.models._base import SegOutput, WeakSegmenter
from wsi_maxmin.models._encoder import Encoder
from wsi_maxmin.models._mask_norm import MaskNorm, MaskNormMode
from wsi_maxmin.models._pooling import WildcatHead
from wsi_maxmin.models._resize import enlarge

_UNCERTAINTY = {"sem": surrogate_entropy, "eem": explicit_negative_entropy}


class Params(Strict):
    """What the config of this method may say under ``model.params``."""

    modalities: int = Field(5, gt=0, description="maps a class, averaged")
    k_max: Fraction = 0.3
    k_min: Fraction = 0.0
    alpha: float = 0.6
    dropout: Fraction = 0.1
    classifier_scale: Positive = Field(1.0, description="resize of X± before the classifier")
    mask_norm: MaskNormMode = Field("running", description="how the raw map is brought to about [0, 1]")
    sigma: float = Field(0.15, description="threshold of the soft mask, Eq. 12")
    sigma_step: float = Field(0.0, ge=0, description="added to sigma after each epoch")
    sigma_cap: float = 0.2
    omega: Positive = Field(5.0, description="steepness of the soft mask, Eq. 12")
    background: Literal["sem", "eem", "none"] = Field("sem", description="uncertainty asked of the background")
    background_weight: float = Field(1e-7, ge=0, description="λ of Eq. 7")
    background_trains: Literal["all", "mask"] = Field(
        "all", description="what learns from it; mask alone keeps the classifier from learning to tell a background"
    )
    barrier: bool = Field(True, description="absolute size constraint on both regions, Eq. 10 and 11")
    barrier_normalised: bool = Field(False, description="divide region sizes by the number of pixels")
    barrier_t: Positive = 5.0
    barrier_growth: Positive = Field(1.01, description="factor of t after each epoch")
    barrier_cap: Positive = 10.0


class MaxMin(WeakSegmenter):
    """Localizer and classifier on one trunk, each with a WILDCAT head of its own.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    num_classes : int
    params : Params
    """

    ADJUSTABLE = ("sigma", "omega")

    sigma: Tensor
    barrier_t: Tensor

    def __init__(self, encoder: Encoder, config: ModelConfig, num_classes: int, params: Params) -> None:
        super().__init__(encoder, config)
        self.params = params
        self.localizer = self._head(num_classes)
        self.classifier = self._head(num_classes)
        self.mask_norm = MaskNorm(params.mask_norm)
        self.register_buffer("sigma", torch.tensor(params.sigma))
        self.register_buffer("barrier_t", torch.tensor(params.barrier_t))

    def _head(self, num_classes: int) -> WildcatHead:
        p = self.params
        return WildcatHead(
            self.encoder.channels,
            num_classes,
            modalities=p.modalities,
            k_max=p.k_max,
            k_min=p.k_min,
            alpha=p.alpha,
            dropout=p.dropout,
        )

    @property
    def refuses_tiles(self) -> str | None:
        """Masks normalised over a batch depend on its other tiles."""
        if self.params.mask_norm == "batch":
            return "mask_norm: batch makes a tile's mask depend on its batch; train with mask_norm: running"
        return None

    @property
    def refuses_regions(self) -> str | None:
        """The classifier looks at the foreground at another scale, at which windows do not fall on its positions."""
        return "classifier_scale: 1" if self.params.classifier_scale != 1 else None

    def segment(self, image: Tensor) -> SegOutput:
        """Localise, mask, classify both regions; the background's pass is left out in eval mode."""
        output = self.read_cams(self.image_cams(self.encoder(image)), image.shape[-2:])
        return replace(
            output,
            foreground_logits=self.classify(image * output.mask),
            background_logits=self._classify_background(image * (1 - output.mask)) if self.training else None,
        )

    def image_cams(self, features: Tensor) -> Tensor:
        """Return the localizer's maps (B, K, h, w) of features (B, C, h, w)."""
        return self.localizer.cams(features)

    def read_cams(self, cams: Tensor, size: Sequence[int], downsample: int = 1) -> SegOutput:
        """Classify and mask images of a size, given the localizer's maps alone; their foreground is not classified."""
        image_logits = self.localizer.scores(cams)
        evidence = (torch.softmax(image_logits, dim=1)[:, :, None, None] * cams).sum(dim=1, keepdim=True)
        evidence = enlarge(evidence, size, align_corners=True, downsample=downsample)
        mask = torch.sigmoid(self.params.omega * (self.mask_norm(evidence) - self.sigma))
        return SegOutput(image_logits=image_logits, cams=cams, mask=mask)

    def foreground_cams(self, features: Tensor) -> Tensor:
        """Return the classifier's maps (B, K, h, w) of the features of masked images."""
        return self.classifier.cams(features)

    def foreground_scores(self, cams: Tensor) -> Tensor:
        """Return the classifier's scores (B, K), given those maps alone."""
        return self.classifier.scores(cams)

    def _classify_background(self, image: Tensor) -> Tensor:
        return self.classify(image, constant=self.params.background_trains == "mask")

    def classify(self, image: Tensor, *, constant: bool = False) -> Tensor:
        """Return the scores (B, K) of normalised images, masked or not; `constant` weights get no gradient."""
        scale = self.params.classifier_scale
        if scale != 1:
            image = nn.functional.interpolate(
                image, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=True
            )
        call = _call_constant if constant else _call
        logits: Tensor = call(self.classifier, call(self.encoder, image))[0]
        return logits

    def loss(self, output: SegOutput, label: Tensor, truth: Tensor | None = None) -> LossTerms:  # noqa: ARG002
        """CE(s, y) + CE(s+, y) + λ·R(p̂−) + size barrier (Eq. 7, 10, 11)."""
        if output.image_logits is None or output.foreground_logits is None or output.background_logits is None:
            raise ValueError("the loss needs an output of training mode, with the logits of both regions")
        terms = {
            "image": nn.functional.cross_entropy(output.image_logits, label),
            "foreground": nn.functional.cross_entropy(output.foreground_logits, label),
        }
        weights = {}
        if self.params.background != "none":
            terms["background"] = _UNCERTAINTY[self.params.background](output.background_logits)
            weights["background"] = self.params.background_weight
        if self.params.barrier:
            terms["barrier"] = size_barrier(output.mask, self.barrier_t, normalise=self.params.barrier_normalised)
        return weighted_sum(terms, weights)

    def end_epoch(self) -> None:
        """Raise σ and the barrier's t towards their caps."""
        p = self.params
        if p.sigma_step:
            self.sigma.add_(p.sigma_step).clamp_(max=max(p.sigma_cap, p.sigma))
        self.barrier_t.mul_(p.barrier_growth).clamp_(max=max(p.barrier_cap, p.barrier_t))


def _call(module: nn.Module, value: Tensor) -> Any:
    return module(value)


def _call_constant(module: nn.Module, value: Tensor) -> Any:
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    return functional_call(module, weights, (value,))


def build(config: ModelConfig, num_classes: int, positive: int) -> MaxMin:  # noqa: ARG001 - its mask has no class
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have.
    """
    params = parse(Params, config.params, source="model.params")
    return MaxMin(Encoder(config.encoder), config, num_classes, params)
