"""A picture a slide of what was cut: its overview with tissue, patches and the outlines of tumour."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from shapely.geometry import MultiPolygon, Polygon
from skimage.measure import find_contours

from wsi_maxmin.cutting import open_job
from wsi_maxmin.extraction import ExtractSettings, Plan, SlideJob
from wsi_maxmin.formats.png import encode_png
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.readers import Reader

PREVIEWS = "previews"

_LEAST_PX, _MOST_PX = 800, 2048
# Colours that the colour-blind tell apart (Okabe and Ito), and that neither H&E nor glass has.
_TISSUE, _PATCH, _TUMOUR = (0, 114, 178), (0, 158, 115), (230, 159, 0)
_LEAST_SIDE_PX = 3


def write(job: SlideJob, settings: ExtractSettings, plan: Plan, out: Path) -> None:
    """Draw a slide's preview.

    Parameters
    ----------
    job, settings
        The slide, and how it was cut.
    plan : Plan
        Its patches.
    out : Path
        Folder of the run; the picture is ``previews/<slide_id>.png`` in it.
    """
    slide, truth = open_job(job, settings)
    picture = Image.fromarray(slide.overview(_downsample(slide)))
    draw = ImageDraw.Draw(picture)
    scale = picture.width / slide.info.size_px[0]
    _draw_patches(picture, plan, scale)
    if plan.tissue is not None:
        for line in _tissue_lines(plan.tissue, scale):
            draw.line([tuple(point) for point in line], fill=_TISSUE, width=2)
    if truth is not None and truth.holds_tumour:
        outlines = truth.geometry()
        for polygon in outlines.geoms if isinstance(outlines, MultiPolygon) else [outlines]:
            if isinstance(polygon, Polygon):
                for ring in (polygon.exterior, *polygon.interiors):
                    draw.line([tuple(point) for point in np.asarray(ring.coords) * scale], fill=_TUMOUR, width=3)
    path = out / PREVIEWS / f"{job.slide_id}.png"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(encode_png(np.asarray(picture)))
    partial.replace(path)


def _downsample(slide: Reader) -> float:
    """Return that of a level of a fitting size, which needs no resampling, else one that gives such a size."""
    longer = max(slide.info.size_px)
    fitting = [own for own in slide.info.level_downsamples if _LEAST_PX <= longer / own <= _MOST_PX]
    return fitting[0] if fitting else max(longer / _MOST_PX, 1.0)


def _draw_patches(picture: Image.Image, plan: Plan, scale: float) -> None:
    """Draw each patch as a frame; where frames would cover the tissue, tint it instead."""
    frame = ImageDraw.Draw(picture)
    for patch in plan.patches:
        left, top = patch.x * scale, patch.y * scale
        right, bottom = (patch.x + patch.width) * scale - 1, (patch.y + patch.height) * scale - 1
        if right - left >= _LEAST_SIDE_PX:
            frame.rectangle((left, top, right, bottom), outline=_PATCH)
        else:
            frame.point((left, top), fill=_PATCH)


def _tissue_lines(tissue: TissueMask, scale: float) -> list[npt.NDArray[np.float64]]:
    """Return the outlines of tissue as (N, 2) points x, y of the picture."""
    lines = find_contours(np.pad(tissue.mask, 1).astype(np.float32), 0.5)
    # Point (0, 0) of a contour is the centre of the frame's first pixel.
    return [(line[:, ::-1] - 0.5) * np.array(tissue.downsample) * scale for line in lines]
