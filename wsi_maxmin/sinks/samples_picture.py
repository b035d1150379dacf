"""Pictures of scored images: what the model marks, beside what a person marked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from PIL import Image
from skimage.measure import find_contours

THUMBNAIL_PX = 320
_PANEL_PX = 900
_PANEL_INCHES = 5.2
_DPI = 150
_SHEET_COLUMNS = 4
_CELL_INCHES = 4.2
_SHEET_FRAME_INCHES = 1.7
_LONGEST_NAME = 56
# Two of Okabe and Ito's colours, which the colour-blind tell apart; neither H&E nor the map has them. The dark rim
# keeps them visible where the ground is bright.
_TRUTH, _PREDICTED, _RIM = "#009e73", "#f0e442", "#202020"
_LINE_WIDTH, _THIN_LINE_WIDTH = 1.2, 0.7
_MAP = "magma"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPicture:
    """An image and what to draw over it.

    Attributes
    ----------
    name : str
    facts : str
        Label, predicted class and scores, in words.
    image : (H, W, 3) uint8
    soft_mask : (h, w) float32 in [0, 1]
        At any size of the image's shape.
    truth : (h, w) bool, or None
    threshold : float
        The mask is where the soft mask is ≥ it.
    """

    name: str
    facts: str
    image: npt.NDArray[np.uint8]
    soft_mask: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_] | None
    threshold: float

    def shrunk(self, longest_px: int) -> "ScoredPicture":
        """Return it with no side longer than `longest_px`, to draw it small or to keep many."""
        soft = np.asarray(_shrink(Image.fromarray(self.soft_mask), longest_px, Image.Resampling.BOX))
        truth = (
            None if self.truth is None else _shrink(Image.fromarray(self.truth), longest_px, Image.Resampling.NEAREST)
        )
        return replace(
            self,
            image=np.asarray(_shrink(Image.fromarray(self.image), longest_px, Image.Resampling.LANCZOS)),
            soft_mask=soft,
            truth=None if truth is None else np.asarray(truth),
        )


def write(picture: ScoredPicture, path: Path) -> None:
    """Draw the image, the outlines of truth and mask over it, and the soft mask with both outlines and a colour bar."""
    picture = picture.shrunk(_PANEL_PX)
    height, width = picture.image.shape[:2]
    figure = Figure(figsize=(3 * _PANEL_INCHES + 0.8, _PANEL_INCHES * height / width + 0.9), dpi=_DPI)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 3)
    for panel in axes[:2]:
        _show(panel, picture, 0)
    colours = _show_map(axes[2], picture, 0)
    _outline(axes[1], picture, 0)
    _outline(axes[2], picture, 0)
    figure.colorbar(colours, ax=axes[2], label="soft mask", fraction=0.045, pad=0.02)
    for panel, title in zip(axes, ("image", "outlines", "soft mask"), strict=True):
        panel.set_title(title, loc="left", fontsize=9)
    figure.legend(handles=_key(picture), loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(f"{_short(picture.name)}\n{picture.facts}", fontsize=11, parse_math=False)
    _save(figure, path)


def write_overview(pictures: Sequence[ScoredPicture], path: Path, title: str) -> None:
    """Draw many on one sheet, row by row in the order given: outlines over the image, and the soft mask."""
    pictures = [picture.shrunk(THUMBNAIL_PX) for picture in pictures]
    columns = min(_SHEET_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    tallest = max(picture.image.shape[0] / picture.image.shape[1] for picture in pictures)
    cell = (_CELL_INCHES, _CELL_INCHES * tallest / 2 + 0.5)
    figure = Figure(figsize=(columns * cell[0], rows * cell[1] + _SHEET_FRAME_INCHES), dpi=_DPI)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, picture in zip(panels, pictures, strict=False):
        _show(panel, picture, 0)
        colours = _show_map(panel, picture, 1)
        for column in (0, 1):
            _outline(panel, picture, column, _THIN_LINE_WIDTH)
        panel.set(xlim=(0, 2), ylim=(1, 0), aspect=picture.image.shape[0] / picture.image.shape[1])
        panel.set_title(f"{_short(picture.name, 40)}\n{picture.facts}", fontsize=7, parse_math=False)
    figure.colorbar(colours, ax=panels.tolist(), label="soft mask", orientation="horizontal", shrink=0.3, aspect=40)
    figure.legend(handles=_key(pictures[0]), loc="outside lower right", ncols=2, fontsize=9)
    figure.suptitle(title, fontsize=12, parse_math=False)
    _save(figure, path)


def _show(axes: Axes, picture: ScoredPicture, column: int) -> None:
    """Show the image in the unit square that begins at x = `column`: layers of any size lie over each other."""
    axes.imshow(picture.image, extent=(column, column + 1, 1, 0), interpolation="antialiased")
    axes.set_aspect(picture.image.shape[0] / picture.image.shape[1])
    axes.set_axis_off()


def _show_map(axes: Axes, picture: ScoredPicture, column: int) -> matplotlib.image.AxesImage:
    shown = axes.imshow(
        picture.soft_mask, extent=(column, column + 1, 1, 0), cmap=_MAP, vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set_aspect(picture.image.shape[0] / picture.image.shape[1])
    axes.set_axis_off()
    return shown


def _outline(axes: Axes, picture: ScoredPicture, column: int, line_width: float = _LINE_WIDTH) -> None:
    for mask, colour in ((picture.truth, _TRUTH), (picture.soft_mask >= picture.threshold, _PREDICTED)):
        if mask is None:
            continue
        scale = np.array(mask.shape[::-1])
        for line in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
            # Point (0, 0) of a contour is the centre of the frame's first pixel.
            x, y = ((line[:, ::-1] - 0.5) / scale).T
            for line_colour, width in ((_RIM, 2 * line_width), (colour, line_width)):
                axes.plot(x + column, y, color=line_colour, linewidth=width)
    axes.set(xlim=(0, column + 1), ylim=(1, 0))


def _key(picture: ScoredPicture) -> list[Line2D]:
    rim = [Stroke(linewidth=2 * _LINE_WIDTH, foreground=_RIM), Normal()]
    entries = [("ground truth", _TRUTH)] if picture.truth is not None else []
    entries.append((f"mask: soft mask ≥ {picture.threshold:g}", _PREDICTED))
    return [
        Line2D([], [], color=colour, linewidth=_LINE_WIDTH, path_effects=rim, label=label) for label, colour in entries
    ]


def _shrink(image: Image.Image, longest_px: int, how: Image.Resampling) -> Image.Image:
    scale = longest_px / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(round(side * scale), 1) for side in image.size)
    return image.resize((width, height), how)


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png")
    partial.replace(path)
