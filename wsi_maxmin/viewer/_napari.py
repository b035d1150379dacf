"""Slide, channels, labels and annotation as layers of napari, each where it belongs in µm.

napari's own OME-Zarr plug-in opens the heatmap opaque and hides the slide.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_maxmin.errors import InputError, MissingExtraError
from wsi_maxmin.geometry import Box
from wsi_maxmin.sinks._ngff import least_byte
from wsi_maxmin.viewer._opened import Opened
from wsi_maxmin.viewer._shown import Shown
from wsi_maxmin.viewer._slide_tiles import SlideTiles

_OPACITY = 0.6
_COLORMAPS = {"tumour": "viridis", "probability": "magma", "uncertainty": "cividis"}
_UNITS = ("micrometer", "micrometer")

Read = Callable[[slice, slice], npt.NDArray[np.uint8]]


class Lazy:
    """An array of which only the rectangles that are looked at are read; what napari needs of an array.

    Parameters
    ----------
    shape : tuple of int
        (H, W) or (H, W, 3).
    read : callable
        Gives the pixels of rows and columns, both plain slices.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...], read: Read) -> None:
        self.shape, self.ndim, self.size = shape, len(shape), math.prod(shape)
        self._read = read

    def __getitem__(self, key: Any) -> npt.NDArray[np.uint8]:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys = (*keys[:at], *[slice(None)] * (self.ndim - len(keys) + 1), *keys[at + 1 :])
        keys = (*keys, *[slice(None)] * (self.ndim - len(keys)))
        (rows, in_rows), (columns, in_columns) = map(_plain, keys[:2], self.shape)
        found: npt.NDArray[np.uint8] = self._read(rows, columns)[in_rows, in_columns, *keys[2:]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self[:], dtype=dtype, copy=copy)


def _plain(wanted: Any, side: int) -> tuple[slice, Any]:
    """Return the plain slice to read for an index or slice, and what of that is wanted."""
    if not isinstance(wanted, slice):
        index = range(side)[int(wanted)]
        return slice(index, index + 1), 0
    chosen = range(side)[wanted]
    if not len(chosen):
        return slice(0, 0), slice(None)
    return slice(min(chosen), max(chosen) + 1), slice(None, None, chosen.step)


def show(slides: Sequence[Shown]) -> None:
    """Open napari and wait until its window is closed.

    Raises
    ------
    InputError
        If there are several slides.
    MissingExtraError
        If napari is not installed.
    """
    if len(slides) > 1:
        names = ", ".join(shown.slide_id for shown in slides[:5])
        raise InputError("napari shows one slide", got=f"{len(slides)} ({names} …)", remedy="give the folder of one")
    try:
        import napari
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "napari is not installed", got=f"no module {error.name}", remedy="pip install 'wsi-maxmin[napari]'"
        ) from error
    viewer = napari.Viewer(title=slides[0].slide_id)
    add_layers(viewer, Opened(slides[0]))
    napari.run()


def add_layers(viewer: Any, opened: Opened) -> None:
    """Add a slide, its channels, labels and annotation to a napari viewer or viewer model.

    Parameters
    ----------
    viewer : napari.Viewer or napari.components.ViewerModel
    opened : Opened
    """
    mpp = opened.map.mpp
    if opened.pixels is not None:
        levels = [_slide_level(opened.pixels, level) for level in range(opened.pixels.levels)]
        viewer.add_image(levels, multiscale=True, rgb=True, scale=(mpp, mpp), units=_UNITS, name="slide")
    (x, y), (across, down) = opened.map.levels[0].origin_l0, opened.map.levels[0].step_l0
    # napari counts from pixel centres: that of the first map pixel, from that of the slide's.
    placed = {
        "scale": (down * mpp, across * mpp),
        "translate": ((y + down / 2 - 0.5) * mpp, (x + across / 2 - 0.5) * mpp),
        "units": _UNITS,
        "multiscale": True,
    }
    main = opened.map.main_channel
    for channel in reversed(opened.map.channels):
        viewer.add_image(
            [_map_level(opened, channel, level) for level in range(len(opened.map.levels))],
            name=channel,
            colormap=_colormap(channel, least_byte(opened.threshold(channel)) if channel == main else 1),
            contrast_limits=(0, 255),
            interpolation2d="nearest",
            blending="translucent",
            opacity=_OPACITY,
            visible=channel == main,
            **placed,
        )
    if opened.map.labels:
        from napari.utils import DirectLabelColormap

        given = {entry["label-value"]: np.divide(entry["rgba"], 255) for entry in opened.map.label_about["colors"]}
        colors = DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", **given})
        viewer.add_labels(opened.map.labels, name="labels", colormap=colors, visible=False, **placed)
    if opened.shown.annotation is not None:
        rings = [np.asarray(ring)[:, ::-1] for ring in opened.outlines()]
        viewer.add_shapes(
            rings,
            shape_type="path",
            edge_color="#0057b8",
            edge_width=8,
            scale=(mpp, mpp),
            translate=(-mpp / 2, -mpp / 2),
            units=_UNITS,
            name="annotation",
        )
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.layers.selection.active = viewer.layers[main]


def _slide_level(pixels: SlideTiles, level: int) -> Lazy:
    step = 2**level
    width, height = (math.ceil(side / step) for side in pixels.size_px)

    def read(rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
        across, down = columns.stop - columns.start, rows.stop - rows.start
        if not across or not down:
            return np.empty((down, across, 3), dtype=np.uint8)
        box = Box(x=columns.start * step, y=rows.start * step, width=across * step, height=down * step)
        return pixels.slide.read(box, across, down)

    return Lazy((height, width, 3), read)


def _map_level(opened: Opened, channel: str, level: int) -> Lazy:
    width, height = opened.map.levels[level].size_px
    return Lazy((height, width), lambda rows, columns: opened.map.shown(channel, level, rows, columns))


def _colormap(channel: str, cut: int) -> Any:
    """Return a colour map that is transparent below `cut`."""
    from napari.utils.colormaps import Colormap, ensure_colormap

    base = ensure_colormap(_COLORMAPS.get(channel, "gray"))
    colors = base.map(np.linspace(0, 1, 256)).copy()
    colors[:cut, 3] = 0
    return Colormap(colors, name=f"{channel} from {cut / 255:.2f}", interpolation="zero")
