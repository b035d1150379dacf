"""Rules for overlapping tiles, one file each: ``weigh(position, side, stride) -> weights``.

``position`` is the distance of each point to the tile's first edge, in [0.5, side − 0.5] pixels of the tile's map;
neighbouring tiles begin ``stride`` pixels apart. The weight of a point is the product of its two axes' weights, and
must be above 0. The stitched value is the weighted mean; a rule that says ``HIGHEST = True`` takes the highest value
instead.
"""

from wsi_maxmin._plugins import Plugins

__all__ = ["plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="blend")
