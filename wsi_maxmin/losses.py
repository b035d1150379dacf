"""The terms of the Max-Min loss, each named, and their weighted sum.

Equation numbers are those of Belharbi et al., IEEE TMI 41:702 (2022).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """A loss and what it is made of.

    Attributes
    ----------
    total : () float
        Sum of weight · term; the one to differentiate.
    terms : dict of str to () float
        The unweighted terms, detached, to be logged.
    """

    total: Tensor
    terms: dict[str, Tensor]


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> LossTerms:
    """Add up named terms; a term without a weight counts once.

    Raises
    ------
    KeyError
        If a weight names no term.
    """
    weights = weights or {}
    if unknown := set(weights) - set(terms):
        raise KeyError(f"weights without a term: {sorted(unknown)}")
    total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
    return LossTerms(total=total, terms={name: term.detach() for name, term in terms.items()})


def surrogate_entropy(logits: Tensor) -> Tensor:
    """SEM: cross-entropy of the posterior against the uniform distribution, in bits (Eq. 9).

    The mean over classes of −log2 p̂. Equal logits give its minimum, log2 K; it grows without bound as a class is
    ruled out, so minimising it makes the background uninformative even from a confident start.

    Parameters
    ----------
    logits : (B, K) float

    Returns
    -------
    () float, mean over the batch
    """
    return -(torch.log_softmax(logits, dim=1) / math.log(2)).mean()


def explicit_negative_entropy(logits: Tensor) -> Tensor:
    """EEM: the posterior's negative entropy, in bits (Eq. 8); equal logits give its minimum, −log2 K.

    Computed from the log-softmax, so that a saturated posterior gives 0 and not NaN.

    Parameters
    ----------
    logits : (B, K) float

    Returns
    -------
    () float, mean over the batch
    """
    log_posterior = torch.log_softmax(logits, dim=1)
    return (log_posterior.exp() * log_posterior).sum(dim=1).mean() / math.log(2)


def extended_log_barrier(value: Tensor, t: Tensor | float) -> Tensor:
    """Penalise violations of ``value <= 0`` (Kervadec et al. 2019, arXiv 1904.04205), elementwise.

    −(1/t) ln(−z) where z ≤ −1/t²; beyond, the tangent t·z − (1/t) ln(1/t²) + 1/t, so that a violated constraint still
    has a gradient. Value and slope are continuous at −1/t².

    Parameters
    ----------
    value : float tensor of any shape
        The constrained quantity z.
    t : float
        Sharpness, > 0: the larger, the closer to a hard constraint.
    """
    t = torch.as_tensor(t, dtype=value.dtype, device=value.device)
    inside = value <= -1 / t**2
    # The branch that is not taken must stay finite too: its gradient would be 0·inf = NaN.
    log_argument = torch.where(inside, -value, torch.ones_like(value))
    return torch.where(inside, -torch.log(log_argument) / t, t * value - torch.log(1 / t**2) / t + 1 / t)


def size_barrier(mask: Tensor, t: Tensor | float, *, normalise: bool = False) -> Tensor:
    """Keep foreground and background both non-empty (Eq. 10 and 11).

    Parameters
    ----------
    mask : (B, 1, H, W) float in [0, 1]
        Soft foreground mask M+; the background is 1 − M+.
    t : float
        Sharpness of the barrier.
    normalise : bool
        Divide sizes by the number of pixels; the paper's are raw sums of pixels.

    Returns
    -------
    () float, mean over the batch of ψ(−s+) + ψ(−s−)
    """
    reduce = torch.mean if normalise else torch.sum
    foreground = reduce(mask, dim=(1, 2, 3))
    background = reduce(1 - mask, dim=(1, 2, 3))
    return (extended_log_barrier(-foreground, t) + extended_log_barrier(-background, t)).mean()
