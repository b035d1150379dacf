"""What runs a model over tiles, one file each: ``open(model, *, device, precision, downsample) -> Engine``.

A file also says ``PRECISIONS``, the number formats that it can be asked for on each type of device; ``NEEDS``, a module
and the extra of this package that brings it; ``fast(device)``, the formats that this machine has by itself; and
``start_seconds(model)``, about how long it takes to be ready.
"""

from wsi_maxmin._plugins import Plugins

__all__ = ["plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="engine")
