"""Readers of slides, one file each: ``open(path, options) -> Reader``.

A reader pickles as its path and options and opens its file lazily, so that tasks carry coordinates and never handles.
"""

from pathlib import Path

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.errors import SlideError
from wsi_maxmin.readers._base import Reader

__all__ = ["Reader", "open_slide", "plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="reader")


def open_slide(
    path: str | Path, *, reader: str = "auto", slide_mpp: float | None = None, slide_id: str | None = None
) -> Reader:
    """Open a slide.

    Parameters
    ----------
    path : path
        The slide's file.
    reader : str
        Name of a module of this folder; ``auto`` is openslide.
    slide_mpp : float, optional
        µm per level-0 pixel, where the file says nothing or something wrong.
    slide_id : str, optional
        Name of the slide in results; the file's stem by default.

    Raises
    ------
    SlideError
        If there is no such file, or the reader cannot read it.

    Examples
    --------
    >>> slide = open_slide("tumor_001.tif")  # doctest: +SKIP
    >>> slide.info.size_px  # doctest: +SKIP
    (97792, 221184)
    """
    path = Path(path)
    if not path.exists():
        raise SlideError("no such slide", got=path, remedy="check the path")
    module = plugins.load("openslide" if reader == "auto" else reader)
    opened: Reader = module.open(path, slide_mpp=slide_mpp, slide_id=slide_id or path.stem)
    return opened
