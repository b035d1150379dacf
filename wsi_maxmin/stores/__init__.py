"""Where the bytes of patches go, one file each: ``open(out, slide_id, chunk) -> Store``.

A slide is cut in chunks, each by one worker, and each chunk has a store of its own;
``chunk_sizes(count, shard_patches)`` says how large they are.
"""

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.stores._store import NOWHERE, Place, Store

__all__ = ["NOWHERE", "Place", "Store", "plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="store")
