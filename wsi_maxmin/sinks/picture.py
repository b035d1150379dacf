"""A picture of the slide with the map over it, for people who would rather look than read."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import zarr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from shapely.geometry.base import BaseGeometry

from wsi_maxmin.geometry import Box
from wsi_maxmin.grids import Georef
from wsi_maxmin.readers import Reader
from wsi_maxmin.sinks._ngff import ome_metadata
from wsi_maxmin.sinks._saving import save_png

PANEL_PX = 1100
_DPI = 150
_MARGIN = 0.03
_OPACITY = ((0, 0), (0.498, 0.2), (0.502, 0.45), (1, 0.75))
_BAR_STEPS = (1, 2, 5)
_OUTLINE = (
    "#0057b8"  # seen on stained tissue, on glass and on the map, by the colour-blind too; as on the page of `view`
)
# Left, right, bottom, top, level-0 px.
_Extent = tuple[float, float, float, float]


def write(
    slide: Reader,
    store: Path,
    path: Path,
    *,
    georef: Georef,
    box: Box,
    threshold: float,
    title: str,
    channel: str = "tumour",
    outline: BaseGeometry | None = None,
) -> None:
    """Draw the slide, and beside it the slide with the map over its tissue, contours at the threshold and scale bar.

    The colours turn at the threshold, so pictures of one model can be compared.

    Parameters
    ----------
    slide : Reader
    store : Path
        The slide's ``heatmap.ome.zarr``.
    path : Path
        PNG to write.
    georef : Georef
        Display grid of the store.
    box : Box
        What to show, level-0 px.
    threshold : float
        Where the contours run.
    title : str
    channel : str
        Channel of the store to show.
    outline : geometry, optional
        Annotation in level-0 px, drawn on both panels.
    """
    box = _with_margin(box, slide.info.bounds)
    scale = min(PANEL_PX / max(box.width, box.height), 1.0)
    pixels = slide.read(box, max(round(box.width * scale), 1), max(round(box.height * scale), 1))
    values, extent = _map_for(store, georef, channel, 1 / scale, box)
    aspect = box.height / box.width
    figure = Figure(figsize=(2 * 7.2 + 1.0, 7.2 * aspect + 0.9), dpi=_DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.imshow(pixels, extent=(box.x, box.right, box.bottom, box.y), interpolation="antialiased")
        axes.set_axis_off()
        if outline is not None:
            _draw_outline(axes, outline)
    norm = TwoSlopeNorm(vcenter=min(max(threshold, 0.01), 0.99), vmin=0, vmax=1)
    # Values are resampled before they are coloured: the same picture, in a quarter of the memory.
    image = right.imshow(
        values,
        extent=extent,
        cmap=_transparent("viridis"),
        norm=norm,
        interpolation="nearest",
        interpolation_stage="data",
    )
    _draw_contours(right, values, threshold, extent)
    for axes in (left, right):
        axes.set(xlim=(box.x, box.right), ylim=(box.bottom, box.y))
        _draw_scale_bar(axes, box, georef.slide_mpp)
    left.set_title(title, loc="left", fontsize=11, parse_math=False)
    said = "nothing was looked at" if np.isnan(values).all() else f"contour at {threshold:g}"
    right.set_title(f"{channel} map, {said}{_legend(outline)}", loc="left", fontsize=11)
    bar = figure.colorbar(image, ax=right, label=channel, fraction=0.045, pad=0.02)
    bar.set_ticks(sorted({0.0, threshold, 0.5, 1.0}))
    save_png(figure, path)


def _draw_contours(axes: Axes, values: npt.NDArray[np.float32], threshold: float, extent: _Extent) -> None:
    """Enclose what reaches the threshold; a contour is closed where the map ends, as those of other viewers are."""
    if not np.nanmax(values, initial=0) >= threshold:
        return
    left, right, bottom, top = extent
    across, down = (right - left) / values.shape[1], (bottom - top) / values.shape[0]
    wider = (left - across, right + across, bottom + down, top - down)
    closed = np.pad(np.nan_to_num(values), 1)
    axes.contour(closed, [threshold], colors="black", linewidths=0.8, extent=wider, origin="upper")


def _map_for(
    store: Path, georef: Georef, channel: str, downsample: float, box: Box
) -> tuple[npt.NDArray[np.float32], _Extent]:
    """Return what the box shows of the coarsest level not coarser than the picture, and the level-0 rectangle it spans.

    It is NaN on glass and where no tile was.
    """
    group = zarr.open_group(store, mode="r")
    metadata = ome_metadata(group)
    labels = [entry["label"] for entry in metadata["omero"]["channels"]]
    levels = len(metadata["multiscales"][0]["datasets"])
    level = min(max(math.floor(math.log2(max(downsample / georef.downsample, 1))), 0), levels - 1)
    pixel = georef.downsample * 2**level
    rows, columns = (
        slice(first // pixel, -(-last // pixel)) for first, last in ((box.y, box.bottom), (box.x, box.right))
    )
    values: npt.NDArray[np.float32] = np.divide(
        group[str(level)][labels.index(channel), rows, columns], 255, dtype=np.float32
    )
    seen = group[f"labels/tumour/{level}"][rows, columns] > 0
    if "coverage" in labels:
        seen &= group[str(level)][labels.index("coverage"), rows, columns] > 0
    values[~seen] = np.nan
    left, top = columns.start * pixel, rows.start * pixel
    right, bottom = left + values.shape[1] * pixel, top + values.shape[0] * pixel
    return values, (float(left), float(right), float(bottom), float(top))


def _transparent(name: str) -> ListedColormap:
    """Return a colour map that is invisible at 0, faint below its middle and strong above."""
    position = np.linspace(0, 1, 256)
    colors = matplotlib.colormaps[name](position)
    places, opacities = np.array(_OPACITY).T
    colors[:, 3] = np.interp(position, places, opacities)
    return ListedColormap(colors)


def _draw_outline(axes: Axes, outline: BaseGeometry) -> None:
    for polygon in getattr(outline, "geoms", [outline]):
        for ring in (polygon.exterior, *polygon.interiors):
            line = np.asarray(ring.coords).T
            axes.plot(*line, color="white", linewidth=2.2)
            axes.plot(*line, color=_OUTLINE, linewidth=1.4, linestyle="--")


def _legend(outline: BaseGeometry | None) -> str:
    return "" if outline is None else "; dashed: annotation"


def _draw_scale_bar(axes: Axes, box: Box, mpp: float) -> None:
    length_um = scale_bar_um(box.width * mpp / 5)
    x, y = box.x + 0.03 * box.width, box.bottom - 0.03 * box.height
    axes.plot([x, x + length_um / mpp], [y, y], color="black", linewidth=3, solid_capstyle="butt")
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    axes.text(x, y - 0.012 * box.height, label, fontsize=9, va="bottom")


def scale_bar_um(longest_um: float) -> float:
    """Return the longest of 1, 2, 5, 10, 20, … µm that is not longer than `longest_um`."""
    power = 10.0 ** math.floor(math.log10(longest_um))
    return max(step * power for step in _BAR_STEPS if step * power <= longest_um * (1 + 1e-9))


def _with_margin(box: Box, slide: Box) -> Box:
    margin = round(_MARGIN * max(box.width, box.height))
    x, y = max(box.x - margin, slide.x), max(box.y - margin, slide.y)
    right, bottom = min(box.right + margin, slide.right), min(box.bottom + margin, slide.bottom)
    return Box(x=x, y=y, width=right - x, height=bottom - y)
