"""What every reader does, and reading at any µm per pixel on top of it."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_maxmin.errors import SlideError
from wsi_maxmin.geometry import Box, SlideInfo

Pixels = npt.NDArray[np.uint8]

_EXACT = 1e-3


class Reader(ABC):
    """A slide that can be read by several threads at once, pickled, and opened again in another process.

    Subclasses implement `info`, `read_level` and `close`, and keep only path and options in their pickled state.
    """

    @property
    @abstractmethod
    def info(self) -> SlideInfo:
        """What is known of the slide without reading pixels."""

    @abstractmethod
    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Read a rectangle of one level, (height, width, 3) uint8 RGB, white outside the slide.

        Parameters
        ----------
        level : int
        x, y : int
            Top-left corner in pixels of that level; may be negative.
        width, height : int
            In pixels of that level.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file; a later read opens it again."""

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is not coarser than `downsample`; 0 where even level 0 is."""
        finer = [i for i, own in enumerate(self.info.level_downsamples) if own <= downsample * (1 + _EXACT)]
        return max(finer, default=0)

    def read(self, box: Box, width: int, height: int) -> Pixels:
        """Read a box as (height, width, 3) uint8 RGB, white outside the slide.

        Pixels come from the next finer level, averaged over the area of each output pixel; a box smaller than its
        output is enlarged bilinearly.
        """
        downsample = min(box.width / width, box.height / height)
        level = self.level_for(downsample)
        own = self.info.level_downsamples[level]
        left, top = box.x / own, box.y / own
        right, bottom = box.right / own, box.bottom / own
        x, y = int(np.floor(left + _EXACT)), int(np.floor(top + _EXACT))
        region = self.read_level(
            level, x, y, max(int(np.ceil(right - _EXACT)) - x, 1), max(int(np.ceil(bottom - _EXACT)) - y, 1)
        )
        if region.shape[:2] == (height, width) and max(abs(left - x), abs(top - y)) < _EXACT:
            return region
        inner = (
            max(left - x, 0),
            max(top - y, 0),
            min(right - x, region.shape[1]),
            min(bottom - y, region.shape[0]),
        )
        enlarge = downsample < own
        resized = Image.fromarray(region).resize(
            (width, height), Image.Resampling.BILINEAR if enlarge else Image.Resampling.BOX, box=inner
        )
        return np.asarray(resized)

    def overview(self, longest_side_px: int) -> Pixels:
        """Read the whole slide, its longer side scaled to `longest_side_px` (never enlarged)."""
        width, height = self.info.size_px
        shrink = max(max(width, height) / longest_side_px, 1.0)
        return self.read(self.info.bounds, max(round(width / shrink), 1), max(round(height / shrink), 1))

    def fingerprint(self) -> dict[str, object]:
        """Facts by which a later run recognises the same file."""
        try:
            size: int | None = self.info.path.stat().st_size
        except OSError:
            size = None
        return {"file": self.info.path.name, "bytes": size, "size_px": list(self.info.size_px)}

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def unreadable(path: Path, error: Exception, box: str) -> SlideError:
    """Return the error that names slide and place of a failed read."""
    return SlideError(f"{path.name} cannot be read", got=f"{error} at {box}", remedy="check that the file is whole")
