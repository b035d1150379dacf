"""Time the page of `wsi-maxmin view` on a slide of 100,000² px: the first picture, and tiles of slide and map.

Writes itself a slide of real JPEG tiles, again and again the same few, of about half a GB, and a heatmap of its size;
unless the folder has them.

    python benchmarks/view.py --folder view-benchmark
"""

import argparse
import http.client
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dask.array as da
import numpy as np
from PIL import Image
from tifffile import TiffWriter

from wsi_maxmin.assets import DEMO_SLIDE
from wsi_maxmin.geometry import Box
from wsi_maxmin.grids import Georef
from wsi_maxmin.readers import open_slide
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.stitching import Heatmap
from wsi_maxmin.tissue import find_tissue
from wsi_maxmin.viewer._slide_tiles import encode

SIDE_PX, TILES, VISITS, TILE_PX, LEVELS, MPP = 100_352, 150, 5, 512, 8, 0.243
TISSUE = Box(x=4608, y=5120, width=2048, height=1536)


def write_slide(path: Path, side_px: int) -> None:
    """Write a pyramid whose tissue lies in waves."""
    with open_slide(DEMO_SLIDE) as demo:
        tissue = Image.fromarray(demo.read(TISSUE, TISSUE.width, TISSUE.height))
    corners = [(x, y) for y in range(0, TISSUE.height, TILE_PX) for x in range(0, TISSUE.width, TILE_PX)]
    stained = [encode(tissue.crop((x, y, x + TILE_PX, y + TILE_PX))) for x, y in corners]
    glass = encode(Image.new("RGB", (TILE_PX, TILE_PX), (243, 242, 244)))

    def tiles(level: int) -> Iterator[bytes]:
        count = -(-(side_px >> level) // TILE_PX)
        for row in range(count):
            for column in range(count):
                x, y = ((at + 0.5) / count for at in (column, row))
                wave = np.sin(19 * x) * np.sin(13 * y + 2 * x) > 0.4
                yield stained[(7 * row + column) % len(stained)] if wave else glass

    with TiffWriter(path, bigtiff=True) as tiff:
        for level in range(LEVELS):
            tiff.write(
                tiles(level),
                shape=(side_px >> level, side_px >> level, 3),
                dtype="uint8",
                tile=(TILE_PX, TILE_PX),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=int(level > 0),
                resolution=(1e4 / MPP / 2**level, 1e4 / MPP / 2**level),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def write_result(folder: Path, slide: Path) -> None:
    """Write a heatmap of waves over the tissue of a slide."""
    with open_slide(slide) as opened:
        tissue, info = find_tissue(opened), opened.info
    georef = Georef.for_display(info.size_px, info.require_mpp())

    def block(block_info: dict | None = None) -> np.ndarray:
        (_, _), (top, bottom), (left, right) = block_info[None]["array-location"]
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
        step = georef.downsample
        covered = tissue.at((x[0] + 0.5) * step, (y[:, 0] + 0.5) * step).astype(np.float32)
        wave = (np.sin(x / 90) * np.sin(y / 120) + 1) / 2 * covered
        return np.stack([wave, 1 - np.abs(2 * wave - 1), covered])

    chunks = ((3,), *(da.core.normalize_chunks(1024, shape=(side,))[0] for side in georef.shape))
    data = da.map_blocks(block, chunks=chunks, dtype=np.float32)
    heatmap = Heatmap(data=data, georef=georef, channels=("tumour", "uncertainty", "coverage"))
    folder.mkdir(parents=True, exist_ok=True)
    omezarr.write(heatmap, folder / "heatmap.ome.zarr", threshold=0.5, tissue=tissue)


def time_tiles(url: str, paths: list[str]) -> list[float]:
    """Return milliseconds a request, one after the other on one connection."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    times = []
    for path in paths:
        start = time.perf_counter()
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        answer.read()
        times.append(1000 * (time.perf_counter() - start))
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
    connection.close()
    return times


def time_first_picture(url: str) -> list[float]:
    """Return seconds from asking for the page until slide and map are drawn in full, each in a new browser profile."""
    from playwright.sync_api import sync_playwright

    drawn = "() => performance.getEntriesByName('first picture')[0]?.startTime"
    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(VISITS):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(url)
            while (drawn_at := page.evaluate(drawn)) is None:
                page.wait_for_timeout(20)
            times.append(drawn_at / 1000)
            page.close()
        browser.close()
    return times


def row(name: str, times: list[float], unit: str) -> str:
    """Return a line of the table."""
    ordered = sorted(times)
    high = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
    cells = [f"{number:.3g} {unit}" for number in (statistics.median(times), high, max(times))]
    return f"| {name} | {' | '.join(cells)} | {len(times)} |"


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", type=int, default=SIDE_PX)
    folder, side = (options := parser.parse_args()).folder, options.side
    slide, result = folder / "slide.tif", folder / "run" / "slide"
    folder.mkdir(parents=True, exist_ok=True)
    if not slide.exists():
        write_slide(folder / "partial.tif", side)
        (folder / "partial.tif").rename(slide)
    if not (result / "heatmap.ome.zarr").exists():
        write_result(result, slide)
    command = [
        sys.executable,
        "-m",
        "wsi_maxmin",
        "view",
        str(result),
        "--slide",
        str(slide),
        "--no-browser",
        "--port",
        "0",
    ]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().split()[0]
        started = time.perf_counter() - start
        try:
            first = time_first_picture(url)
            rng = np.random.default_rng(0)
            places = [(level, *rng.integers(0, max(side // 512 >> level, 1), 2)) for level in rng.integers(0, 6, TILES)]
            pixels = [f"slides/slide/pixels/{level}/{x}_{y}.jpg" for level, x, y in places]
            levels = [
                (level, *rng.integers(0, max(side // 8 // 512 >> level, 1), 2)) for level in rng.integers(0, 5, TILES)
            ]
            values = [f"slides/slide/values/tumour/{level}/{x}_{y}" for level, x, y in levels]
            rows = [
                row("from the command to the address", [started], "s"),
                row("first picture, nothing read before", first[:1], "s"),
                row("first picture, again", first[1:], "s"),
                *(
                    row(f"tile of the {name}, {when}", time_tiles(url, paths), "ms")
                    for name, paths in (("slide", pixels), ("map", values))
                    for when in ("first time", "warm")
                ),
            ]
        finally:
            server.terminate()
    print("| | median | 95 % | highest | of |\n|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
