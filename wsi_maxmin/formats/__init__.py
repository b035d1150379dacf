"""How a patch becomes bytes, one file each: ``encode(slide, box, side_px, quality=…) -> Encoded | None``."""

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.formats._encoded import Encoded

__all__ = ["Encoded", "plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="format")
