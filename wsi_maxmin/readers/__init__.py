"""Readers of slides, one file each: ``open(path, options) -> Reader``.

A reader pickles as its path and options and opens its file lazily, so that tasks carry coordinates and never handles.
"""

from pathlib import Path

from upath import UPath

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.errors import SlideError
from wsi_maxmin.readers._base import Pixels, Reader
from wsi_maxmin.slide_ids import as_source, source_name

__all__ = ["Pixels", "Reader", "open_slide", "plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="reader")


def open_slide(
    path: str | Path | UPath, *, reader: str = "auto", slide_mpp: float | None = None, slide_id: str | None = None
) -> Reader:
    """Open a slide.

    Parameters
    ----------
    path : path or URL
        The slide's file; any URL that fsspec knows.
    reader : str
        Name of a module of this folder; ``auto`` chooses by the rule in `wsi_maxmin.readers._choice`.
    slide_mpp : float, optional
        µm per level-0 pixel, where the file says nothing or something wrong.
    slide_id : str, optional
        Name of the slide in results; the file's stem by default.

    Raises
    ------
    SlideError
        If there is no such file, it is empty, or the reader cannot read it.

    Examples
    --------
    >>> slide = open_slide("tumor_001.tif")  # doctest: +SKIP
    >>> slide.info.size_px  # doctest: +SKIP
    (97792, 221184)
    """
    path = as_source(path)
    if isinstance(path, Path) and not path.exists():
        raise SlideError("no such slide", got=path, remedy="check the path")
    if reader == "auto":
        from wsi_maxmin.readers._choice import choose_reader

        reader = choose_reader(path)
    module = plugins.load(reader)
    if isinstance(path, Path) and path.is_file() and not path.stat().st_size:
        raise SlideError(f"{path} is empty", got="0 bytes", remedy="copy or download it again")
    opened: Reader = module.open(path, slide_mpp=slide_mpp, slide_id=slide_id or source_name(path).stem)
    return opened
