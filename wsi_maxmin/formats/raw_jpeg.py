"""The slide's own compressed tiles, copied without loss. A patch that is not one of them becomes JPEG of quality 95."""

from wsi_maxmin.formats._encoded import Encoded
from wsi_maxmin.formats.jpeg import encode_jpeg
from wsi_maxmin.geometry import Box
from wsi_maxmin.readers import Reader

DECODES = False
FALLBACK_QUALITY = 95


def encode(slide: Reader, box: Box, side_px: int, *, quality: int) -> Encoded | None:  # noqa: ARG001 - a format's form
    """Copy the tile that a box is; read and compress any other box."""
    downsample = box.width / side_px
    level = slide.level_for(downsample)
    if slide.info.level_downsamples[level] == downsample and box.x % downsample == 0 == box.y % downsample:
        data = slide.jpeg(level, int(box.x / downsample), int(box.y / downsample), side_px, side_px)
        if data is not None:
            return Encoded(data, "raw-jpeg", ".jpg")
    return Encoded(encode_jpeg(slide.read(box, side_px, side_px), FALLBACK_QUALITY), "jpeg", ".jpg")
