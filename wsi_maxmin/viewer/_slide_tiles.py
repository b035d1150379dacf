"""A slide as JPEG tiles of powers of two, for a deep-zoom page."""

import io
import math
from functools import lru_cache

from PIL import Image

from wsi_maxmin.geometry import Box
from wsi_maxmin.readers import Reader

TILE_PX = 512
_QUALITY = 90
# At some 60 kB each about 25 MB.
_KEPT = 400
_EXACT = 1e-3


class SlideTiles:
    """Tiles of a slide, the last ones kept; level k has 2^k level-0 pixels a pixel.

    Parameters
    ----------
    slide : Reader
    """

    def __init__(self, slide: Reader) -> None:
        self.slide = slide
        self.size_px = slide.info.size_px
        self.jpeg = lru_cache(maxsize=_KEPT)(self._jpeg)

    @property
    def levels(self) -> int:
        """How many levels there are; the coarsest is one tile."""
        return level_count(self.size_px)

    def _jpeg(self, level: int, column: int, row: int) -> bytes:
        """Return one tile as a JPEG file; at the slide's edge it ends with the slide.

        Raises
        ------
        KeyError
            If there is no such tile.
        """
        if not 0 <= level < self.levels:
            raise KeyError(level)
        step = 2**level
        x, y = column * TILE_PX * step, row * TILE_PX * step
        width, height = (min(TILE_PX * step, side - start) for side, start in zip(self.size_px, (x, y), strict=True))
        if min(x, y) < 0 or min(width, height) <= 0:
            raise KeyError((column, row))
        if width == height == TILE_PX * step and (stored := self._stored(step, x // step, y // step)) is not None:
            return stored
        box = Box(x=x, y=y, width=width, height=height)
        return encode(Image.fromarray(self.slide.read(box, math.ceil(width / step), math.ceil(height / step))))

    def _stored(self, step: int, x: int, y: int) -> bytes | None:
        """Return the slide's own compressed tile, where there is one of this size and place."""
        level = self.slide.level_for(step)
        if abs(self.slide.info.level_downsamples[level] / step - 1) > _EXACT:
            return None
        return self.slide.jpeg(level, x, y, TILE_PX, TILE_PX)

    def thumbnail(self, side_px: int) -> bytes:
        """Return the whole slide as a JPEG file, its longer side `side_px`."""
        return encode(Image.fromarray(self.slide.overview(max(max(self.size_px) / side_px, 1.0))))


def level_count(size_px: tuple[int, int]) -> int:
    """Return how many levels it takes until a slide is one tile."""
    return 1 + max(math.ceil(math.log2(max(size_px) / TILE_PX)), 0)


def encode(image: Image.Image) -> bytes:
    """Return an image as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
