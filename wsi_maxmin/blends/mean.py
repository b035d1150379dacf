"""Plain mean of all tiles that cover a point."""

import numpy as np
import numpy.typing as npt


def weigh(position: npt.NDArray[np.float64], side: int, stride: float) -> npt.NDArray[np.float64]:  # noqa: ARG001
    """Return 1 everywhere."""
    return np.ones_like(position)
