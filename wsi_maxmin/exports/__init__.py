"""Formats that a finished heatmap is written in for other programs, one file each: ``write(source, folder)``."""

from collections.abc import Iterator, Sequence

from wsi_maxmin._plugins import Plugins

__all__ = ["every_file", "plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="export")


def every_file(names: Sequence[str] | None = None) -> Iterator[str]:
    """Yield the names of all files and folders that exports of these formats, by default all, may write."""
    for name in plugins.names() if names is None else names:
        yield from plugins.load(name).FILES
