"""Read tiled TIFF and SVS with tifffile and imagecodecs: only the tiles asked for, from a path or any fsspec URL."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from upath import UPath

from wsi_maxmin.geometry import SlideInfo, nominal_downsample
from wsi_maxmin.readers._base import Pixels, Reader, unreadable
from wsi_maxmin.readers._bytes import Ranges, ranges
from wsi_maxmin.readers._tiff_levels import Level, read_levels
from wsi_maxmin.slide_ids import source_key

CACHE_BYTES = 64 * 2**20


def open(path: Path | UPath, *, slide_mpp: float | None = None, slide_id: str) -> Reader:
    """Open a slide; see `wsi_maxmin.readers.open_slide`."""
    return TiffReader(path, slide_mpp=slide_mpp, slide_id=slide_id)


class TiffReader(Reader):
    """A tiled TIFF whose tiles are decoded one by one; those that a read shares with the next are kept a while.

    Parameters
    ----------
    path : Path or UPath
    slide_mpp : float or None
        µm per level-0 pixel instead of the file's.
    slide_id : str
    cache_bytes : int
        Most bytes of decoded tiles to keep. Patches off the tile grid, read row by row, decode each tile once if
        two rows of tiles fit: 64 MiB hold two rows of 42 tiles of 512².
    """

    def __init__(
        self, path: Path | UPath, *, slide_mpp: float | None, slide_id: str, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._options: dict[str, Any] = {
            "path": path,
            "slide_mpp": slide_mpp,
            "slide_id": slide_id,
            "cache_bytes": cache_bytes,
        }
        self._lock = threading.Lock()
        self._source = ranges(path)
        self._opened: tuple[list[Level], SlideInfo] | None = None
        self._cache = _Cache(cache_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._options,)

    @property
    def info(self) -> SlideInfo:
        """Size, levels and µm per pixel, as the TIFF's tags say."""
        return self._open()[1]

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Read a rectangle of one level; see `Reader.read_level`."""
        source = self._open()[0][level]
        inside = source.clip(x, y, width, height)
        if inside is None:
            return np.full((height, width, 3), 255, dtype=np.uint8)
        left, top, right, bottom = inside
        across, down = source.tile_px
        tiles = [
            (row, column)
            for row in range(top // down, -(-bottom // down))
            for column in range(left // across, -(-right // across))
        ]
        whole = inside == (x, y, x + width, y + height)
        if whole and len(tiles) == 1 and (width, height) == source.tile_px:
            # Nothing to paste, and nothing for a next read to share.
            return self._tiles(level, tiles, keep=False)[0]
        region = np.empty((height, width, 3), dtype=np.uint8)
        if not whole:
            region.fill(255)
        for (row, column), pixels in zip(tiles, self._tiles(level, tiles), strict=True):
            x0, y0 = max(left, column * across), max(top, row * down)
            x1, y1 = min(right, (column + 1) * across), min(bottom, (row + 1) * down)
            part = pixels[y0 - row * down : y1 - row * down, x0 - column * across : x1 - column * across]
            region[y0 - y : y1 - y, x0 - x : x1 - x] = part
        return region

    def jpeg(self, level: int, x: int, y: int, width: int, height: int) -> bytes | None:
        """Return the slide's own compressed tile; see `Reader.jpeg`."""
        source = self._open()[0][level]
        across, down = source.tile_px
        if x % across or y % down or (width, height) != source.tile_px:
            return None
        if not source.is_jpeg or source.clip(x, y, width, height) != (x, y, x + width, y + height):
            return None
        span = source.span(y // down, x // across)
        if span is None:
            return None
        data = self._fetch([span])[0]
        try:
            return source.standalone_jpeg(data)
        except ValueError as error:
            raise unreadable(self.info.path, error, _place(source, level, y // down, x // across)) from error

    def _bytes(self) -> Ranges:
        return self._source

    def close(self) -> None:
        """Close the file and forget what was decoded; a later read opens it again."""
        with self._lock:
            self._opened = None
        self._source.close()
        self._cache.clear()

    def _open(self) -> tuple[list[Level], SlideInfo]:
        # Bound before it is looked at: another thread may close the reader meanwhile.
        opened = self._opened
        if opened is None:
            with self._lock:
                opened = self._opened = self._opened or self._parse()
        return opened

    def _parse(self) -> tuple[list[Level], SlideInfo]:
        path, given = self._options["path"], self._options["slide_mpp"]
        levels, mpp = read_levels(path, self._source, square=given is None)
        sizes = [level.size_px for level in levels]
        downsamples = (nominal_downsample(sizes[0], level.size_px, level.tile_px) for level in levels)
        info = SlideInfo(
            slide_id=self._options["slide_id"],
            # What is shown and kept of a URL has no user and no query: those may be secrets.
            path=path if isinstance(path, Path) else UPath(source_key(path)),
            size_px=sizes[0],
            mpp=mpp if given is None else given,
            file_mpp=None if given is None else mpp,
            level_downsamples=tuple(downsamples),
            reader="tiff",
        )
        return levels, info

    def _tiles(self, level: int, tiles: list[tuple[int, int]], *, keep: bool = True) -> list[Pixels]:
        source = self._open()[0][level]
        found = {}
        if keep:
            found = {tile: pixels for tile in tiles if (pixels := self._cache.get((level, *tile))) is not None}
        spans = {tile: span for tile in tiles if tile not in found and (span := source.span(*tile)) is not None}
        read = self._fetch(list(spans.values())) if spans else []
        for tile, data in zip(spans, read, strict=True):
            try:
                with self.timing("decode"):
                    found[tile] = source.decode(data, *tile)
            except Exception as error:
                # Each codec has an error class of its own.
                raise unreadable(self.info.path, error, _place(source, level, *tile)) from error
            if keep:
                self._cache.put((level, *tile), found[tile])
        # A tile without bytes was never scanned.
        return [found[tile] if tile in found else source.empty() for tile in tiles]

    def _fetch(self, spans: list[tuple[int, int]]) -> list[bytes]:
        """Read spans of the file, each whole: codecs take some of the pixels for all of them."""
        with self.timing("read"):
            read = self._source.read(spans)
        for (offset, count), data in zip(spans, read, strict=True):
            if len(data) < count:
                error = EOFError(f"the file ends {count - len(data)} bytes before the end of a tile")
                raise unreadable(self.info.path, error, f"byte {offset}")
        return read


class _Cache:
    """The last tiles that were decoded, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[tuple[int, int, int], Pixels] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[int, int, int]) -> Pixels | None:
        with self._lock:
            pixels = self._tiles.get(key)
            if pixels is not None:
                self._tiles.move_to_end(key)
            return pixels

    def put(self, key: tuple[int, int, int], pixels: Pixels) -> None:
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self._limit and len(self._tiles) > 1:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._tiles.clear()
            self._bytes = 0


def _place(level: Level, number: int, row: int, column: int) -> str:
    across, down = level.tile_px
    return f"level {number}, {column * across},{row * down} {across}×{down}"


def _reopen(options: dict[str, Any]) -> TiffReader:
    return TiffReader(**options)
