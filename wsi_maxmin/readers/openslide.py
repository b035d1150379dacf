"""Read slides with OpenSlide: Aperio, Hamamatsu, Leica, MIRAX, Philips, DICOM, tiled TIFF and more."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from PIL import Image

from wsi_maxmin.errors import SlideError
from wsi_maxmin.geometry import SlideInfo, nominal_downsample
from wsi_maxmin.readers._base import Pixels, Reader, mean_mpp, unreadable


def open(path: Path, *, slide_mpp: float | None = None, slide_id: str) -> Reader:
    """Open a slide; see `wsi_maxmin.readers.open_slide`."""
    return OpenSlideReader(path, slide_mpp=slide_mpp, slide_id=slide_id)


class OpenSlideReader(Reader):
    """A slide opened by OpenSlide, whose handle any number of threads may share."""

    def __init__(self, path: Path, *, slide_mpp: float | None, slide_id: str) -> None:
        self._options: dict[str, Any] = {"path": path, "slide_mpp": slide_mpp, "slide_id": slide_id}
        self._lock = threading.Lock()
        self._handle: openslide.OpenSlide | None = None
        self._info: SlideInfo | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._options,)

    @property
    def _slide(self) -> openslide.OpenSlide:
        with self._lock:
            if self._handle is None:
                self._handle = _open_handle(self._options["path"])
            return self._handle

    @property
    def info(self) -> SlideInfo:
        """Size, levels and µm per pixel, as OpenSlide reports them."""
        if self._info is None:
            slide = self._slide
            given = self._options["slide_mpp"]
            self._info = SlideInfo(
                slide_id=self._options["slide_id"],
                path=self._options["path"],
                size_px=slide.dimensions,
                mpp=_mpp(slide, self._options["path"]) if given is None else given,
                file_mpp=None if given is None else _mpp_tag(slide, "x"),
                level_downsamples=tuple(_downsample(slide, level) for level in range(slide.level_count)),
                reader="openslide",
            )
        return self._info

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Read a rectangle of one level; see `Reader.read_level`."""
        path, place = self._options["path"], (level, x, y, width, height)
        try:
            with self.timing("read"):
                region = _region(self._slide, *place)
        except openslide.OpenSlideError:
            # OpenSlide refuses every later call on a handle that has failed once, also those of other threads, whose
            # tiles may be whole: let go of it, and ask once more on a handle of our own.
            self.close()
            try:
                with _open_handle(path) as slide:
                    region = _region(slide, *place)
            except openslide.OpenSlideError as error:
                raise unreadable(path, error, f"level {level}, {x},{y} {width}×{height}") from error
        # Outside the slide OpenSlide gives transparent black: laid over white it is white.
        canvas = Image.new("RGB", region.size, "white")
        canvas.paste(region, mask=region.getchannel("A"))
        return np.asarray(canvas)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        # Let go instead of closing: another thread may be reading, and the last one to let go closes the handle.
        with self._lock:
            self._handle = None


def _reopen(options: dict[str, Any]) -> OpenSlideReader:
    return OpenSlideReader(**options)


def _open_handle(path: Path) -> openslide.OpenSlide:
    if not path.exists():
        raise SlideError(f"{path} is gone", remedy="put it back")
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        got, remedy = (
            "a file that OpenSlide does not know",
            "give a slide, such as .svs, .ndpi, .mrxs or a tiled .tif",
        )
    except openslide.OpenSlideError as error:
        got, remedy = str(error), "check that the file is whole"
    raise SlideError(f"{path} is not a readable slide", got=got, remedy=remedy)


def _region(slide: openslide.OpenSlide, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
    # OpenSlide wants the corner in level-0 pixels and divides it by the downsample that it itself reports.
    downsample = slide.level_downsamples[level]
    return slide.read_region((round(x * downsample), round(y * downsample)), level, (width, height))


def _downsample(slide: openslide.OpenSlide, level: int) -> float:
    tile = tuple(int(slide.properties.get(f"openslide.level[{level}].tile-{side}", 1)) for side in ("width", "height"))
    return nominal_downsample(slide.dimensions, slide.level_dimensions[level], (tile[0], tile[1]))


def _mpp_tag(slide: openslide.OpenSlide, axis: str) -> float | None:
    try:
        return float(slide.properties[f"openslide.mpp-{axis}"])
    except (KeyError, ValueError):
        return None


def _mpp(slide: openslide.OpenSlide, path: Path) -> float | None:
    return mean_mpp(_mpp_tag(slide, "x"), _mpp_tag(slide, "y"), path.name)


def vendor(path: Path) -> str | None:
    """Return OpenSlide's name of a file's format; None for a file that it does not know."""
    return openslide.OpenSlide.detect_format(path)
