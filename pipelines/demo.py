"""The whole way on what ships with the package: a real piece of a Camelyon16 slide and a model trained for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_maxmin.annotations import read_asap_xml
from wsi_maxmin.assets import DEMO_ANNOTATION, DEMO_MODEL, DEMO_SLIDE, DEMO_VALID, find_model
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.extract_inputs import ExtractInputs
from wsi_maxmin.grids import Georef
from wsi_maxmin.patches import TABLE_NAME
from wsi_maxmin.pipelines.extract_patches import extract_patches
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, slide_result
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import open_slide
from wsi_maxmin.sinks import picture
from wsi_maxmin.slide_metrics import PixelScores, read_channel, score_pixels, truth_on_display
from wsi_maxmin.tilemaps import TileMaps

VALID_ORIGIN_PX = (4096, 3584)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo made.

    Attributes
    ----------
    patches, heatmap, overview : Path
    scores : PixelScores
        Against the annotation, over the pixels that are real.
    facts : dict
        The inference's own ``run.json``.
    """

    patches: Path
    heatmap: Path
    overview: Path
    scores: PixelScores
    facts: dict[str, Any]


def demo(out: Path, *, device: str = "auto", progress: Progress | None = None) -> DemoResult:
    """Cut patches, map the tumour, draw it beside its annotation, score it; earlier results are replaced."""
    progress = progress or Quiet()
    inputs = ExtractInputs(slides=[DEMO_SLIDE], annotations=DEMO_ANNOTATION)
    extract_patches(inputs, out / "patches", existing="overwrite", progress=progress)
    heatmaps = out / "heatmaps"
    settings = InferSettings(model=DEMO_MODEL)
    infer_slide([DEMO_SLIDE], heatmaps, settings=settings, device=device, existing="overwrite", progress=progress)
    result = slide_result(heatmaps, DEMO_SLIDE.stem)
    annotation = read_asap_xml(DEMO_ANNOTATION)
    threshold = load_checkpoint(find_model(DEMO_MODEL)).config.slide.threshold
    with open_slide(DEMO_SLIDE) as slide:
        georef = Georef.for_display(slide.info.size_px, slide.info.require_mpp())
        picture.write(
            slide,
            result.heatmap,
            result.overview,
            georef=georef,
            box=TileMaps(result.tilemaps).grid.kept_box(),
            threshold=threshold,
            title="Camelyon16 tumor_001 (a region)",
            outline=annotation.geometry(),
        )
    scores = score_pixels(
        read_channel(result.heatmap, "tumour"),
        truth_on_display(annotation, georef),
        valid_on_display(georef),
        threshold,
    )
    return DemoResult(
        patches=out / "patches" / TABLE_NAME,
        heatmap=result.heatmap,
        overview=result.overview,
        scores=scores,
        facts=result.facts,
    )


def valid_on_display(georef: Georef) -> npt.NDArray[np.bool_]:
    """Return which display pixels of the bundled slide are wholly real tissue scan, (H, W) bool."""
    with Image.open(DEMO_VALID) as image:
        window = np.asarray(image) > 0
    x, y = VALID_ORIGIN_PX
    width, height = georef.slide_size_px
    full = np.zeros((height, width), dtype=np.bool_)
    full[y : y + window.shape[0], x : x + window.shape[1]] = window
    side = georef.downsample
    blocks = full.reshape(height // side, side, width // side, side)
    return np.asarray(blocks.all(axis=(1, 3)), dtype=np.bool_)
