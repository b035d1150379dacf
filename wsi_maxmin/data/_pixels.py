"""The pixels of a sample, wherever they are: a file, a part of one, or a slide."""

import atexit
import io
import os
import threading
from collections import OrderedDict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wsi_maxmin.data._samples import FilePart, SlidePart
from wsi_maxmin.errors import InputError
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.readers._base import Pixels
from wsi_maxmin.slide_list import ListedSlide

OPEN_SLIDES = 4


def read_image(place: Path | FilePart | SlidePart) -> torch.Tensor:
    """Read an image as (3, H, W) uint8 RGB.

    Raises
    ------
    InputError, SlideError
        If the image, or the slide that it is in, cannot be read.
    """
    pixels = _slides.read(place) if isinstance(place, SlidePart) else _decode(place, "RGB")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(place: Path | FilePart) -> torch.Tensor:
    """Read a mask as (1, H, W) uint8: 1 where the file is not 0, in any of its colours if it has some.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    pixels = _decode(place, None)
    foreground = pixels[..., :3].any(axis=-1) if pixels.ndim == 3 else pixels != 0
    return torch.from_numpy(foreground.astype(np.uint8))[None]


class SlideCache:
    """Readers of slides, of which those that were used last are open.

    Parameters
    ----------
    limit : int
        Most slides open at once. An open slide keeps its index and its last tiles in memory, up to about 0.1 GB.
    """

    def __init__(self, limit: int = OPEN_SLIDES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._readers: OrderedDict[ListedSlide, Reader] = OrderedDict()

    def read(self, part: SlidePart) -> Pixels:
        """Read a patch, (side_px, side_px, 3) uint8 RGB."""
        # A copy: what a reader gives may be read-only, which torch does not take.
        return np.array(self._reader(part.slide).read(part.box, part.side_px, part.side_px))

    def close(self) -> None:
        """Close all slides; a later read opens its slide again."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()

    def _reader(self, slide: ListedSlide) -> Reader:
        with self._lock:
            reader = self._readers.pop(slide, None)
            if reader is None:
                reader = open_slide(slide.path, slide_mpp=slide.mpp, slide_id=slide.slide_id)
            self._readers[slide] = reader
            # One more in front pushes at most one out. It stays in the list, closed: choosing a reader takes a while.
            for behind in islice(reversed(self._readers.values()), self._limit, self._limit + 1):
                behind.close()
        return reader


_slides = SlideCache()


def _start_anew() -> None:
    global _slides
    _slides = SlideCache()


# Processes that share a file handle move each other's position in it.
os.register_at_fork(after_in_child=_start_anew)
# Handles close cleanly only as long as the interpreter is whole.
atexit.register(lambda: _slides.close())


def _decode(place: Path | FilePart, mode: str | None) -> Pixels:
    try:
        with Image.open(_bytes(place) if isinstance(place, FilePart) else place) as image:
            return np.array(image.convert(mode) if mode else image)
    except (OSError, SyntaxError) as error:
        where = f"{place.path} at byte {place.offset}" if isinstance(place, FilePart) else place
        raise InputError("an image cannot be read", got=f"{where} ({error})") from error


def _bytes(part: FilePart) -> io.BytesIO:
    with part.path.open("rb") as file:
        file.seek(part.offset)
        data = file.read(part.count)
    if len(data) < part.count:
        raise OSError(f"it breaks off after {len(data)} of {part.count} bytes")
    return io.BytesIO(data)
