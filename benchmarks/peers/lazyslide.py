"""Read patches with lazyslide: `find_tissues`, `tile_tissues`, and its torch dataset through a `DataLoader`.

lazyslide.py SLIDE OUT WORKERS
"""

import json
import sys
import time
import warnings

import lazyslide as zs
from torch.utils.data import DataLoader


def main() -> None:
    """Read and print one line of JSON."""
    slide, workers = sys.argv[1], int(sys.argv[3])
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    wsi = zs.open_wsi(slide, store=None)
    zs.pp.find_tissues(wsi)
    zs.pp.tile_tissues(wsi, 512, background_fraction=0.9)
    loader = DataLoader(wsi.ds.tile_images(), batch_size=16, num_workers=workers)
    tiles = sum(len(batch["image"]) for batch in loader)
    seconds = time.perf_counter() - start
    reader = type(wsi.reader).__name__
    print(json.dumps({"tiles": tiles, "seconds": seconds, "what": f"read only ({reader}, DataLoader)"}))


if __name__ == "__main__":
    main()
