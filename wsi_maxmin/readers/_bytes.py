"""Ranges of bytes of a file, local or behind any fsspec URL, for any number of threads at once."""

import hashlib
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from upath import UPath

from wsi_maxmin.errors import MissingExtraError, SlideError
from wsi_maxmin.slide_ids import source_key

_HEADER_BLOCK = 2**18
_SAMPLES, _SAMPLE_BYTES = 16, 2**14


class Ranges(Protocol):
    """A file of which any part can be read."""

    def read(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read (offset, count) spans; a span that reaches behind the end of the file comes back short."""

    def size(self) -> int:
        """Return how many bytes there are."""

    def header(self) -> IO[bytes]:
        """Open the file as a seekable stream, for a library to find its way in it."""

    def doubt(self) -> str | None:
        """Return what, other than the file, may be why it cannot be read; None where nothing is."""

    def close(self) -> None:
        """Let go of the file; a later read opens it again."""


def ranges(path: Path | UPath) -> Ranges:
    """Return the bytes of a file; nothing is opened yet.

    Raises
    ------
    MissingExtraError
        If the URL is of a kind that needs a package which is not installed.
    """
    if isinstance(path, Path):
        return LocalRanges(path)
    try:
        _ = path.fs
    except ImportError as error:
        raise MissingExtraError(
            f"{source_key(path)} needs a package that is not installed",
            got=error,
            remedy='pip install "wsi-maxmin[cloud]"',
        ) from None
    return RemoteRanges(path)


def content_facts(source: Ranges) -> dict[str, object]:
    """Return by what the content of a file is recognised: how many bytes, and a hash of samples of them."""
    return {"bytes": source.size(), "sampled": _sample_digest(source)}


def _sample_digest(source: Ranges) -> str:
    """Return a hash of 16 KiB at 16 places from the first byte to the last: as quick for a slide of any size."""
    last = max(source.size() - _SAMPLE_BYTES, 0)
    spans = [(last * place // (_SAMPLES - 1), _SAMPLE_BYTES) for place in range(_SAMPLES)]
    return hashlib.sha256(b"".join(source.read(spans))).hexdigest()[:16]


class LocalRanges:
    """A local file, read by position, so that threads need no lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: _Handle | None = None

    def read(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """See `Ranges.read`."""
        with self._lock:
            if self._file is None:
                self._file = _Handle(self._path)
            # The reference keeps the file open for this read if another thread closes the reader.
            file = self._file
        return [os.pread(file.number, count, offset) for offset, count in spans]

    def size(self) -> int:
        """See `Ranges.size`."""
        return self._path.stat().st_size

    def header(self) -> IO[bytes]:
        """See `Ranges.header`."""
        return self._path.open("rb")

    def doubt(self) -> str | None:
        """See `Ranges.doubt`."""
        return None

    def close(self) -> None:
        """See `Ranges.close`."""
        with self._lock:
            self._file = None


class _Handle:
    """An open file that closes when the last thread lets go of it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)


class RemoteRanges:
    """A file behind a URL: the spans of one call are asked for together."""

    def __init__(self, path: UPath) -> None:
        self._path = path

    def read(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """See `Ranges.read`."""
        starts, ends = [offset for offset, _ in spans], [offset + count for offset, count in spans]
        try:
            parts: list[bytes] = self._path.fs.cat_ranges([self._path.path] * len(spans), starts, ends)
        except Exception as error:
            # fsspec passes on whatever its many backends raise.
            raise SlideError(f"{source_key(self._path)} cannot be read", got=type(error).__name__) from error
        return parts

    def size(self) -> int:
        """See `Ranges.size`."""
        return int(self._path.fs.size(self._path.path))

    def header(self) -> IO[bytes]:
        """See `Ranges.header`."""
        options: dict[str, Any] = {"cache_type": "blockcache", "block_size": _HEADER_BLOCK}
        opened: IO[bytes] = self._path.fs.open(self._path.path, "rb", **options)
        return opened

    def doubt(self) -> str | None:
        """See `Ranges.doubt`."""
        # What fsspec calls partial is known over HTTP alone.
        if self._path.protocol not in ("http", "https") or self._path.fs.info(self._path.path).get("partial"):
            return None
        return "this server does not say that it answers range requests: use one that does, or copy the file"

    def close(self) -> None:
        """Do nothing: no connection is held."""
