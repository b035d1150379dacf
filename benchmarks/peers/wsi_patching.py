"""Extract patches with wsi-patching: its pipeline into WebDataset shards of PNG. Tissue is judged patch by patch.

wsi_patching.py SLIDE OUT WORKERS
"""

import json
import sys
import tarfile
import time
from pathlib import Path

from wsi_patching import LowContrastBackgroundFilter, PatchExtractor, PNGEncoder, WebDatasetWriter, WSIGrid


def main() -> None:
    """Extract and print one line of JSON."""
    slide, out, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    start = time.perf_counter()
    pipeline = (
        WSIGrid(slides=[slide], resolution=0, unit="level")
        .then(PatchExtractor(tile_size=512, stride=512))
        .then(LowContrastBackgroundFilter())
        .then(PNGEncoder())
        .to(WebDatasetWriter(outdir=out, shard_size=300))
    )
    pipeline.materialize(num_workers=workers)
    seconds = time.perf_counter() - start
    tiles = 0
    for shard in out.glob("*.tar"):
        with tarfile.open(shard) as tar:
            tiles += sum(name.endswith(".png") for name in tar.getnames())
    print(json.dumps({"tiles": tiles, "seconds": seconds, "what": "PNG in tars"}))


if __name__ == "__main__":
    main()
