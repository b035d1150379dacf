"""What every reader does, and reading at any µm per pixel on top of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from upath import UPath

from wsi_maxmin.errors import SlideError
from wsi_maxmin.geometry import Box, SlideInfo
from wsi_maxmin.readers._area import reduce_by_area
from wsi_maxmin.readers._bytes import LocalRanges, Ranges, content_facts
from wsi_maxmin.runinfo import Stopwatch

Pixels = npt.NDArray[np.uint8]

_EXACT = 1e-3
_BAND_PX = 2**24
_MPP_AGREEMENT = 0.01


class Reader(ABC):
    """A slide that can be read by several threads at once, pickled, and opened again in another process.

    Subclasses implement `info`, `read_level` and `close`, and keep only path and options in their pickled state. They
    say where `read_level` spends its time by `timing`.
    """

    _stopwatch: Stopwatch | None = None

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

    def jpeg(self, level: int, x: int, y: int, width: int, height: int) -> bytes | None:  # noqa: ARG002
        """Return a rectangle of one level as the JPEG file that the slide itself holds, without decoding it.

        None where the rectangle is not exactly one compressed tile inside the slide, which for many readers is always.
        """
        return None

    @contextmanager
    def timed_by(self, stopwatch: Stopwatch) -> Iterator[None]:
        """Let a stopwatch get what is read in the block, summed over the threads that read.

        Stages are ``read`` (bytes), ``decode`` (to pixels) and ``resample``. A reader whose library does the first two
        in one call, such as OpenSlide, adds both to ``read``.
        """
        self._stopwatch = stopwatch
        try:
            yield
        finally:
            self._stopwatch = None

    def timing(self, stage: Literal["read", "decode", "resample"]) -> AbstractContextManager[None]:
        """Time a block, if somebody asked."""
        stopwatch = self._stopwatch
        return nullcontext() if stopwatch is None else stopwatch.stage(stage, summed=True)

    def level_for(self, downsample: float) -> int:
        """Return the coarsest level that is not coarser than `downsample`; 0 where even level 0 is."""
        finer = [i for i, own in enumerate(self.info.level_downsamples) if own <= downsample * (1 + _EXACT)]
        return max(finer, default=0)

    def read(self, box: Box, width: int, height: int) -> Pixels:
        """Read a box as (height, width, 3) uint8 RGB, white outside the slide.

        Pixels come from the next finer level, averaged over the area of each output pixel; a box smaller than its
        output is enlarged bilinearly.
        """
        bands = list(self._bands(box, width, height))
        return bands[0] if len(bands) == 1 else np.concatenate(bands)

    def _bands(self, box: Box, width: int, height: int) -> Iterator[Pixels]:
        """Read a box in bands from top to bottom: a slide with one huge level must never lie in memory at once."""
        step = min(box.width / width, box.height / height)
        own = self.info.level_downsamples[self.level_for(step)]
        band = max(int(_BAND_PX / (box.width / own) / (box.height / own / height)), 1)
        if band >= height:
            yield self._read_once(box, width, height)
            return
        for top in range(0, height, band):
            bottom = min(top + band, height)
            y, stop = (box.y + round(row * box.height / height) for row in (top, bottom))
            part = Box(x=box.x, y=y, width=box.width, height=stop - y)
            yield self._read_once(part, width, bottom - top)

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
        step = downsample / own
        with self.timing("resample"):
            if step > 1 + _EXACT and abs(step - round(step)) > _EXACT:
                return reduce_by_area(region, inner, width, height)
            # At whole steps Pillow's box filter is the mean over the area too, and faster.
            rule = Image.Resampling.BILINEAR if step < 1 - _EXACT else Image.Resampling.BOX
            return np.asarray(Image.fromarray(region).resize((width, height), rule, box=inner))

    def overview(self, downsample: float) -> Pixels:
        """Read the whole slide, reduced."""
        return np.concatenate(list(self.overview_bands(downsample)))

    def overview_bands(self, downsample: float) -> Iterator[Pixels]:
        """Read the whole slide, reduced, in bands from top to bottom."""
        width, height = self.info.size_px
        return self._bands(self.info.bounds, max(round(width / downsample), 1), max(round(height / downsample), 1))

    def fingerprint(self) -> dict[str, object]:
        """Facts by which a later run recognises the same file; of its content, a hash of samples."""
        facts: dict[str, object] = {"file": self.info.path.name, "bytes": None, "size_px": list(self.info.size_px)}
        source = self._bytes()
        if source is None:
            return facts
        return {**facts, **content_facts(source)}

    def _bytes(self) -> Ranges | None:
        """Return the slide's file; None of a slide that is none."""
        path = self.info.path
        return LocalRanges(path) if isinstance(path, Path) and path.is_file() else None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def mean_mpp(x: float | None, y: float | None, name: str) -> float | None:
    """Return a slide's µm per pixel from those of its two axes; None where either is missing.

    Raises
    ------
    SlideError
        If its pixels are not square.
    """
    if x is None or y is None:
        return None
    if abs(x - y) > _MPP_AGREEMENT * y:
        raise SlideError(
            f"{name}: its pixels are not square",
            got=f"{x:g} × {y:g} µm",
            expected="µm per pixel in x and y within 1 %",
            remedy="pass --slide-mpp if the file is wrong",
        )
    return (x + y) / 2


def unreadable(path: Path | UPath, error: Exception, box: str) -> SlideError:
    """Return the error that names slide and place of a failed read."""
    return SlideError(f"{path.name} cannot be read", got=f"{error} at {box}", remedy="check that the file is whole")
