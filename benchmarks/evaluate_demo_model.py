"""Evaluate a model on the bundled piece of tumor_001 and, where WSI_MAXMIN_DATA names it, that of normal_001.

Tiles of 512 px every 256 px, at least 90 % real pixels; a tile is tumour if at least 20 % of its real pixels are.
A tile is called tumour if its posterior reaches the threshold; a pixel if the tumour map does. Intervals are 95 %
percentile bootstraps over tiles (pixels: over tile-sized blocks).

    WSI_MAXMIN_DATA=... python benchmarks/evaluate_demo_model.py [--model camelyon16-demo] [--out figures.json]
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wsi_maxmin.annotations import read_asap_xml
from wsi_maxmin.assets import DEMO_ANNOTATION, DEMO_SLIDE, find_model
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.grids import Georef
from wsi_maxmin.metrics import bootstrap_interval, dice, roc_auc
from wsi_maxmin.pipelines.demo import valid_on_display
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, slide_result
from wsi_maxmin.readers import open_slide
from wsi_maxmin.slide_metrics import read_channel, truth_on_display
from wsi_maxmin.tissue import find_tissue

REAL, TUMOUR = 0.9, 0.2
BLOCK = 64
SEAMS_NORMAL = {"x": 3072, "y": 2560}


def infer(slide: Path, model: str, out: Path) -> tuple[pd.DataFrame, np.ndarray, Georef, np.ndarray]:
    """Return tiles, tumour map, display grid and tissue on it."""
    settings = InferSettings(model=model, min_tissue=0.0, engine="torch", precision="fp32")
    infer_slide([slide], out, settings=settings, device="cpu", existing="overwrite")
    result = slide_result(out, slide.stem)
    with open_slide(slide) as reader:
        georef = Georef.for_display(reader.info.size_px, reader.info.require_mpp())
        rows, columns = georef.shape
        x = (np.arange(columns) + 0.5) * georef.downsample
        y = (np.arange(rows) + 0.5) * georef.downsample
        tissue = find_tissue(reader).at(x, y)
    return pd.read_parquet(result.folder / "tiles.parquet"), read_channel(result.heatmap, "tumour"), georef, tissue


def share(values: np.ndarray, tile: Any, downsample: int) -> float:
    """Return the mean of a display-grid mask over a tile."""
    top, left = tile.y // downsample, tile.x // downsample
    return float(values[top : top + tile.height // downsample, left : left + tile.width // downsample].mean())


def with_interval(statistic: Any, count: int) -> dict[str, Any]:
    """Return a statistic of all items and its bootstrap interval."""
    return {"value": statistic(np.arange(count)), "interval_95": bootstrap_interval(statistic, count)}


def tumour_region(model: str, threshold: float, out: Path) -> dict[str, Any]:
    """Score tiles and pixels of the piece of tumor_001."""
    tiles, tumour_map, georef, _ = infer(DEMO_SLIDE, model, out)
    valid, truth = valid_on_display(georef), truth_on_display(read_asap_xml(DEMO_ANNOTATION), georef)
    real = np.array([share(valid, tile, georef.downsample) for tile in tiles.itertuples()])
    tumour_share = np.array([share(valid & truth, tile, georef.downsample) for tile in tiles.itertuples()])
    kept = real >= REAL
    score, positive = tiles["posterior_tumor"].to_numpy()[kept], (tumour_share[kept] / real[kept]) >= TUMOUR
    blocks = np.flatnonzero(block_sums(valid))
    ids = block_ids(valid.shape)[valid]
    order = np.argsort(ids, kind="stable")
    starts = np.searchsorted(ids[order], blocks)
    stops = np.searchsorted(ids[order], blocks, side="right")
    values, expected = tumour_map[valid][order], truth[valid][order]

    def over_pixels(measure: Any) -> Any:
        def statistic(chosen: np.ndarray) -> float | None:
            index = np.concatenate([np.arange(starts[i], stops[i]) for i in chosen])
            result: float | None = measure(values[index], expected[index])
            return result

        return statistic

    return {
        "tiles": int(kept.sum()),
        "tumour_tiles": int(positive.sum()),
        "tile_auc": with_interval(lambda i: roc_auc(score[i], positive[i]), len(score)),
        "tumour_tiles_called": with_interval(lambda i: _mean(score[i][positive[i]] >= threshold), len(score)),
        "normal_tiles_called": with_interval(lambda i: _mean(score[i][~positive[i]] >= threshold), len(score)),
        "pixels": int(valid.sum()),
        "pixel_auc": with_interval(over_pixels(roc_auc), len(blocks)),
        "dice": with_interval(over_pixels(lambda v, t: dice(v >= threshold, t)), len(blocks)),
    }


def normal_region(slide: Path, model: str, threshold: float, out: Path) -> dict[str, Any]:
    """Count what is called tumour on the piece of normal_001."""
    tiles, tumour_map, _, tissue = infer(slide, model, out)
    real = np.zeros_like(tissue)
    real[1536 // 8 : 3584 // 8, 2048 // 8 : 4096 // 8] = True
    tissue &= real
    kept = np.array([share(real, tile, 8) >= REAL for tile in tiles.itertuples()])
    for axis, size in (("x", "width"), ("y", "height")):
        kept &= ~((tiles[axis] < SEAMS_NORMAL[axis]) & (tiles[axis] + tiles[size] > SEAMS_NORMAL[axis])).to_numpy()
    score = tiles["posterior_tumor"].to_numpy()[kept]
    return {
        "tissue_pixels": int(tissue.sum()),
        "tissue_called_tumour": float((tumour_map[tissue] >= threshold).mean()),
        "tiles": int(kept.sum()),
        "tiles_called": with_interval(lambda i: _mean(score[i] >= threshold), len(score)),
    }


def block_ids(shape: tuple[int, int]) -> np.ndarray:
    """Return the number of each display pixel's tile-sized block."""
    rows, columns = np.arange(shape[0]) // BLOCK, np.arange(shape[1]) // BLOCK
    return rows[:, None] * (columns.max() + 1) + columns


def block_sums(mask: np.ndarray) -> np.ndarray:
    """Return how many pixels of a mask each block has."""
    return np.bincount(block_ids(mask.shape)[mask])


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def main() -> None:
    """Evaluate and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="camelyon16-demo")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    threshold = load_checkpoint(find_model(arguments.model)).config.slide.threshold
    figures: dict[str, Any] = {"threshold": threshold}
    with tempfile.TemporaryDirectory() as folder:
        figures["tumor_001_region"] = tumour_region(arguments.model, threshold, Path(folder) / "tumour")
        data = os.environ.get("WSI_MAXMIN_DATA")
        if data:
            slide = Path(data) / "slides" / "normal_001_region.tif"
            figures["normal_001_region"] = normal_region(slide, arguments.model, threshold, Path(folder) / "normal")
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
