"""Compare dense mode with tile mode: by how much maps of 75 % overlap differ, and what they cost.

`differences` runs tile mode once and dense mode with every context over real regions, and compares the maps: by how
much the tumour map differs (mean, maximum), Dice of both thresholded at the model's threshold, and, for the bundled
piece of tumor_001, the area under the ROC curve of either against the annotation.

`times` runs, in turn, a map without overlap in tile mode and one of 75 % overlap in dense mode over a slide made here.

python benchmarks/dense.py differences                    # the bundled slide; WSI_MAXMIN_DATA=… adds normal_001
python benchmarks/dense.py times --engine openvino --precision bf16 --rounds 5
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _camelyon_like import write_slide

from wsi_maxmin.annotations import read_asap_xml
from wsi_maxmin.assets import DEMO_ANNOTATION, DEMO_MODEL, DEMO_SLIDE, find_model
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.dense import run_dense
from wsi_maxmin.dense_grid import CONTEXT_CELLS, CORE_CELLS, DenseGrid
from wsi_maxmin.engines._choice import open_engine
from wsi_maxmin.engines._regions import RegionEngine, open_regions
from wsi_maxmin.grids import Georef
from wsi_maxmin.inference import run_tiles
from wsi_maxmin.metrics import dice, roc_auc
from wsi_maxmin.pipelines.demo import valid_on_display
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.slide_metrics import truth_on_display
from wsi_maxmin.stitching import stitch
from wsi_maxmin.tilemaps import MapSpec, TileMaps, map_downsample
from wsi_maxmin.tiling import make_grid
from wsi_maxmin.tissue import find_tissue

CPU = torch.device("cpu")
NOTHING: dict[str, Any] = {"advance": lambda *_, **__: None}


class Bench:
    """A model and an engine, and both ways to run them over a slide."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.checkpoint = load_checkpoint(find_model(options.model))
        self.engine, self.precision, self.work = options.engine, options.precision, work
        config = self.checkpoint.config
        self.tile_px, self.threshold = config.slide.tile_px, config.slide.threshold
        self.downsample = map_downsample(self.tile_px)
        self.tiles = open_engine(
            self.checkpoint, self.engine, device=CPU, precision=self.precision, downsample=self.downsample
        )

    def regions(self, context: int) -> RegionEngine:
        """Return the engine of dense mode."""
        cells = CORE_CELLS + 2 * context
        return open_regions(self.checkpoint, self.engine, device=CPU, precision=self.precision, cells=cells)

    def maps(self, slide: Reader, overlap: float) -> TileMaps:
        """Return empty tile maps of a slide."""
        config = self.checkpoint.config
        grid = make_grid(
            slide.info,
            find_tissue(slide),
            mpp=config.slide.mpp,
            tile_px=self.tile_px,
            stride_px=round(self.tile_px * (1 - overlap)),
            min_tissue=0.1,
        )
        spec = MapSpec(
            downsample=self.downsample,
            class_names=config.data.classes,
            positive_class=config.data.positive,
            threshold=self.threshold,
            model="benchmark",
            slide="benchmark",
        )
        return TileMaps.create(self.work / "maps.zarr", grid, spec)

    def run_tiles(self, slide: Reader, overlap: float) -> tuple[TileMaps, float]:
        """Run tile mode; return the maps and the seconds."""
        maps = self.maps(slide, overlap)
        began = time.perf_counter()
        run_tiles(self.tiles, slide, maps, batch_size=8, readers=2, stopwatch=Stopwatch(), **NOTHING)
        return maps, time.perf_counter() - began

    def run_dense(self, slide: Reader, engine: RegionEngine, context: int) -> tuple[TileMaps, float]:
        """Run dense mode at 75 % overlap; return the maps and the seconds."""
        maps = self.maps(slide, 0.75)
        dense = DenseGrid(grid=maps.grid, cell_px=engine.cell_px, context=context)
        began = time.perf_counter()
        run_dense(engine, slide, maps, dense, batch_size=4, readers=2, stopwatch=Stopwatch(), **NOTHING)
        return maps, time.perf_counter() - began


def tumour_of(maps: TileMaps) -> np.ndarray:
    """Return the stitched tumour map, (rows, columns) float32, NaN where no tile is."""
    heatmap = stitch(maps)
    return np.asarray(heatmap.data[heatmap.channels.index("tumour")].compute())


def differences(options: argparse.Namespace, work: Path) -> None:
    """Print a row a slide and context."""
    bench = Bench(options, work)
    slides = [DEMO_SLIDE]
    if data := os.environ.get("WSI_MAXMIN_DATA"):
        slides.append(Path(data) / "slides" / "normal_001_region.tif")
    print("| slide | cells of context | mean | maximum | Dice | tumour area | AUC |\n|---|---|---|---|---|---|---|")
    for path in slides:
        with open_slide(path) as slide:
            reference = tumour_of(bench.run_tiles(slide, 0.75)[0])
            _row(path.stem, "tile mode", reference, reference, bench.threshold, _auc(path, slide, reference))
            for context in options.contexts:
                found = tumour_of(bench.run_dense(slide, bench.regions(context), context)[0])
                _row(path.stem, str(context), found, reference, bench.threshold, _auc(path, slide, found))


def _row(name: str, kind: str, found: np.ndarray, reference: np.ndarray, threshold: float, auc: str) -> None:
    seen = np.isfinite(reference)
    apart = np.abs(found - reference)[seen]
    one, other = found[seen] >= threshold, reference[seen] >= threshold
    agreement = dice(one, other)
    print(
        f"| {name} | {kind} | {apart.mean():.4f} | {apart.max():.3f} |"
        f" {'–' if agreement is None else f'{agreement:.3f}'} | {one.mean():.1%} |"
        f" {auc} |",
        flush=True,
    )


def _auc(path: Path, slide: Reader, values: np.ndarray) -> str:
    if path != DEMO_SLIDE:
        return "–"
    georef = Georef.for_display(slide.info.size_px, slide.info.require_mpp())
    known = valid_on_display(georef) & np.isfinite(values)
    return f"{roc_auc(values[known], truth_on_display(read_asap_xml(DEMO_ANNOTATION), georef)[known]):.3f}"


def times(options: argparse.Namespace, work: Path) -> None:
    """Print medians and their ratio."""
    bench, context = Bench(options, work), options.contexts[0]
    engine = bench.regions(context)
    path = options.slide or write_slide(work / "slide.tif", side_px=options.side, levels=5, tissue=options.tissue)
    rows = []
    with open_slide(path) as slide:
        for turn in range(options.rounds + 1):
            plain, dense = bench.run_tiles(slide, 0.0), bench.run_dense(slide, engine, context)
            if turn:  # the first warms up
                rows.append((plain[1], dense[1]))
    plains, denses = zip(*rows, strict=True)
    ratios = [dense / plain for plain, dense in rows]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {vars(options)}")
    for name, values in (("no overlap, tile mode", plains), ("75 %, dense mode", denses)):
        print(f"{name:22} {median(values):7.2f} s ({min(values):.2f}–{max(values):.2f})")
    print(
        f"ratio {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}); tile mode of 75 % runs 16 times the tiles"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("differences", "times"))
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--engine", default="openvino", choices=("openvino", "torch"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--contexts", type=int, nargs="+", default=[CONTEXT_CELLS], help="cells; of `times` the first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slide", type=Path, help="of `times`, instead of one that is made")
    parser.add_argument("--side", type=int, default=20480)
    parser.add_argument("--tissue", type=float, default=0.12)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        (differences if options.what == "differences" else times)(options, Path(work))


if __name__ == "__main__":
    main()
