"""Keep the middle of each tile, as wide as the stride, and crop the rest: a point has one tile, without blending."""

import numpy as np
import numpy.typing as npt

CROPPED = 1e-9
"""Weight of what is cropped: it shows only where no tile has the point in its middle, at the border of the tissue."""


def weigh(position: npt.NDArray[np.float64], side: int, stride: float) -> npt.NDArray[np.float64]:
    """Return 1 in the middle and next to nothing beside it."""
    margin = (side - stride) / 2
    weights: npt.NDArray[np.float64] = np.where((position >= margin) & (position < side - margin), 1.0, CROPPED)
    return weights
