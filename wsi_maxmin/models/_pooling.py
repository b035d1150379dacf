"""Pooling of class activation maps into class scores."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Pooling = Literal["avg", "max", "lse"]


def plain_pooling(maps: Tensor, pooling: Pooling, *, sharpness: float) -> Tensor:
    """Reduce each map to its mean, its maximum, or log-sum-exp, which lies between the two.

    Parameters
    ----------
    maps : (B, K, h, w) float
    pooling : {"avg", "max", "lse"}
    sharpness : float
        r of (1/r) ln(mean exp(r·x)), the log-sum-exp pooling of Pinheiro and Collobert, CVPR 2015: the larger, the
        closer to the maximum.

    Returns
    -------
    (B, K) float
    """
    flat = maps.flatten(2)
    if pooling == "avg":
        return flat.mean(dim=2)
    if pooling == "max":
        return flat.amax(dim=2)
    return (torch.logsumexp(sharpness * flat, dim=2) - math.log(flat.shape[2])) / sharpness


def modality_mean(maps: Tensor, modalities: int) -> Tensor:
    """Average neighbouring channels, (B, K · modalities, h, w) to (B, K, h, w)."""
    mean: Tensor = maps.unflatten(1, (-1, modalities)).mean(dim=2)
    return mean


def wildcat_pooling(maps: Tensor, *, k_max: float, k_min: float, alpha: float, dropout: float = 0.0) -> Tensor:
    """Average the highest positions of each map, plus `alpha` times the average of its lowest.

    Durand et al., "WILDCAT", CVPR 2017.

    Parameters
    ----------
    maps : (B, K, h, w) float
    k_max, k_min : float in [0, 1]
        Share of the h·w positions, rounded; `k_max` keeps at least one, a `k_min` that rounds to none adds nothing.
    alpha : float
        Weight of the lowest positions.
    dropout : float
        Probability of dropping each of the sorted values; the caller passes 0 outside training.

    Returns
    -------
    (B, K) float
    """
    flat = maps.flatten(2)
    positions = flat.shape[-1]
    highest = max(round(k_max * positions), 1)
    lowest = round(k_min * positions)
    ordered = flat.sort(dim=-1, descending=True).values
    if dropout > 0:
        ordered = nn.functional.dropout(ordered, dropout)
    score = ordered[..., :highest].mean(dim=-1)
    if lowest and alpha:
        score = score + alpha * ordered[..., positions - lowest :].mean(dim=-1)
    return score


class WildcatHead(nn.Module):
    """1×1 convolution to several maps (modalities) a class, their mean as CAM, WILDCAT pooling as score.

    Parameters
    ----------
    channels : int
        Channels of the encoder's features.
    num_classes, modalities : int
    k_max, k_min, alpha, dropout : float
        See `wildcat_pooling`.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        modalities: int,
        k_max: float,
        k_min: float,
        alpha: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, num_classes * modalities, 1)
        self.modalities = modalities
        self.k_max, self.k_min, self.alpha, self.dropout = k_max, k_min, alpha, dropout

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (B, K) and CAMs (B, K, h, w) of features (B, C, h, w)."""
        cams = self.cams(features)
        return self.scores(cams), cams

    def cams(self, features: Tensor) -> Tensor:
        """Return the CAMs (B, K, h, w) of features (B, C, h, w), position by position."""
        return modality_mean(self.conv(features), self.modalities)

    def scores(self, cams: Tensor) -> Tensor:
        """Pool CAMs to scores (B, K)."""
        dropout = self.dropout if self.training else 0.0
        return wildcat_pooling(cams, k_max=self.k_max, k_min=self.k_min, alpha=self.alpha, dropout=dropout)
