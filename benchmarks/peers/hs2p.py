"""Extract patches with hs2p: tissue by HSV, JPEG tiles into a tar; `tile_slides(save_tiles=True)`, as its docs have it.

hs2p.py SLIDE OUT WORKERS BACKEND
"""

import json
import logging
import sys
import tarfile
import time
from pathlib import Path

import hs2p

SPACING = 0.243


def encoder() -> str:
    """Return what hs2p's docs name the faster JPEG encoder, where its library is there."""
    try:
        import turbojpeg

        turbojpeg.TurboJPEG()
    except (ImportError, RuntimeError):
        return "pil"
    return "turbojpeg"


def main() -> None:
    """Extract and print one line of JSON."""
    slide, out, workers, backend = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    logging.disable(logging.WARNING)
    jpeg = encoder()
    tiling = hs2p.TilingConfig(
        backend=backend,
        requested_spacing_um=SPACING,
        requested_tile_size_px=512,
        tolerance=0.05,
        overlap=0.0,
    )
    start = time.perf_counter()
    hs2p.tile_slides(
        [hs2p.SlideSpec(sample_id="slide", image_path=slide)],
        tiling=tiling,
        segmentation=hs2p.SegmentationConfig(method="hsv", downsample=64),
        output_dir=out,
        num_workers=workers,
        save_tiles=True,
        jpeg_backend=jpeg,
    )
    seconds = time.perf_counter() - start
    with tarfile.open(next(out.rglob("*.tar"))) as tar:
        tiles = len(tar.getnames())
    print(json.dumps({"tiles": tiles, "seconds": seconds, "what": f"JPEG q90 ({jpeg}) in a tar"}))


if __name__ == "__main__":
    main()
