"""How a patch becomes bytes, one file each.

Each has ``encode(slide, box, side_px, quality=…) -> Encoded | None``, and ``DECODES``: whether it needs the pixels of
every patch, so that processes soon pay.
"""

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.formats._encoded import Encoded

__all__ = ["Encoded", "plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="format")
