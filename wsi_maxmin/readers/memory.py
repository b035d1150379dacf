"""Read a slide that is an array: a NumPy pyramid for tests, or one saved as ``.npz``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wsi_maxmin.errors import SlideError
from wsi_maxmin.geometry import SlideInfo, nominal_downsample
from wsi_maxmin.readers._base import Pixels, Reader


def open(path: Path, *, slide_mpp: float | None = None, slide_id: str) -> Reader:
    """Open an ``.npz`` with arrays ``level_0`` … (H, W, 3) uint8 and a number ``mpp``."""
    try:
        with np.load(path) as file:
            levels = [file[f"level_{index}"] for index in range(sum(name.startswith("level_") for name in file))]
            mpp = slide_mpp if slide_mpp is not None else float(file["mpp"]) if "mpp" in file else None
    except (OSError, ValueError, KeyError) as error:
        raise SlideError(f"{path} is not a readable slide", got=str(error), expected="an .npz of levels") from None
    return MemoryReader(levels, mpp=mpp, slide_id=slide_id, path=path)


class MemoryReader(Reader):
    """A pyramid of arrays.

    Parameters
    ----------
    levels : sequence of (H, W, 3) uint8
        The largest first.
    mpp : float or None
        µm per pixel of the first level.
    """

    def __init__(
        self,
        levels: Sequence[Pixels],
        *,
        mpp: float | None,
        slide_id: str = "memory",
        path: Path = Path("memory.npz"),
    ) -> None:
        if not levels or any(level.ndim != 3 or level.shape[2] != 3 or level.dtype != np.uint8 for level in levels):
            raise SlideError(f"{path} holds no pyramid", expected="levels of (H, W, 3) uint8")
        height, width = levels[0].shape[:2]
        self._levels = list(levels)
        self._info = SlideInfo(
            slide_id=slide_id,
            path=path,
            size_px=(width, height),
            mpp=mpp,
            level_downsamples=tuple(nominal_downsample((width, height), (v.shape[1], v.shape[0])) for v in levels),
            reader="memory",
        )

    @property
    def info(self) -> SlideInfo:
        """What the arrays say."""
        return self._info

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Cut a rectangle out of one level; see `Reader.read_level`."""
        source = self._levels[level]
        region = np.full((height, width, 3), 255, dtype=np.uint8)
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + height, source.shape[0]), min(x + width, source.shape[1])
        if top < bottom and left < right:
            region[top - y : bottom - y, left - x : right - x] = source[top:bottom, left:right]
        return region

    def close(self) -> None:
        """Do nothing: there is no file."""
