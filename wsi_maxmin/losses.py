"""The terms of the losses, each named, and their weighted sum.

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


def presence_penalty(posterior: Tensor, label: Tensor) -> Tensor:
    """Penalise a class whose size contradicts the image's label (PN).

    The size of a class is its posterior summed over the pixels. It must lie in [1, H·W] for the image's class and in
    [0, 0] for every other; the squared violation is divided by H·W.

    Parameters
    ----------
    posterior : (B, K, H, W) float in [0, 1]
        Classes of the pixels.
    label : (B,) int64
        Classes of the images.

    Returns
    -------
    () float, sum over classes, mean over the batch
    """
    pixels = posterior.shape[2] * posterior.shape[3]
    sizes = posterior.sum(dim=(2, 3))
    present = torch.nn.functional.one_hot(label, posterior.shape[1]).to(sizes.dtype)
    below = (present - sizes).clamp_min(0)
    above = (sizes - present * pixels).clamp_min(0)
    return ((below + above) ** 2).sum(dim=1).mean() / pixels
