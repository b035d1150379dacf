"""The levels of a tiled TIFF: where each tile's bytes are, and how they become pixels."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffFileError, TiffPage
from upath import UPath

from wsi_maxmin.errors import SlideError
from wsi_maxmin.readers._base import Pixels, mean_mpp
from wsi_maxmin.readers._bytes import Ranges
from wsi_maxmin.slide_ids import source_key, source_name

_START, _END = b"\xff\xd8", b"\xff\xd9"
# Adobe's marker with transform 0: three components without it are taken for YCbCr.
_RGB_MARKER = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
_UM_PER_UNIT = {2: 25_400.0, 3: 10_000.0}
_REDUCED = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """One level of a pyramid.

    Attributes
    ----------
    size_px, tile_px : (int, int)
        Width and height of the level and of its tiles, pixels of the level.
    offsets, counts : (tiles,) int64
        Place of each tile's bytes in the file, in rows; a count of 0 is a tile that was never written.
    page : TiffPage
        For the codecs that need more of the tags.
    """

    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    page: TiffPage

    @property
    def is_jpeg(self) -> bool:
        """Whether its tiles are baseline JPEG of three components of 8 bits."""
        page = self.page
        colours = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
        return page.compression == COMPRESSION.JPEG and colours and page.bitspersample == 8

    @cached_property
    def _columns(self) -> int:
        return -(-self.size_px[0] // self.tile_px[0])

    @cached_property
    def _tables(self) -> bytes | None:
        return self.page.jpegtables

    def clip(self, x: int, y: int, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Return left, top, right and bottom of a rectangle inside the level; None if nothing of it is."""
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, self.size_px[0]), min(y + height, self.size_px[1])
        return (left, top, right, bottom) if left < right and top < bottom else None

    def span(self, row: int, column: int) -> tuple[int, int] | None:
        """Return offset and count of a tile's bytes; None for a tile that was never written."""
        index = row * self._columns + column
        count = int(self.counts[index])
        return (int(self.offsets[index]), count) if count else None

    def empty(self) -> Pixels:
        """Return a white tile."""
        return np.full((self.tile_px[1], self.tile_px[0], 3), 255, dtype=np.uint8)

    def decode(self, data: bytes, row: int, column: int) -> Pixels:
        """Return a tile's pixels, (tile height, tile width, 3) uint8 RGB.

        Raises
        ------
        ValueError
            If the data are not a whole tile; codecs raise errors of their own.
        """
        if self.is_jpeg:
            _require_end(data)
            # Without a JFIF marker RGB tiles are RGB, as Aperio writes them; libjpeg would take them for YCbCr.
            rgb = self.page.photometric == PHOTOMETRIC.RGB and b"JFIF" not in data[:32]
            pixels = imagecodecs.jpeg8_decode(
                data,
                tables=self._tables,
                colorspace=PHOTOMETRIC.RGB if rgb else None,
                outcolorspace=PHOTOMETRIC.RGB,
            )
        else:
            index = row * self._columns + column
            decoded = self.page.decode(data, index, jpegtables=self._tables)[0]
            pixels = np.squeeze(decoded, axis=0) if decoded is not None else np.empty(0)
        across, down = self.tile_px
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"a tile of {pixels.shape} {pixels.dtype}")
        if pixels.shape[:2] != (down, across):
            # Some writers, and tifffile's decoder, cut the tiles of the last row and column at the level's edge.
            whole = self.empty()
            whole[: pixels.shape[0], : pixels.shape[1]] = pixels[:down, :across]
            return whole
        return pixels

    def standalone_jpeg(self, data: bytes) -> bytes:
        """Return a tile's compressed bytes as a JPEG file: with the shared tables, and a marker where it is RGB."""
        if data[:2] != _START:
            raise ValueError("a tile that is no JPEG")
        _require_end(data)
        tables = self._tables
        rgb = self.page.photometric == PHOTOMETRIC.RGB and b"JFIF" not in data[:32] and b"Adobe" not in data[:64]
        between = tables[2:].removesuffix(_END) if tables else b""
        return _START + (_RGB_MARKER if rgb else b"") + between + data[2:]


def _require_end(data: bytes) -> None:
    """Check that JPEG data have an end: libjpeg paints what is missing grey, and says nothing."""
    if data.rfind(_END) < 0:
        raise ValueError("JPEG data without an end")


def read_levels(path: Path | UPath, source: Ranges, *, square: bool) -> tuple[list[Level], float | None]:
    """Return the levels of a slide, largest first, and its µm per pixel (None where the file does not say).

    Raises
    ------
    SlideError
        If the file is no tiled TIFF of 8-bit colours, or its pixels are not square and `square` asks for it.
    """
    shown = source_key(path)
    try:
        with source.header() as file, TiffFile(file, name=source_name(path).name) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, TiffPage)]
            levels = [_level(page) for page in pages if _is_level(page, first=page is pages[0])]
            first = pages[0] if pages else None
            mpp = _mpp(first, path) if first is not None and square else _mpp_tags(first)[0] if first else None
    except FileNotFoundError as error:
        # fsspec says so too of a server that does not answer.
        if isinstance(error.__cause__, OSError):
            raise SlideError(
                f"the server of {shown} cannot be reached", got=type(error.__cause__).__name__, remedy="try again"
            ) from None
        raise SlideError("no such slide", got=shown, remedy="check the path") from None
    except (TiffFileError, OSError, ValueError, IndexError, KeyError) as error:
        if isinstance(error, SlideError):
            raise
        raise SlideError(
            f"{shown} is not a readable slide", got=str(error), expected="a tiled TIFF or SVS", remedy=source.doubt()
        ) from None
    if not levels:
        raise SlideError(f"{shown} is not a readable slide", got="no tiled level", expected="a tiled TIFF or SVS")
    return sorted(levels, key=lambda level: -level.size_px[0]), mpp


def _is_level(page: TiffPage, *, first: bool) -> bool:
    # Aperio's levels carry no mark; labels and macro images are not tiled. In other files a level says that it is one.
    aperio = page.description.startswith("Aperio")
    return bool(page.is_tiled and page.samplesperpixel == 3 and (first or aperio or page.subfiletype & _REDUCED))


def _level(page: TiffPage) -> Level:
    if page.planarconfig != 1:
        raise SlideError("its colours lie in separate planes", expected="contiguous RGB")
    return Level(
        size_px=(page.imagewidth, page.imagelength),
        tile_px=(page.tilewidth, page.tilelength),
        offsets=np.asarray(page.dataoffsets, dtype=np.int64),
        counts=np.asarray(page.databytecounts, dtype=np.int64),
        page=page,
    )


def _mpp(page: TiffPage, path: Path | UPath) -> float | None:
    return mean_mpp(*_mpp_tags(page), source_name(path).name)


def _mpp_tags(page: TiffPage) -> tuple[float | None, float | None]:
    """µm per pixel in x and y: Aperio's own word, else the resolution tags with their unit."""
    if page.description.startswith("Aperio"):
        found = re.search(r"\bMPP = ([\d.]+)", page.description)
        return (float(found[1]), float(found[1])) if found else (None, None)
    unit = _UM_PER_UNIT.get(page.tags.valueof("ResolutionUnit", 2))
    rationals = (page.tags.valueof(f"{axis}Resolution") for axis in "XY")
    per_unit = [ratio[0] / ratio[1] if ratio and ratio[1] else 0.0 for ratio in rationals]
    if unit is None or not all(per_unit):
        return None, None
    return unit / per_unit[0], unit / per_unit[1]
