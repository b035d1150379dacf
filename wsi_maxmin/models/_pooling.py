"""Pooling of class activation maps into class scores."""

import torch
from torch import Tensor, nn


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
        cams = self.conv(features).unflatten(1, (-1, self.modalities)).mean(dim=2)
        dropout = self.dropout if self.training else 0.0
        score = wildcat_pooling(cams, k_max=self.k_max, k_min=self.k_min, alpha=self.alpha, dropout=dropout)
        return torch.as_tensor(score), cams
