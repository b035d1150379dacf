"""One file an image and one a mask: ``images/<slide_id>/`` and ``masks/<slide_id>/``."""

import os
from pathlib import Path
from typing import Any

from wsi_maxmin.formats import Encoded
from wsi_maxmin.stores._store import NOWHERE, Place, Store

FOLDERS = ("images", "masks")

_LARGE, _SMALL, _TAIL = 128, 16, 512


def open(out: Path, slide_id: str, chunk: int) -> Store:  # noqa: ARG001 - a store's form
    """Return the store of a slide's chunk."""
    return FileStore(out, slide_id)


def chunk_sizes(count: int, shard_patches: int) -> list[int]:  # noqa: ARG001 - a store's form
    """Return how many patches one worker takes at a time.

    Large chunks, because neighbours share tiles of the slide; first a small one, which tells how long the others will
    take, and at the end small ones, so that no worker is left alone with a large one.
    """
    large = max(count - _SMALL - _TAIL, 0) // _LARGE
    small, rest = divmod(count - large * _LARGE, _SMALL)
    first = min(small, 1)
    return [_SMALL] * first + [_LARGE] * large + [_SMALL] * (small - first) + [rest] * (rest > 0)


class FileStore(Store):
    """See the module."""

    def __init__(self, out: Path, slide_id: str) -> None:
        self._out = str(out)
        self._folders = [f"{folder}/{slide_id}" for folder in FOLDERS]

    def put(
        self,
        patch_id: str,
        image: Encoded | None,
        mask: bytes | None,
        facts: dict[str, Any],  # noqa: ARG002 - the table has them
    ) -> tuple[Place, Place]:
        """See `Store.put`."""
        images, masks = self._folders
        return (
            self._write(f"{images}/{patch_id}{image.suffix}", image.data) if image is not None else NOWHERE,
            self._write(f"{masks}/{patch_id}.png", mask) if mask is not None else NOWHERE,
        )

    def _write(self, path: str, data: bytes) -> Place:
        handle = self._create(f"{self._out}/{path}")
        try:
            written = os.write(handle, data)
            while written < len(data):
                written += os.write(handle, data[written:])
        finally:
            os.close(handle)
        return Place(path, 0, len(data))

    def _create(self, path: str) -> int:
        # Plain system calls: pathlib and buffered files cost as much as a small patch.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            # The first patch of its kind makes the folder, so that none stays empty.
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o666)

    def close(self) -> None:
        """Do nothing: each file is closed where it is written."""
