"""Raised cosine: tiles count most in their middle, where their context is complete, and fade towards their edges."""

import numpy as np
import numpy.typing as npt


def weigh(position: npt.NDArray[np.float64], side: int, stride: float) -> npt.NDArray[np.float64]:  # noqa: ARG001
    """Return sin²(π·position / side): at pixel centres the half-sample Hann window, which is never 0."""
    weights: npt.NDArray[np.float64] = np.sin(np.pi * position / side) ** 2
    return weights
