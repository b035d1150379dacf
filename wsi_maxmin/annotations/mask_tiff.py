"""Tumour as a mask image: a TIFF of the slide's size, as Camelyon's ``*_mask.tif``."""

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from wsi_maxmin.annotations._mask_level import Mask, MaskLevel, open_levels
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box

_PICTURE_PX, _BOXES_PX = 2048, 4096
# Slides and masks are padded to whole tiles, each to its own.
_PADDING_PX = 1024


def open_mask(path: Path) -> "MaskTiff":
    """Open the mask of a slide.

    Raises
    ------
    InputError
        If the file is missing, not a TIFF, or not an image of which it is clear what 0 means.
    """
    mask = MaskTiff(path)
    _ = mask.size_px
    return mask


def check_size(mask: "MaskTiff", size_px: tuple[int, int], slide_id: str) -> None:
    """Raise InputError if a mask has not the size of its slide, padding aside; `size_px` is the slide's, level-0 px."""
    if any(abs(ours - its) > _PADDING_PX for ours, its in zip(size_px, mask.size_px, strict=True)):
        raise InputError(
            f"{mask.path.name} is not a mask of {slide_id}",
            got=f"{mask.size_px[0]}×{mask.size_px[1]} pixels",
            expected=f"{size_px[0]}×{size_px[1]}, or up to {_PADDING_PX} more or less",
            remedy="give a mask in the slide's own level-0 frame",
        )


class MaskTiff:
    """A mask in the frame of its slide: what is not 0 is tumour, what is outside is not.

    It reads the tiles or strips that are needed, keeps the latest, and holds no file open between them.

    Parameters
    ----------
    path : Path
        Pyramidal or flat, tiled or in strips, of any compression; a pixel with any colour that is not 0 is tumour.
        In JPEG it must be above half the range, because JPEG blurs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._opened: tuple[MaskLevel, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return MaskTiff, (self._path,)

    @property
    def path(self) -> Path:
        """Its file."""
        return self._path

    @property
    def _levels(self) -> tuple[MaskLevel, ...]:
        with self._lock:
            if self._opened is None:
                self._opened = open_levels(self._path)
            return self._opened

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of level 0."""
        return self._levels[0].size_px

    @property
    def holds_tumour(self) -> bool:
        """Whether anything is not 0; a mask that is all 0 is read to its last tile once."""
        return self._marked_level() is not None

    def mask(self, box: Box, width: int, height: int) -> Mask:
        """Look up the tumour inside a box.

        Each pixel is that of the mask at its centre, in the coarsest level that is not coarser than asked.

        Parameters
        ----------
        box : Box
        width, height : int
            Size of the result.

        Returns
        -------
        (height, width) bool

        Raises
        ------
        InputError
            If the file is gone or damaged.
        """
        step_x, step_y = box.width / width, box.height / height
        asked = min(step_x, step_y) * (1 + 1e-6)
        fine_enough = [level for level in self._levels if level.downsample <= asked]
        level = fine_enough[-1] if fine_enough else self._levels[0]
        columns = np.floor((box.x + (np.arange(width) + 0.5) * box.width / width) / level.downsample).astype(np.int64)
        rows = np.floor((box.y + (np.arange(height) + 0.5) * box.height / height) / level.downsample).astype(np.int64)
        return level.look_up(columns, rows)

    def drawn_mask(self, box: Box) -> Mask:
        """Return level 0 inside a box, (box.height, box.width) bool: here nothing is left to draw."""
        return self.mask(box, box.width, box.height)

    def tumour_boxes(self) -> list[Box]:
        """Return a box around each 8-connected piece of tumour, found on an overview and a pixel of it wider.

        Pieces so small that the overview misses them are left out, unless it misses all.
        """
        # Loaded here: processes that only cut patches start a third faster without SciPy.
        from scipy import ndimage

        overview, downsample = self._overview(_BOXES_PX)
        pieces, _ = ndimage.label(overview, structure=np.ones((3, 3)))
        width, height = self.size_px
        boxes = []
        for rows, columns in ndimage.find_objects(pieces):
            x, y = (max(math.floor((side.start - 1) * downsample), 0) for side in (columns, rows))
            right = min(math.ceil((columns.stop + 1) * downsample), width)
            bottom = min(math.ceil((rows.stop + 1) * downsample), height)
            boxes.append(Box(x=x, y=y, width=right - x, height=bottom - y))
        return boxes

    def geometry(self) -> BaseGeometry:
        """Return the tumour as the pixels of an overview, one valid geometry of polygons in level-0 pixels."""
        overview, downsample = self._overview(_PICTURE_PX)
        steps = np.diff(np.pad(overview, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        (row, start), (_, end) = np.nonzero(steps > 0), np.nonzero(steps < 0)
        runs = np.stack([start, row, end, row + 1]) * downsample
        return shapely.union_all([shapely.box(*run) for run in runs.T.tolist()])

    def _marked_level(self) -> int | None:
        """Return the coarsest level that shows any tumour: a small one may be lost in the coarser ones."""
        levels = reversed([*enumerate(self._levels)])
        return next((index for index, level in levels if level.is_marked), None)

    def _overview(self, longest_px: int) -> tuple[Mask, float]:
        """Return the whole mask within a size, and its downsample; a pixel is tumour where any in it is."""
        levels = self._levels
        last = len(levels) - 1
        fits = next((index for index, level in enumerate(levels) if max(level.size_px) <= longest_px), last)
        marked = self._marked_level()
        level = levels[fits if marked is None else min(fits, marked)]
        width, height = level.size_px
        block = math.ceil(max(width, height) / longest_px)
        overview = np.zeros((math.ceil(height / block), math.ceil(width / block)), dtype=np.bool_)
        for left, top, marks in level.marked():
            rows, columns = np.nonzero(marks)
            overview[(top + rows) // block, (left + columns) // block] = True
        return overview, level.downsample * block
