"""Fig. 3: what the two uncertainties of the background cost, and how strongly they pull, for two classes."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wsi_maxmin.figures._results import Drawing, Results
from wsi_maxmin.figures._style import BLUE, VERMILION, sheet
from wsi_maxmin.losses import explicit_negative_entropy, surrogate_entropy

FIGURES = {"3": "energies of the background's posterior, and their gradients"}

_ENERGIES = (
    ("SEM (Eq. 9)", surrogate_entropy, {"color": BLUE, "linestyle": "-"}),
    ("EEM (Eq. 8)", explicit_negative_entropy, {"color": VERMILION, "linestyle": "--"}),
)
_STEPS = 999
_STEEPEST = 12.0

_Curve = npt.NDArray[np.float64]


def draw(number: str, results: Results) -> Drawing:  # noqa: ARG001 - drawn of the losses alone
    """Draw the losses that training uses, and what autograd makes of them."""
    figure = sheet(2.3, "Energies of the posterior of two classes, computed by the losses of training")
    left, right = figure.subplots(1, 2)
    probability = np.arange(1, _STEPS + 1) / (_STEPS + 1)
    for title, energy, line in _ENERGIES:
        values, slopes = _evaluate(energy, probability)
        left.plot(probability, values, label=title, **line)
        right.plot(probability, slopes, label=title, **line)
    left.set(ylabel="energy [bits]", ylim=(-1.2, 5))
    right.set(ylabel="gradient [bits]", ylim=(-_STEEPEST, _STEEPEST))
    for axes in (left, right):
        axes.set(xlabel="probability p of one class", xlim=(0, 1))
        axes.axvline(0.5, color="#999999", linewidth=0.6, linestyle=":")
        axes.grid(visible=True)
    right.legend(loc="upper left")
    return Drawing(figure=figure, facts={"source": "wsi_maxmin.losses, by autograd", "points": _STEPS})


def _evaluate(energy: Callable[[Tensor], Tensor], probability: _Curve) -> tuple[_Curve, _Curve]:
    """Return an energy and its derivative over p, where the posterior is (p, 1 − p)."""
    p = torch.tensor(probability, requires_grad=True)
    # The log-softmax of logarithms that are a posterior's is these logarithms.
    values = torch.stack([energy(pair[None]) for pair in torch.stack([p, 1 - p], dim=1).log()])
    (slopes,) = torch.autograd.grad(values.sum(), p)
    return values.detach().numpy(), slopes.numpy()
