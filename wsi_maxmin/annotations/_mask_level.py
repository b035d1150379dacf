"""One level of a mask TIFF, read tile by tile or strip by strip."""

import math
import zlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import nominal_downsample

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

_CACHE_BYTES = 64 * 2**20
_LONGEST_BLANK = 4096
_MIN_IS_WHITE, _SEPARATE_PLANES, _JPEG = 0, 2, (6, 7)


class MaskLevel:
    """An image of the pyramid: what is not 0 is tumour.

    Parameters
    ----------
    path : Path
    page : TiffPage
        Its file may be closed.
    downsample : float
    slide_size_px : (int, int)
        Width and height of level 0; what a level holds beyond is padding.
    """

    def __init__(self, path: Path, page: tifffile.TiffPage, downsample: float, slide_size_px: tuple[int, int]) -> None:
        self.downsample = downsample
        width, height = slide_size_px
        self.size_px = (
            min(page.imagewidth, math.ceil(width / downsample)),
            min(page.imagelength, math.ceil(height / downsample)),
        )
        self._segment_px = _segment_px(page)
        self._grid = (
            math.ceil(page.imagewidth / self._segment_px[0]),
            math.ceil(page.imagelength / self._segment_px[1]),
        )
        self._path = path
        # Everything that tifffile would read from the file later, it reads now.
        self._decode = page.decode
        self._options = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}
        self._places = [*zip(page.dataoffsets, page.databytecounts, strict=True)]
        self._colours = max(page.samplesperpixel - len(page.extrasamples), 1)
        self._planes = self._colours if page.planarconfig == _SEPARATE_PLANES else 1
        # JPEG leaves faint marks around what is marked.
        self._least = 2 ** (page.bitspersample - 1) if page.compression in _JPEG else 1
        self._blanks: set[bytes] = set()
        segment_bytes = self._segment_px[0] * self._segment_px[1]
        self._cached = lru_cache(maxsize=max(_CACHE_BYTES // segment_bytes, 4))(self._read)

    @cached_property
    def is_marked(self) -> bool:
        """Whether there is any tumour."""
        return any(True for _ in self.marked())

    def marked(self) -> Iterator[tuple[int, int, Mask]]:
        """Give the corner (x, y) and the pixels of every segment with tumour."""
        across, down = self._grid
        for index in range(across * down):
            marks = self._read(index)
            if marks is not None:
                yield index % across * self._segment_px[0], index // across * self._segment_px[1], marks

    def look_up(self, columns: Indices, rows: Indices) -> Mask:
        """Return the mask at every combination of ascending rows and columns; nothing is tumour outside the slide.

        Returns
        -------
        (len(rows), len(columns)) bool
        """
        found = np.zeros((len(rows), len(columns)), dtype=np.bool_)
        (width, height), (across, down) = self._segment_px, self._grid
        for segment_row, part in _runs(rows, height, down, self.size_px[1]):
            for segment_column, run in _runs(columns, width, across, self.size_px[0]):
                marks = self._cached(segment_row * across + segment_column)
                if marks is not None:
                    inside = np.ix_(rows[part] - segment_row * height, columns[run] - segment_column * width)
                    found[part, run] = marks[inside]
        return found

    def _read(self, index: int) -> Mask | None:
        """Return the pixels of a segment that lie on the slide, (h, w) bool; None where all are 0."""
        across, down = self._grid
        planes = [self._read_plane(index + plane * across * down) for plane in range(self._planes)]
        marks = [plane for plane in planes if plane is not None]
        return np.logical_or.reduce(marks) if marks else None

    def _read_plane(self, index: int) -> Mask | None:
        offset, length = self._places[index]
        if length == 0:
            return None
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
            if data in self._blanks:
                return None
            decoded, (_, _, top, left, _), _ = self._decode(data, index, **self._options)
        except (OSError, RuntimeError, ValueError, tifffile.TiffFileError, zlib.error) as error:
            raise InputError(
                f"{self._path} cannot be read", got=repr(error), expected="a whole TIFF", remedy="copy the file again"
            ) from error
        width, height = self.size_px
        pixels = np.asarray(decoded)
        inside = pixels[0, : max(height - top, 0), : max(width - left, 0), : self._colours]
        marks: Mask = np.any(inside >= self._least, axis=2)
        if marks.any():
            return marks
        # Empty tiles are packed to the same few bytes, and most of a mask is empty.
        if length <= _LONGEST_BLANK and not pixels.any():
            self._blanks.add(data)
        return None


def open_levels(path: Path) -> tuple[MaskLevel, ...]:
    """Return the levels of a mask, the largest first; images that are no reduction of it are left out.

    Raises
    ------
    InputError
        If the file is missing or not a TIFF, or its 0 means white.
    """
    expected = "a TIFF of the slide's size, 0 where there is no tumour"
    if not path.is_file():
        raise InputError("no such mask", got=path, expected=expected)
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [page for top in tiff.pages for page in (top.aspage(), *(top.pages or ()))]
            pages = [page for page in pages if isinstance(page, tifffile.TiffPage)]
            first = pages[0]
            size = first.imagewidth, first.imagelength
            levels = [MaskLevel(path, page, scale, size) for page in pages if (scale := _downsample(size, page))]
    except (OSError, IndexError, ValueError, tifffile.TiffFileError) as error:
        raise InputError(f"{path} is not a mask that can be read", got=repr(error), expected=expected) from None
    if first.photometric == _MIN_IS_WHITE:
        raise InputError(
            f"{path.name}: it is not clear whether 0 or white means no tumour",
            got="PhotometricInterpretation MinIsWhite",
            expected="MinIsBlack, RGB or a palette",
            remedy="save the mask with 0 as black",
        )
    return tuple(sorted(levels, key=lambda level: level.downsample))


def _segment_px(page: tifffile.TiffPage) -> tuple[int, int]:
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip, page.imagelength)


def _downsample(slide_size_px: tuple[int, int], page: tifffile.TiffPage) -> float | None:
    """Return the level-0 pixels per pixel of a page, None where its shape is another than the slide's."""
    segment = _segment_px(page) if page.is_tiled else (1, 1)
    size = page.imagewidth, page.imagelength
    downsample = nominal_downsample(slide_size_px, size, segment)
    for whole, part, padding in zip(slide_size_px, size, segment, strict=True):
        if not whole / downsample - 1 - 0.02 * part <= part <= whole / downsample + padding + 0.02 * part:
            return None
    return downsample


def _runs(places: Indices, length: int, count: int, limit: int) -> Iterator[tuple[int, slice]]:
    """Give the segments that ascending places lie in, each with the run of places in it."""
    cuts = np.searchsorted(places, np.minimum(np.arange(count + 1) * length, limit))
    for segment in np.flatnonzero(np.diff(cuts)):
        yield int(segment), slice(int(cuts[segment]), int(cuts[segment + 1]))
