"""Time the model alone, on tiles of a slide that are in memory already: what no program around it can beat.

infer_bare.py SLIDE OUT MODEL.pt BATCH ENGINE PRECISION TILES

The engine `script` is TorchScript as PyTorch runs it best on a CPU (frozen, channels last, single precision) on batches
of normalised tiles; any other is the one of ours, on the tiles as they were read.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from wsi_maxmin.engines._base import Pixels
from wsi_maxmin.readers import open_slide
from wsi_maxmin.tilemaps import map_downsample
from wsi_maxmin.tiling import make_grid
from wsi_maxmin.tissue import find_tissue

SCRIPT = "script"


def read_tiles(slide: Path, tile_px: int, count: int) -> list[Pixels]:
    """Return up to `count` tissue tiles of the slide's full resolution, (tile_px, tile_px, 3) uint8."""
    with open_slide(slide) as opened:
        grid = make_grid(opened.info, find_tissue(opened), mpp=None, tile_px=tile_px)
        return [opened.read(box, tile_px, tile_px) for box, _ in zip(grid.boxes(), range(count), strict=False)]


def scripted(path: Path, batches: Sequence[Sequence[Pixels]]) -> Callable[[], None]:
    """Return what runs the batches in PyTorch."""
    said = json.loads(path.with_suffix(".json").read_text())
    mean, std = (torch.tensor(said[f"pixel_{name}"])[:, None, None] for name in ("mean", "std"))
    graph = torch.jit.freeze(torch.jit.load(path).eval().to(memory_format=torch.channels_last))
    images = [
        ((torch.stack([torch.from_numpy(tile) for tile in batch]).permute(0, 3, 1, 2) / 255 - mean) / std).contiguous(
            memory_format=torch.channels_last
        )
        for batch in batches
    ]

    def run() -> None:
        for image in images:
            graph(image)

    return run


def engine(path: Path, batches: Sequence[Sequence[Pixels]], name: str, precision: str) -> Callable[[], None]:
    """Return what runs the batches in an engine of ours, as many under way as infer-slide has."""
    from wsi_maxmin.engines._choice import open_engine
    from wsi_maxmin.slide_model import load_slide_model

    model = load_slide_model(path)
    opened = open_engine(
        model,
        name,
        device=torch.device("cpu"),
        precision=precision,
        downsample=map_downsample(model.slide.tile_px),
    )

    def run() -> None:
        waiting = []
        for batch in batches:
            waiting.append(opened.submit(batch))
            if len(waiting) >= opened.depth:
                waiting.pop(0)()
        for wait in waiting:
            wait()

    return run


def main() -> None:
    """Time it and print one line of JSON."""
    slide, _, path, batch, name, precision, count = sys.argv[1:]
    model = Path(path)
    tiles = read_tiles(Path(slide), json.loads(model.with_suffix(".json").read_text())["tile_px"], int(count))
    batches = [tiles[first : first + int(batch)] for first in range(0, len(tiles), int(batch))]
    with torch.inference_mode():
        if name == SCRIPT:
            warm, run = scripted(model, batches[:1] * 2), scripted(model, batches)
        else:
            warm = run = engine(model, batches, name, precision)
        warm()
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
    by = f"{'torch' if name == SCRIPT else name} {precision}"
    print(json.dumps({"tiles": len(tiles), "seconds": seconds, "by": by, "what": "tiles in memory"}))


if __name__ == "__main__":
    main()
