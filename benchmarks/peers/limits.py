"""Time what no program can beat: the same tiles decoded, copied or compressed, with nothing around it.

limits.py KIND SLIDE PLACES.json OUT WORKERS

PLACES.json holds [x, y] pairs of tiles on the grid, level-0 px. Kinds: ``decode`` and ``decode-reused`` (one thread,
bytes read before), ``copy`` (into a tar), ``jpeg`` and ``png`` (files). Processes are started before the clock is.
"""

import io
import json
import os
import sys
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
from tifffile import TiffFile, TiffPage

TILE, JPEG_QUALITY = 512, 90
Span = tuple[int, int, int]


def spans(slide: Path, corners: list[list[int]]) -> tuple[list[Span], bytes]:
    """Return number, offset and length of each tile, and the tables that they share."""
    with TiffFile(slide) as tiff:
        page = tiff.pages[0]
        assert isinstance(page, TiffPage)
        across = -(-page.imagewidth // TILE)
        numbers = [y // TILE * across + x // TILE for x, y in corners]
        return [(n, page.dataoffsets[n], page.databytecounts[n]) for n in numbers], page.jpegtables or b""


def decode(slide: Path, corners: list[list[int]], *, reuse: bool) -> float:
    """Decode bytes in memory, into new arrays or always the same one; return seconds."""
    tiles, tables = spans(slide, corners)
    file = os.open(slide, os.O_RDONLY)
    data = [os.pread(file, length, offset) for _, offset, length in tiles]
    out = np.empty((TILE, TILE, 3), np.uint8) if reuse else None
    for piece in data[-16:]:
        imagecodecs.jpeg8_decode(piece, tables=tables, out=out)
    start = time.perf_counter()
    for piece in data:
        imagecodecs.jpeg8_decode(piece, tables=tables, out=out)
    return time.perf_counter() - start


def copy(slide: Path, corners: list[list[int]], out: Path) -> float:
    """Copy compressed tiles, each made a JPEG file by its tables, into a tar; return seconds."""
    start = time.perf_counter()
    tiles, tables = spans(slide, corners)
    file = os.open(slide, os.O_RDONLY)
    with tarfile.open(out / "tiles.tar", "w") as tar:
        for number, offset, length in tiles:
            member = tarfile.TarInfo(f"{number:06d}.jpg")
            data = tables[:-2] + os.pread(file, length, offset)[2:]
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return time.perf_counter() - start


def write_files(slide: Path, tiles: list[Span], tables: bytes, out: Path, kind: str) -> int:
    """Decode tiles and write each as a file; return how many."""
    from wsi_maxmin.formats.png import encode_png

    file = os.open(slide, os.O_RDONLY)
    for number, offset, length in tiles:
        pixels = imagecodecs.jpeg8_decode(os.pread(file, length, offset), tables=tables)
        if kind == "png":
            data = encode_png(pixels)
        else:
            data = bytes(imagecodecs.jpeg8_encode(pixels, level=JPEG_QUALITY, subsampling="420"))
        (out / f"{number:06d}.{kind}").write_bytes(data)
    os.close(file)
    return len(tiles)


def in_processes(slide: Path, corners: list[list[int]], out: Path, kind: str, workers: int) -> float:
    """Divide the tiles between processes; return seconds."""
    with ProcessPoolExecutor(workers) as pool:
        first, tables = spans(slide, corners[:workers])
        for warm in [pool.submit(write_files, slide, first, tables, out, kind) for _ in range(2 * workers)]:
            warm.result()
        start = time.perf_counter()
        tiles, tables = spans(slide, corners)
        chunks = [tiles[begin : begin + 64] for begin in range(0, len(tiles), 64)]
        for done in [pool.submit(write_files, slide, chunk, tables, out, kind) for chunk in chunks]:
            done.result()
        return time.perf_counter() - start


def main() -> None:
    """Time one kind and print one line of JSON."""
    kind, slide, places, out, workers = (*sys.argv[1:5], int(sys.argv[5]))
    corners = json.loads(Path(places).read_text())
    if kind.startswith("decode"):
        seconds = decode(Path(slide), corners, reuse=kind == "decode-reused")
    elif kind == "copy":
        seconds = copy(Path(slide), corners, Path(out))
    else:
        seconds = in_processes(Path(slide), corners, Path(out), kind, workers)
    what = {"copy": "bytes into one tar, 1 process", "jpeg": "JPEG q90 files", "png": "PNG files"}.get(kind, "")
    print(json.dumps({"tiles": len(corners), "seconds": seconds, "what": what}))


if __name__ == "__main__":
    main()
