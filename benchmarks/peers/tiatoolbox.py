"""Read patches with TIAToolbox's `SlidingWindowPatchExtractor` and its morphological tissue mask; it writes none.

The extractor is an iterator of one process; for more, each of the forked workers indexes its share of the patches.

tiatoolbox.py SLIDE OUT WORKERS
"""

import json
import multiprocessing
import sys
import time
import warnings
from typing import Any

from tiatoolbox import logger
from tiatoolbox.tools.patchextraction import get_patch_extractor


def extractor(slide: str, mask: Any) -> Any:
    """Return the extractor of a slide; `mask` is a method's name or the mask that it gave."""
    return get_patch_extractor(
        "slidingwindow",
        input_img=slide,
        input_mask=mask,
        patch_size=(512, 512),
        resolution=0,
        units="level",
        min_mask_ratio=0.1,
        within_bound=True,
    )


def share(slide: str, mask: Any, first: int, step: int) -> int:
    """Read every `step`-th patch from `first` on with a slide opened here; return how many."""
    patches = extractor(slide, mask)
    count = len(patches.locations_df)
    return sum(patches[index].shape[0] == 512 for index in range(first, count, step))


def main() -> None:
    """Read and print one line of JSON."""
    slide, workers = sys.argv[1], int(sys.argv[3])
    warnings.simplefilter("ignore")
    logger.setLevel("ERROR")
    start = time.perf_counter()
    mask = extractor(slide, "morphological").mask
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        tiles = sum(pool.starmap(share, [(slide, mask, first, workers) for first in range(workers)]))
    seconds = time.perf_counter() - start
    print(json.dumps({"tiles": int(tiles), "seconds": seconds, "what": "read only (openslide, processes)"}))


if __name__ == "__main__":
    main()
