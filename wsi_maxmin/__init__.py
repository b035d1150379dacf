"""Weakly supervised tumour maps of whole-slide pathology.

The public names below load their modules when first used: ``import wsi_maxmin`` itself loads no torch.
"""

import importlib
from typing import Any

from wsi_maxmin._version import __version__

_HOMES = {
    "Box": "geometry",
    "SlideInfo": "geometry",
    "TileGrid": "grids",
    "open_slide": "readers",
    "find_tissue": "tissue",
    "make_grid": "tiling",
    "read_asap_xml": "annotations",
    "load_config": "config",
    "load_checkpoint": "checkpoint",
    "TileMaps": "tilemaps",
    "stitch": "stitching",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
