"""Time every engine and precision that this machine has, in turn, on tiles of a slide: tiles a second, medians, ratios.

The tiles are read beforehand. "tumour map" is by how much the map differs from that of torch in single precision: the
mean over pixels of the tumour map or of the probability, whichever differs more.

int8 takes part where the model was calibrated (`export-model --precision int8`).

python benchmarks/engines.py                                   # the bundled model and slide, on the CPU or a GPU
python benchmarks/engines.py --device cuda --batch 64 --tiles 256
"""

import argparse
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import torch

from wsi_maxmin.assets import DEMO_MODEL, DEMO_SLIDE, find_model
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint
from wsi_maxmin.device import pick_device
from wsi_maxmin.engines import plugins
from wsi_maxmin.engines._base import Engine, Pixels, join
from wsi_maxmin.engines._choice import disagreement, open_engine
from wsi_maxmin.errors import InputError, MissingExtraError
from wsi_maxmin.readers import open_slide
from wsi_maxmin.tilemaps import map_downsample
from wsi_maxmin.tiling import make_grid
from wsi_maxmin.tissue import find_tissue


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--slide", type=Path, default=DEMO_SLIDE)
    parser.add_argument("--device", default="auto")
    for name, default in {"tiles": 16, "batch": 8, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    checkpoint, device = load_checkpoint(find_model(options.model)), pick_device(options.device)
    tiles = read_tiles(options.slide, checkpoint, options.tiles)
    engines = open_all(checkpoint, device)
    rates = measure(engines, tiles, batch=options.batch, rounds=options.rounds)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {vars(options)}")
    reference = join([engines[0].run(tiles[:8])])
    positive = checkpoint.config.data.classes.index(checkpoint.config.data.positive)
    for engine, values in zip(engines, rates, strict=True):
        ratio = median(value / first for value, first in zip(values, rates[0], strict=True))
        difference = disagreement(engine.run(tiles[:8]), reference, positive)
        print(
            f"{engine.name:9} {engine.precision}  {median(values):8.2f} tiles/s ({min(values):.2f}–{max(values):.2f}), "
            f"{ratio:5.2f} of torch fp32, tumour map {difference:.4f}"
        )


def read_tiles(slide: Path, checkpoint: Checkpoint, count: int) -> list[Pixels]:
    """Return tiles of a slide's tissue, again and again where it has fewer."""
    config = checkpoint.config.slide
    with open_slide(slide) as reader:
        grid = make_grid(reader.info, find_tissue(reader), mpp=config.mpp, tile_px=config.tile_px)
        boxes = list(grid.boxes())[:count]
        found = [reader.read(box, grid.tile_px, grid.tile_px) for box in boxes]
    return list(islice(cycle(found), count))


def open_all(checkpoint: Checkpoint, device: torch.device) -> list[Engine]:
    """Return every engine that runs on the device, torch in single precision first."""
    pairs = [(name, one) for name in plugins.names() for one in plugins.load(name).PRECISIONS.get(device.type, ())]
    engines = []
    for name, precision in sorted(pairs, key=lambda pair: pair != ("torch", "fp32")):
        downsample = map_downsample(checkpoint.config.slide.tile_px)
        try:
            engines.append(open_engine(checkpoint, name, device=device, precision=precision, downsample=downsample))
        except (InputError, MissingExtraError) as error:  # not installed, or not calibrated
            print(f"left out: {error}")
    return engines


def measure(engines: Sequence[Engine], tiles: Sequence[Pixels], *, batch: int, rounds: int) -> list[list[float]]:
    """Return tiles a second of each engine in each round; a first round warms all up."""
    rates: list[list[float]] = [[] for _ in engines]
    for turn in range(rounds + 1):
        for engine, values in zip(engines, rates, strict=True):
            began = time.perf_counter()
            for wait in [engine.submit(tiles[first : first + batch]) for first in range(0, len(tiles), batch)]:
                wait()
            if turn:
                values.append(len(tiles) / (time.perf_counter() - began))
    return rates


if __name__ == "__main__":
    main()
