"""Rings of level-0 points: what is inside them, pixel by pixel.

A *region* is one or more rings. The first is its outline and the others are its holes; all of them together are filled
by the even–odd rule, so a ring that crosses itself needs no repair. A ring is closed whether or not it repeats its
first point.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from wsi_maxmin.geometry import Box

Ring = npt.NDArray[np.float64]
Region = tuple[Ring, ...]
Centres = npt.NDArray[np.floating[Any]]

FARTHEST_PX = 2.0**24


def as_ring(points: list[list[float]]) -> Ring:
    """Return points as a ring, (N, 2) float64, level-0 (x, y).

    Raises
    ------
    ValueError
        If a coordinate is not finite, or farther from the slide's corner than any slide is wide.
    """
    ring = np.array(points, dtype=np.float64).reshape(-1, 2)
    if not (np.abs(ring) <= FARTHEST_PX).all():
        raise ValueError(f"a number that is not finite or beyond ±{FARTHEST_PX:.0f} px")
    return ring


def fill(regions: Iterable[Region], box: Box, width: int, height: int) -> npt.NDArray[np.bool_]:
    """Return the pixels whose centre lies in a region.

    A centre that lies on an edge belongs to what is below it or, on a vertical edge, right of it. So regions that share
    an edge neither overlap nor leave a gap, and the masks of neighbouring boxes join to the mask of both.

    Parameters
    ----------
    regions : iterable of Region
    box : Box
    width, height : int
        Size of the result.

    Returns
    -------
    (height, width) bool
    """
    mask = np.zeros((height, width), dtype=np.bool_)
    columns = box.x + (np.arange(width) + 0.5) * (box.width / width)
    rows = box.y + (np.arange(height) + 0.5) * (box.height / height)
    for region in regions:
        _fill(mask, columns, rows, region)
    return mask


def _fill(mask: npt.NDArray[np.bool_], columns: Centres, rows: Centres, region: Region) -> None:
    """Add one region to a mask, given the centres of its columns and rows."""
    start = np.concatenate(region)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in region])
    # Two regions walk a shared edge in opposite directions: taken from its left end it crosses both at the same y.
    rightwards = (start[:, 0] < end[:, 0])[:, None]
    (x_left, y_left), (x_right, y_right) = np.where(rightwards, start, end).T, np.where(rightwards, end, start).T
    # Half open, its right end left out: a point where two edges meet is crossed once.
    first, last = np.searchsorted(columns, x_left), np.searchsorted(columns, x_right)
    edges = np.flatnonzero(last > first)
    if not len(edges):
        return
    counts = (last - first)[edges]
    edge = np.repeat(edges, counts)
    column = np.arange(len(edge)) + np.repeat(first[edges] - (np.cumsum(counts) - counts), counts)
    # Multiplied before it is divided: exact where an edge runs through a centre.
    fall = (columns[column] - x_left[edge]) * (y_right - y_left)[edge] / (x_right - x_left)[edge]
    row = np.searchsorted(rows, y_left[edge] + fall)
    top, left, height, width = row.min(), column.min(), np.ptp(row), np.ptp(column) + 1
    # Eight pixels at a time go down the rows: a centre is inside below an odd number of crossings. The counts may
    # wrap around at 256; their lowest bit, which is all that matters, stays right.
    padded = -(-width // 8) * 8
    crossings = np.zeros((height + 1, padded), dtype=np.uint8)
    np.add.at(crossings.reshape(-1), (row - top) * padded + (column - left), 1)
    inside = np.bitwise_xor.accumulate(crossings[:height].view(np.uint64), axis=0).view(np.uint8)[:, :width] & 1
    mask[top : top + height, left : left + width] |= inside.astype(np.bool_)


def draw(regions: Iterable[Region], box: Box) -> npt.NDArray[np.bool_]:
    """Return the pixels of level 0 that Pillow paints for regions, outlines included: how the P512 masks were made.

    Parameters
    ----------
    regions : iterable of Region
        Their points are whole numbers.
    box : Box

    Returns
    -------
    (box.height, box.width) bool
    """
    mask = np.zeros((box.height, box.width), dtype=np.bool_)
    for region in regions:
        canvas = Image.new("1", (box.width, box.height))
        pen = ImageDraw.Draw(canvas)
        for index, ring in enumerate(region):
            if len(ring) > 1:
                value = int(index == 0)
                pen.polygon((ring - (box.x, box.y)).reshape(-1).tolist(), outline=value, fill=value)
        mask |= np.asarray(canvas)
    return mask
