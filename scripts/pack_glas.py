"""Shrink GlaS's images to the size that training reads them at, so that the set travels in a few megabytes.

pack_glas.py GLAS OUT [--shorter-side 432]

Images are resized as training would (masks keep their own size, on which scores are taken); `Grade.csv` and lists are
copied. The result is licensed as GlaS is: research only.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms import v2

from wsi_maxmin.data._pixels import read_image

IMAGES = (".bmp", ".png")
TRUTH = "_anno"


def pack(source: Path, out: Path, shorter_side_px: int) -> int:
    """Write the shrunken set; return how many images it holds."""
    resize = v2.Resize(shorter_side_px, antialias=True)
    images = 0
    for path in sorted(source.rglob("*")):
        place = out / path.relative_to(source)
        if path.is_dir():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix not in IMAGES:
            shutil.copyfile(path, place)
        elif path.stem.endswith(TRUTH):
            with Image.open(path) as mask:
                mask.save(place.with_suffix(".png"), optimize=True)
        else:
            pixels = resize(read_image(path)).permute(1, 2, 0).numpy()
            Image.fromarray(np.ascontiguousarray(pixels)).save(place.with_suffix(".png"), optimize=True)
            images += 1
    return images


def main() -> None:
    """Read the command line and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="GlaS as its organisers ship it, or with PNG copies")
    parser.add_argument("out", type=Path, help="folder for the shrunken set")
    parser.add_argument("--shorter-side", type=int, default=432, help="px [432]")
    arguments = parser.parse_args()
    if not (arguments.source / "Grade.csv").is_file():
        parser.error(f"{arguments.source} holds no Grade.csv")
    count = pack(arguments.source, arguments.out, arguments.shorter_side)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{count} images, {size / 2**20:.1f} MiB in {arguments.out}")


if __name__ == "__main__":
    main()
