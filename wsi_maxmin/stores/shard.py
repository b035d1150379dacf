"""Tar shards in WebDataset's layout: the members of a patch share a name and differ in suffix.

``<patch>.png`` or ``.jpg`` is the image, ``<patch>.mask.png`` its mask and ``<patch>.json`` its row of the table. The
table says where in its shard an image begins, so that training can read any patch without reading the shard.
"""

import json
import math
import tarfile
from pathlib import Path
from typing import Any

from wsi_maxmin.formats import Encoded
from wsi_maxmin.stores._store import NOWHERE, Place, Store

FOLDERS = ("shards",)

_BLOCK = tarfile.BLOCKSIZE
_NAME_BYTES, _LARGEST = 100, 8**11 - 1
_BUFFER_BYTES = 2**20


def open(out: Path, slide_id: str, chunk: int) -> Store:
    """Return the shard of a slide's chunk."""
    return ShardStore(out, slide_id, chunk)


def chunk_sizes(count: int, shard_patches: int) -> list[int]:
    """Return how many patches each shard holds: as many as were asked for, and the rest."""
    whole, rest = divmod(count, shard_patches)
    return [shard_patches] * whole + [rest] * (rest > 0)


class ShardStore(Store):
    """See the module."""

    def __init__(self, out: Path, slide_id: str, chunk: int) -> None:
        folder = out / FOLDERS[0] / slide_id
        folder.mkdir(parents=True, exist_ok=True)
        self._name = f"{FOLDERS[0]}/{slide_id}/{slide_id}-{chunk:05}.tar"
        self._file = (out / self._name).open("wb", buffering=_BUFFER_BYTES)
        self._position = 0

    def put(
        self, patch_id: str, image: Encoded | None, mask: bytes | None, facts: dict[str, Any]
    ) -> tuple[Place, Place]:
        """See `Store.put`."""
        # WebDataset takes everything behind the first dot of a name for its suffix.
        name = patch_id.replace(".", "_")
        places = (
            self._add(f"{name}{image.suffix}", image.data) if image is not None else NOWHERE,
            self._add(f"{name}.mask.png", mask) if mask is not None else NOWHERE,
        )
        known = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in facts.items()}
        self._add(f"{name}.json", json.dumps(known).encode())
        return places

    def _add(self, name: str, data: bytes) -> Place:
        header = _header(name, len(data))
        padding = -len(data) % _BLOCK
        self._file.write(b"".join([header, data, bytes(padding)]))
        offset = self._position + len(header)
        self._position = offset + len(data) + padding
        return Place(self._name, offset, len(data))

    def close(self) -> None:
        """Write the two empty blocks that end a tar."""
        self._file.write(bytes(2 * _BLOCK))
        self._file.close()


def _header(name: str, size: int) -> bytes:
    """Return a member's header: no time and no owner, so that the same patches are the same bytes."""
    written = name.encode()
    if len(written) >= _NAME_BYTES or not name.isascii() or size > _LARGEST:
        member = tarfile.TarInfo(name)
        member.size = size
        return member.tobuf(tarfile.PAX_FORMAT)
    # What tarfile does, ten times as fast: only name, size and checksum differ from one small member to the next.
    digits = b"%011o" % size
    check = _EMPTY_SUM + sum(written) + sum(digits)
    return b"".join(
        [written.ljust(_NAME_BYTES, b"\0"), _EMPTY[100:124], digits, _EMPTY[135:148], b"%06o\0 " % check, _EMPTY[156:]]
    )


def _empty_header() -> bytes:
    """Return the header of a member without name and size, and without the digits of its size and checksum."""
    blank = bytearray(tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT))
    blank[124:135] = bytes(11)
    # A checksum is taken as if its own field were spaces.
    blank[148:156] = b" " * 8
    return bytes(blank)


_EMPTY = _empty_header()
_EMPTY_SUM = sum(_EMPTY)
