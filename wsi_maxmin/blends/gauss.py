"""Gaussian around the tile's middle, as narrow as nnU-Net's: what has little context counts next to nothing."""

import numpy as np
import numpy.typing as npt

SIGMAS_A_SIDE = 8


def weigh(position: npt.NDArray[np.float64], side: int, stride: float) -> npt.NDArray[np.float64]:  # noqa: ARG001
    """Return exp(−z²/2), z the distance to the middle in eighths of the side (Isensee et al., Nature Methods 2021)."""
    distance = (position - side / 2) * (SIGMAS_A_SIDE / side)
    weights: npt.NDArray[np.float64] = np.exp(-(distance**2) / 2)
    return weights
