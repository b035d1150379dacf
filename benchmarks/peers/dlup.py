"""Read patches with dlup's `SlideDataset` from as many threads as workers; it writes none and finds no tissue itself.

dlup.py SLIDE OUT WORKERS BACKEND
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from dlup import ImageConfig, MaskConfig, SlideDataset, SlideImage, TilingConfig
from dlup.utils.backends import ImageBackend


def tissue(slide: str) -> np.ndarray:
    """Return a mask for dlup's ``MaskConfig``: saturation of its thumbnail."""
    with SlideImage.from_file_path(slide) as image:
        pixels = image.get_thumbnail((1280, 1280)).to_numpy()[..., :3].astype(int)
    high = pixels.max(axis=2)
    return ((high - pixels.min(axis=2)) > 0.1 * np.maximum(high, 1)).astype(int)


def main() -> None:
    """Read and print one line of JSON."""
    slide, workers, backend = sys.argv[1], int(sys.argv[3]), sys.argv[4]
    start = time.perf_counter()
    dataset = SlideDataset.from_standard_tiling(
        slide,
        TilingConfig(mpp=None, tile_size=(512, 512)),
        MaskConfig(mask=tissue(slide), mask_threshold=0.1),
        ImageConfig(backend=ImageBackend[backend.upper()]),
    )
    with ThreadPoolExecutor(workers) as pool:
        tiles = sum(pool.map(lambda index: dataset[index].image.to_numpy().shape[0] == 512, range(len(dataset))))
    seconds = time.perf_counter() - start
    print(json.dumps({"tiles": tiles, "seconds": seconds, "what": f"read only ({backend}, threads)"}))


if __name__ == "__main__":
    main()
