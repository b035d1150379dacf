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
_BAND_PX = 2**24


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
        step = min(box.width / width, box.height / height)
        own = self.info.level_downsamples[self.level_for(step)]
        band = max(int(_BAND_PX / (box.width / own) / (box.height / own / height)), 1)
        if band >= height:
            return self._read_once(box, width, height)
        # A slide with one huge level must never lie in memory at once.
        parts = []
        for top in range(0, height, band):
            bottom = min(top + band, height)
            y, stop = (box.y + round(row * box.height / height) for row in (top, bottom))
            part = Box(x=box.x, y=y, width=box.width, height=stop - y)
            parts.append(self._read_once(part, width, bottom - top))
        return np.concatenate(parts)

    def _read_once(self, box: Box, width: int, height: int) -> Pixels:
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
        resized = Image.fromarray(region).resize((width, height), _filter(downsample / own), box=inner)
        return np.asarray(resized)

    def overview(self, downsample: float) -> Pixels:
        """Read the whole slide, reduced."""
        width, height = self.info.size_px
        return self.read(self.info.bounds, max(round(width / downsample), 1), max(round(height / downsample), 1))

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


def _filter(step: float) -> Image.Resampling:
    """Choose by input pixels per output pixel: a plain mean where they are whole, else a weighted one."""
    if step < 1 - _EXACT:
        return Image.Resampling.BILINEAR
    # Pillow's BOX counts an input pixel wholly or not at all, which at a step of 1.5 is nearest neighbour.
    whole = abs(step - round(step)) < _EXACT
    return Image.Resampling.BOX if whole else Image.Resampling.HAMMING


def unreadable(path: Path, error: Exception, box: str) -> SlideError:
    """Return the error that names slide and place of a failed read."""
    return SlideError(f"{path.name} cannot be read", got=f"{error} at {box}", remedy="check that the file is whole")
