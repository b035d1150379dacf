"""What a slide's file says, and how much of it is tissue."""

from pathlib import Path
from typing import Any

from wsi_maxmin.errors import SlideError
from wsi_maxmin.readers import open_slide
from wsi_maxmin.tissue import find_tissue


def slide_facts(path: Path, *, slide_mpp: float | None = None) -> dict[str, Any]:
    """Return the facts of a slide as JSON values; the tissue is left out where µm per pixel are unknown.

    Raises
    ------
    SlideError
        If the slide cannot be read.
    """
    with open_slide(path, slide_mpp=slide_mpp) as slide:
        info = slide.info
        width, height = info.size_px
        facts: dict[str, Any] = {
            "slide_id": info.slide_id,
            "path": str(info.path),
            "reader": info.reader,
            "size_px": [width, height],
            "mpp": info.mpp,
            "level_downsamples": [round(value, 4) for value in info.level_downsamples],
        }
        try:
            mpp = info.require_mpp()
        except SlideError as error:
            return {**facts, "remedy": str(error)}
        tissue = float(find_tissue(slide).mask.mean())
        area_mm2 = tissue * width * height * mpp**2 / 1e6
        size_mm = [round(width * mpp / 1000, 3), round(height * mpp / 1000, 3)]
        return {
            **facts,
            "size_mm": size_mm,
            "tissue_fraction": round(tissue, 4),
            "tissue_mm2": round(area_mm2, 3),
        }
