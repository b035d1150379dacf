"""Formats that a heatmap is written in, one file each: ``write(heatmap, path, …)``."""

from wsi_maxmin._plugins import Plugins

__all__ = ["plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="sink")
