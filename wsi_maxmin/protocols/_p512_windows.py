"""Where the P512 protocol looks for tumour: boxes around outlines, strips of boxes, windows of strips."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from wsi_maxmin.geometry import Box
from wsi_maxmin.protocols._p512_tissue import find_rule
from wsi_maxmin.readers import Pixels, Reader

if TYPE_CHECKING:
    from wsi_maxmin.annotations import Truth

SIDE_PX = 512
_ABOVE_PX = 256
_PIECE_PX = 4096


class Window(NamedTuple):
    """A patch that may be cut: its top-left corner in level-0 px, and its shares of tissue and tumour."""

    x: int
    y: int
    tissue: float
    tumour: float


def search_boxes(outlines: Iterable[Box], bounds: Box) -> list[Box]:
    """Return the boxes to search for tumour, level-0 px.

    An outline's box is padded by 512 px left, right and below and by 256 px above, and dropped if another one covers
    its columns and does not begin below it. How far down the other one reaches is of no influence: so numbered, the
    boxes explain the region numbers of all 3,994 published names of tumor_001–040; dropping only boxes that lie
    inside another explains 2,212.

    Parameters
    ----------
    outlines : iterable of Box
        Bounding boxes of the outlines; may reach outside the slide.
    bounds : Box
        The slide, which boxes are cut to.
    """
    padded = dict.fromkeys(_pad(box) for box in outlines)
    kept = [box for box in padded if not any(_shadows(other, box) for other in padded if other != box)]
    cut = (_cut(box, bounds) for box in kept)
    return [box for box in cut if box is not None]


def strips(box: Box) -> Iterator[Box]:
    """Return the strips of 512 rows of a box, from its top; the rest at its lower edge is none (no name has one)."""
    for y in range(box.y, box.bottom - SIDE_PX + 1, SIDE_PX):
        yield Box(x=box.x, y=y, width=box.width, height=SIDE_PX)


def find_windows(slide: Reader, truth: "Truth", strip: Box, *, min_tissue: float, min_tumour: float) -> list[Window]:
    """Return the windows of a strip that hold enough tissue and tumour.

    The search starts 512 px left of the strip's first column with tumour and moves by 1 px until a window does; from
    there on it moves by 512. Windows lie in the strip whole. Tumour is that of all outlines, and tissue that of
    `TissueRule` with thresholds over the whole strip. No more than the strip's pixels lie in memory, besides one piece.

    Parameters
    ----------
    slide : Reader
    truth : Truth
    strip : Box
        512 rows.
    min_tissue, min_tumour : float
        Least shares of a window.
    """
    if strip.width < SIDE_PX:
        return []
    tumour_px = np.concatenate([truth.drawn_mask(piece).sum(axis=0) for piece in _pieces(strip)])
    tumour = _shares(tumour_px)
    # Most strips' pixels need not be read.
    if not tumour_px.any() or not (tumour >= min_tumour).any():
        return []
    tissue = _shares(_tissue_px([_read(slide, piece) for piece in _pieces(strip)]))
    start = max(int(np.argmax(tumour_px > 0)) - SIDE_PX, 0)
    fits = (tissue >= min_tissue) & (tumour >= min_tumour)
    if not fits[start:].any():
        return []
    first = start + int(np.argmax(fits[start:]))
    columns = [column for column in range(first, fits.size, SIDE_PX) if fits[column]]
    return [Window(strip.x + column, strip.y, float(tissue[column]), float(tumour[column])) for column in columns]


def _pad(box: Box) -> Box:
    return Box(
        x=box.x - SIDE_PX,
        y=box.y - _ABOVE_PX,
        width=box.width + 2 * SIDE_PX,
        height=box.height + _ABOVE_PX + SIDE_PX,
    )


def _shadows(other: Box, box: Box) -> bool:
    """Return whether `other` makes `box` superfluous."""
    return other.x <= box.x and box.right <= other.right and other.y <= box.y


def _cut(box: Box, bounds: Box) -> Box | None:
    x, y = max(box.x, bounds.x), max(box.y, bounds.y)
    width, height = min(box.right, bounds.right) - x, min(box.bottom, bounds.bottom) - y
    return Box(x=x, y=y, width=width, height=height) if width > 0 and height > 0 else None


def _pieces(strip: Box) -> Iterator[Box]:
    for x in range(strip.x, strip.right, _PIECE_PX):
        yield Box(x=x, y=strip.y, width=min(_PIECE_PX, strip.right - x), height=strip.height)


def _read(slide: Reader, box: Box) -> Pixels:
    return slide.read_level(0, box.x, box.y, box.width, box.height)


def _tissue_px(pieces: list[Pixels]) -> npt.NDArray[np.int64]:
    """Return the pixels of tissue in each column of a strip, (W,)."""
    rule = find_rule(pieces)
    if rule is None:
        return np.zeros(sum(piece.shape[1] for piece in pieces), dtype=np.int64)
    return np.concatenate([rule(piece).sum(axis=0) for piece in pieces])


def _shares(column_px: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the share of each window from the pixels in each column, (W,) to (W - 511,)."""
    sums = np.concatenate([[0], np.cumsum(column_px)])
    shares: npt.NDArray[np.float64] = (sums[SIDE_PX:] - sums[:-SIDE_PX]) / SIDE_PX**2
    return shares
