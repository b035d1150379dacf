"""The highest value of all tiles that cover a point: misses the least, and calls the most."""

import numpy as np
import numpy.typing as npt

HIGHEST = True


def weigh(position: npt.NDArray[np.float64], side: int, stride: float) -> npt.NDArray[np.float64]:  # noqa: ARG001
    """Return 1 everywhere: where a tile covers a point, it takes part."""
    return np.ones_like(position)
