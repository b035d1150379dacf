"""Which reader ``auto`` takes: the fast one where it gives OpenSlide's pixels, else OpenSlide.

The TIFF reader is taken for a local file if all of this holds, and for any URL, which OpenSlide cannot open:

- OpenSlide knows the file as ``generic-tiff`` or ``aperio``. The other tiled formats (Philips, Ventana, Leica, Trestle,
  Hamamatsu) place their tiles by rules of their own.
- Every level is tiled, of 8-bit RGB or YCbCr samples that lie together, compressed as baseline JPEG; or in RGB as
  Aperio's JPEG 2000, deflate, LZW or not at all. Both readers then give what libjpeg-turbo, OpenJPEG or a lossless
  codec gives. JPEG 2000 in YCbCr and WebP are left to OpenSlide.
- No tile of an Aperio file is empty: OpenSlide fills those from the next level.

A file that OpenSlide does not know at all, such as a pyramid in SubIFDs, is tried with the TIFF reader.
"""

from pathlib import Path

from tifffile import COMPRESSION, PHOTOMETRIC
from upath import UPath

from wsi_maxmin.errors import SlideError
from wsi_maxmin.readers._bytes import ranges
from wsi_maxmin.readers._tiff_levels import Level, read_levels

_LOSSLESS = (COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.DEFLATE, COMPRESSION.ADOBE_DEFLATE)
_JPEG_2000 = COMPRESSION.APERIO_JP2000_RGB


def choose_reader(path: Path | UPath) -> str:
    """Return the name of the reader for a slide, by the rule above."""
    if not isinstance(path, Path):
        return "tiff"
    # OpenSlide is loaded only here: a URL needs none of it.
    from wsi_maxmin.readers.openslide import vendor

    known_as = vendor(path)
    if known_as not in ("generic-tiff", "aperio", None):
        return "openslide"
    try:
        levels, _ = read_levels(path, ranges(path), square=False)
    except SlideError:
        return "openslide"
    if known_as is None:
        return "tiff"
    whole = known_as == "generic-tiff" or all((level.counts > 0).all() for level in levels)
    return "tiff" if whole and all(map(_same_pixels, levels)) else "openslide"


def _same_pixels(level: Level) -> bool:
    page = level.page
    plain = page.compression in (*_LOSSLESS, _JPEG_2000) and page.photometric == PHOTOMETRIC.RGB
    return level.is_jpeg or (plain and page.bitspersample == 8)
