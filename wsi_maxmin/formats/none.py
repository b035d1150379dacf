"""No image: training reads the patch from the slide."""

from wsi_maxmin.formats._encoded import Encoded
from wsi_maxmin.geometry import Box
from wsi_maxmin.readers import Reader

DECODES = False


def encode(slide: Reader, box: Box, side_px: int, *, quality: int) -> Encoded | None:  # noqa: ARG001 - a format's form
    """Return nothing."""
    return None
