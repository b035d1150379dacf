"""Extract patches with histolab: `TissueMask` and `GridTiler`, one PNG a patch; it has no workers.

histolab.py SLIDE OUT WORKERS
"""

import json
import sys
import time
from pathlib import Path

from histolab.masks import TissueMask
from histolab.slide import Slide
from histolab.tiler import GridTiler


def main() -> None:
    """Extract and print one line of JSON."""
    slide, out = Path(sys.argv[1]), Path(sys.argv[2])
    start = time.perf_counter()
    # The mask has decided already: a second look at each tile's own tissue would only cost time.
    tiler = GridTiler(tile_size=(512, 512), level=0, check_tissue=False)
    tiler.extract(Slide(slide, processed_path=str(out)), extraction_mask=TissueMask(), log_level="ERROR")
    seconds = time.perf_counter() - start
    tiles = sum(1 for _ in out.glob("*.png"))
    print(json.dumps({"tiles": tiles, "seconds": seconds, "what": "PNG files, 1 process"}))


if __name__ == "__main__":
    main()
