"""Pictures inside the page: made small enough that hundreds of them do not make it too large."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, UnidentifiedImageError

BUDGET_BYTES = 24_000_000
"""Of all pictures of a page; in base64 they are a third more, 32 MB."""
MOST_BYTES = 200_000
_WIDTHS = (1200, 960, 720, 480, 320, 240)
_QUALITY = 82
_MARGIN_PX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture as the page holds it.

    Attributes
    ----------
    uri : str
        The JPEG file itself, as a data URI.
    width, height : int
        px.
    alt : str
        What is on it.
    """

    uri: str
    width: int
    height: int
    alt: str


def share_of(pictures: int) -> int:
    """Return how many bytes each of some pictures may have."""
    return min(BUDGET_BYTES // max(pictures, 1), MOST_BYTES)


def shrink(path: Path, alt: str, *, most_bytes: int, widths: Sequence[int] = _WIDTHS) -> Picture | None:
    """Return a picture without its white border, as wide as its bytes allow; None where it cannot be read.

    Parameters
    ----------
    path : Path
        Of any format that Pillow reads.
    alt : str
    most_bytes : int
        Of the JPEG file. The narrowest is taken even if it has more.
    widths : sequence of int
        px, from the widest; none is wider than the picture.
    """
    try:
        with Image.open(path) as image:
            whole = _without_border(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    jpeg, size = b"", (0, 0)
    for width in dict.fromkeys(min(width, whole.width) for width in widths):
        size = width, max(round(whole.height * width / whole.width), 1)
        file = io.BytesIO()
        whole.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=_QUALITY, optimize=True)
        jpeg = file.getvalue()
        if len(jpeg) <= most_bytes:
            break
    return Picture(
        uri="data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"), width=size[0], height=size[1], alt=alt
    )


def _without_border(image: Image.Image) -> Image.Image:
    """Return what is not white, and a little around it."""
    box = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
    if box is None:
        return image
    left, top, right, bottom = box
    return image.crop(
        (
            max(left - _MARGIN_PX, 0),
            max(top - _MARGIN_PX, 0),
            min(right + _MARGIN_PX, image.width),
            min(bottom + _MARGIN_PX, image.height),
        )
    )
