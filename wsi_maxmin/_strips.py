"""Large arrays in strips of rows, so that temporary copies of a strip stay small."""

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

_STRIP = 2**20


def strips(values: npt.NDArray[Any], *, border: int = 0) -> Iterator[npt.NDArray[Any]]:
    """Divide an array into strips of rows of about a million values.

    Parameters
    ----------
    values : (H, …) array
    border : int
        Further rows of its neighbours that each strip has above and below, for which `values` has as many to spare.
    """
    rows = max(_STRIP // max(values[:1].size, 1), 1)
    for top in range(0, len(values) - 2 * border, rows):
        yield values[top : top + rows + 2 * border]
