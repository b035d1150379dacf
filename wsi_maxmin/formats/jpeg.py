"""JPEG of a chosen quality; colours at half resolution up to quality 90, as slides have them, and at full above."""

import imagecodecs
import numpy as np

from wsi_maxmin.formats._encoded import Encoded
from wsi_maxmin.geometry import Box
from wsi_maxmin.readers import Pixels, Reader

DECODES = True
_HALF_COLOURS_UP_TO = 90


def encode(slide: Reader, box: Box, side_px: int, *, quality: int) -> Encoded | None:
    """Read a box and compress it."""
    return Encoded(encode_jpeg(slide.read(box, side_px, side_px), quality), "jpeg", ".jpg")


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """Compress (H, W, 3) uint8 RGB; `quality` from 1 to 100."""
    subsampling = "420" if quality <= _HALF_COLOURS_UP_TO else "444"
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=quality, subsampling=subsampling))
