"""One sheet of what to look at on a slide: where the regions are, and each of them large enough to judge."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from wsi_maxmin.geometry import Box
from wsi_maxmin.heatmap_store import HeatmapStore
from wsi_maxmin.readers import Reader
from wsi_maxmin.review import ReviewRegion
from wsi_maxmin.sinks._saving import save_png
from wsi_maxmin.sinks.picture import scale_bar_um

_DPI = 150
_COLUMNS, _CELL_INCHES, _OVERVIEW_INCHES = 3, 3.3, 7.0
_CELL_PX, _OVERVIEW_PX = 512, 1100
_MARGIN = 0.05
# Of Okabe and Ito, apart from H&E for the colour-blind too.
_COLORS = {"tumour": "#d55e00", "uncertainty": "#0072b2"}
_CONTOUR, _RIM = "#f0e442", "#202020"
_TITLES = {"tumour": "highest tumour", "uncertainty": "most uncertain"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shown:
    """The slide, its map, and the threshold at which contours run."""

    slide: Reader
    store: HeatmapStore
    threshold: float


def write(
    slide: Reader, store: HeatmapStore, regions: Sequence[ReviewRegion], path: Path, *, threshold: float, title: str
) -> None:
    """Draw an overview with the regions' places, and every region with the map's contour and a scale bar.

    Parameters
    ----------
    slide : Reader
    store : HeatmapStore
    regions : sequence of ReviewRegion
    path : Path
        PNG to write.
    threshold : float
        Where the contours of the tumour map run.
    title : str
    """
    shown = _Shown(slide=slide, store=store, threshold=threshold)
    groups = {reason: [region for region in regions if region.reason == reason] for reason in _TITLES}
    groups = {reason: group for reason, group in groups.items() if group}
    rows = [math.ceil(len(group) / _COLUMNS) for group in groups.values()]
    height = max(sum(rows) * (_CELL_INCHES + 0.45) + 0.4 * len(rows), _OVERVIEW_INCHES)
    figure = Figure(figsize=(_OVERVIEW_INCHES + _COLUMNS * _CELL_INCHES, height + 0.7), dpi=_DPI, layout="constrained")
    words = (
        f"yellow: tumour map ≥ {threshold:g}" if "tumour" in groups else f"no tumour at the threshold, {threshold:g}"
    )
    figure.suptitle(f"{title}; {words}", fontsize=12, x=0.01, ha="left", parse_math=False)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(_OVERVIEW_INCHES, _COLUMNS * _CELL_INCHES))[0]
    _draw_overview(left.subplots(), shown, regions)
    if groups:
        parts = right.subfigures(len(groups), 1, squeeze=False, height_ratios=rows)[:, 0]
        for part, count, (reason, group) in zip(parts, rows, groups.items(), strict=True):
            _draw_group(part, count, shown, reason, group)
    save_png(figure, path)


def _draw_group(part: SubFigure, rows: int, shown: _Shown, reason: str, group: Sequence[ReviewRegion]) -> None:
    part.suptitle(_TITLES[reason], fontsize=11, color=_COLORS[reason], x=0.01, ha="left")
    cells = part.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for cell, region in zip(cells, group, strict=False):
        _show(cell, shown, region.box, _CELL_PX)
        words = ", ".join(f"{name} {region.means[name]:.2f}" for name in _TITLES if name in region.means)
        cell.set_title(f"{region.name}  {words}", fontsize=9, loc="left")
        cell.set(xticks=[], yticks=[])
        for spine in cell.spines.values():
            spine.set(color=_COLORS[reason], linewidth=2)
    for cell in cells[len(group) :]:
        cell.set_axis_off()


def _draw_overview(axes: Axes, shown: _Shown, regions: Sequence[ReviewRegion]) -> None:
    _show(axes, shown, _tissue_box(shown.store, regions), _OVERVIEW_PX)
    axes.set_axis_off()
    for region in regions:
        box, color = region.box, _COLORS[region.reason]
        axes.add_patch(Rectangle((box.x, box.y), box.width, box.height, fill=False, edgecolor=color, linewidth=1.5))
        label = axes.text(box.x + box.width / 2, box.y, region.name, color=color, fontsize=9, ha="center", va="bottom")
        label.set_path_effects([Stroke(linewidth=2.5, foreground="white"), Normal()])


def _show(axes: Axes, shown: _Shown, box: Box, longest_px: int) -> None:
    """Show a box of the slide with the map's contour and a scale bar; axes are level-0 pixels."""
    scale = min(longest_px / max(box.width, box.height), 1.0)
    pixels = shown.slide.read(box, max(round(box.width * scale), 1), max(round(box.height * scale), 1))
    axes.imshow(pixels, extent=(box.x, box.right, box.bottom, box.y), interpolation="antialiased")
    values, x, y = _map_of(shown.store, box, 1 / scale)
    if values.size and min(values.shape) > 1 and values.min() < shown.threshold <= values.max():
        for color, width in ((_RIM, 2.0), (_CONTOUR, 1.0)):
            axes.contour(x, y, values, [shown.threshold], colors=color, linewidths=width)
    axes.set(xlim=(box.x, box.right), ylim=(box.bottom, box.y))
    _draw_scale_bar(axes, box, shown.store.georef.slide_mpp)


def _map_of(
    store: HeatmapStore, box: Box, downsample: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the tumour map in a box and one pixel around, and the level-0 x and y of its pixels' centres."""
    wanted = math.floor(math.log2(max(downsample / store.georef.downsample, 1)))
    level = min(wanted, store.levels - 1)
    pixel_l0, plane = store.georef.downsample * 2**level, store.level(level)
    height, width = plane.shape[1:]
    rows, columns = (
        slice(max(start // pixel_l0 - 1, 0), min(-(-stop // pixel_l0) + 1, side))
        for start, stop, side in ((box.y, box.bottom, height), (box.x, box.right, width))
    )
    values: npt.NDArray[np.float32] = np.divide(
        plane[store.channels.index(store.main_channel), rows, columns], 255, dtype="f4"
    )
    values[np.asarray(store.labels(level)[rows, columns]) == 0] = 0
    y, x = ((np.arange(part.start, part.stop) + 0.5) * pixel_l0 for part in (rows, columns))
    return values, x, y


def _tissue_box(store: HeatmapStore, regions: Sequence[ReviewRegion]) -> Box:
    """Return the box of tissue and regions with a margin; of the whole slide where there is neither."""
    level = store.levels - 1
    rows, columns = np.nonzero(np.asarray(store.labels(level)))
    pixel_l0 = store.georef.downsample * 2**level
    spans = [(region.box.x, region.box.y, region.box.right, region.box.bottom) for region in regions]
    if len(rows):
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        spans.append((int(left) * pixel_l0, int(top) * pixel_l0, int(right) * pixel_l0, int(bottom) * pixel_l0))
    width, height = store.georef.slide_size_px
    if not spans:
        return Box(x=0, y=0, width=width, height=height)
    left, top = (min(span[axis] for span in spans) for axis in (0, 1))
    right, bottom = (max(span[axis] for span in spans) for axis in (2, 3))
    margin = round(_MARGIN * max(right - left, bottom - top))
    return Box(x=left - margin, y=top - margin, width=right - left + 2 * margin, height=bottom - top + 2 * margin)


def _draw_scale_bar(axes: Axes, box: Box, mpp: float) -> None:
    length_um = scale_bar_um(box.width * mpp / 4)
    x, y = box.x + 0.04 * box.width, box.bottom - 0.04 * box.height
    rim = [Stroke(linewidth=5, foreground="white"), Normal()]
    axes.plot([x, x + length_um / mpp], [y, y], color="black", linewidth=3, solid_capstyle="butt", path_effects=rim)
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    text = axes.text(x, y - 0.02 * box.height, label, fontsize=8, va="bottom")
    text.set_path_effects([Stroke(linewidth=2.5, foreground="white"), Normal()])
