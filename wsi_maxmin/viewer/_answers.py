"""What the page may ask, and the answers: no sockets here, so that each can be tested by itself."""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from wsi_maxmin.errors import WsiMaxminError
from wsi_maxmin.viewer._opened import Opened
from wsi_maxmin.viewer._shown import Shown
from wsi_maxmin.viewer._slide_tiles import SlideTiles

PAGE = Path(__file__).parent / "page"
STORE = "heatmap.ome.zarr"
FRESH, KEPT = "no-cache", "private, max-age=3600"
_MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_JPEG, _BINARY, _JSON = "image/jpeg", "application/octet-stream", "application/json"
_THUMBNAIL_PX = 480
_OPEN_SLIDES = 8


class NotThereError(LookupError):
    """The page asked for something that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back to the browser.

    Attributes
    ----------
    body : bytes or Path
        A path is a file of a heatmap's store, which other viewers may read, and of which parts may be asked.
    media : str
        Its type.
    gzipped : bool
        Whether `body` is.
    cache : str
        Cache-Control.
    location : str or None
        Where to go instead, below the page's root.
    """

    body: bytes | Path = b""
    media: str = _BINARY
    gzipped: bool = False
    cache: str = FRESH
    location: str | None = None


class Answers:
    """Answer what the page asks about some slides; any number of threads may ask.

    Parameters
    ----------
    slides : sequence of Shown
    left_out : int
        How many more slides the run has, which are not finished.
    say : callable
        Is told, once each, why a slide cannot be shown.
    """

    def __init__(
        self, slides: Sequence[Shown], *, left_out: int = 0, say: Callable[[str], object] = lambda _: None
    ) -> None:
        self._left_out, self._say, self._said = left_out, say, set[str]()
        self._slides = {shown.slide_id: shown for shown in slides}
        self._page = {path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*") if path.is_file()}
        self._open = lru_cache(maxsize=_OPEN_SLIDES)(Opened)

    def get(self, path: str, query: Mapping[str, str]) -> Answer:
        """Answer for a path below the page's root, still percent-encoded.

        Raises
        ------
        NotThereError
            If there is nothing of that name; whatever lies outside the results is not there.
        WsiMaxminError
            If a slide or its map cannot be read. The message may name files: it is not for the page.
        """
        parts = tuple(unquote(part) for part in path.removeprefix("/").split("/"))
        if any(part in (".", "..") or set(part) & set("/\0") for part in parts):
            raise NotThereError(path)
        try:
            return self._route(parts, query)
        except WsiMaxminError as error:
            self._tell(str(error))
            raise
        except (KeyError, ValueError, FileNotFoundError) as error:
            raise NotThereError(path) from error

    def _tell(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self._say(why)

    def _route(self, parts: tuple[str, ...], query: Mapping[str, str]) -> Answer:
        match parts:
            case ("",):
                return Answer(location=self._first_page())
            case ("api", "slides"):
                return _json({"slides": list(self._slides), "left_out": self._left_out})
            case ("api", "slides", slide_id):
                return _json(self.opened(slide_id).describe())
            case ("api", "slides", slide_id, "tiles"):
                return _json(self.opened(slide_id).tiles)
            case ("api", "slides", slide_id, "summary"):
                return _json(self.opened(slide_id).summary())
            case ("api", "slides", slide_id, "annotation"):
                return _json(self.opened(slide_id).outlines())
            case ("api", "slides", slide_id, "regions", channel):
                given = query.get("threshold")
                return _json(self.opened(slide_id).find(channel, None if given is None else float(given)))
            case ("slides", slide_id, "thumbnail.jpg"):
                return Answer(body=self._pixels(slide_id).thumbnail(_THUMBNAIL_PX), media=_JPEG, cache=KEPT)
            case ("slides", slide_id, "pixels", level, place):
                jpeg = self._pixels(slide_id).jpeg(int(level), *_place(place))
                return Answer(body=jpeg, media=_JPEG, cache=KEPT)
            case ("slides", slide_id, "values", channel, level, place):
                return self._values(slide_id, channel, int(level), *_place(place))
            case ("store", slide_id, name, *rest) if name == STORE:
                return Answer(body=_inside(self._slides[slide_id].store, rest))
            case _:
                file = self._page["/".join(parts)]
                return Answer(body=file.read_bytes(), media=_MEDIA.get(file.suffix, _BINARY))

    def _first_page(self) -> str:
        if len(self._slides) > 1 or self._left_out:
            return "index.html"
        return f"slide.html?id={quote(next(iter(self._slides)), safe='')}"

    def opened(self, slide_id: str) -> Opened:
        """Return a slide, open; the last ones stay open.

        Raises
        ------
        KeyError, InputError, SlideError
            If there is none of this name, or it or its map cannot be opened.
        """
        return self._open(self._slides[slide_id])

    def _pixels(self, slide_id: str) -> SlideTiles:
        pixels = self.opened(slide_id).pixels
        if pixels is None:
            raise KeyError(slide_id)
        return pixels

    def _values(self, slide_id: str, channel: str, level: int, column: int, row: int) -> Answer:
        """Return a map tile: its values, row by row, then as many bytes that are 1 where something was seen."""
        values, seen = self.opened(slide_id).map.tile(channel, level, column, row)
        packed = gzip.compress(values.tobytes() + seen.tobytes(), compresslevel=1, mtime=0)
        return Answer(body=packed, gzipped=True, cache=KEPT)


def _place(name: str) -> tuple[int, int]:
    """Return column and row of a tile called ``column_row``."""
    column, row = name.removesuffix(".jpg").split("_")
    return int(column), int(row)


def _json(values: Any) -> Answer:
    packed = gzip.compress(json.dumps(values, allow_nan=False).encode(), compresslevel=1, mtime=0)
    return Answer(body=packed, media=_JSON, gzipped=True)


def _inside(store: Path, parts: Sequence[str]) -> Path:
    """Return a file of a store; a link that leads out of it is not there, nor is what some systems take for folders."""
    if any("\\" in part for part in parts):
        raise KeyError(parts)
    try:
        path = store.joinpath(*parts).resolve()
        if path.is_relative_to(store.resolve()) and path.is_file():
            return path
    except OSError:  # a name that is too long for any file
        pass
    raise KeyError(parts)
