"""Time reading tiles and extracting patches beside other programs, and beside what no program can beat.

Writes itself a slide like Camelyon16's, then runs everything in turn, round after round, each in a process of its own
and with the slide in the page cache. The first round warms up and measures memory; it is not timed, except for programs
so slow that `--patience` lets them run only once. Seconds are taken inside each process, after its imports.

    python benchmarks/extract.py --install-peers --rounds 5
    python benchmarks/extract.py --only read --side 8192 --rounds 2
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from _camelyon_like import write_slide
from _machine import cpu_name
from peers._race import LIMIT, OURS, PEER, Contender, race
from peers._venvs import EXTRACTING, HOME, install, version_of

from wsi_maxmin import __version__
from wsi_maxmin.assets import DEMO_SLIDE
from wsi_maxmin.readers import open_slide
from wsi_maxmin.tiling import make_grid
from wsi_maxmin.tissue import find_tissue

RESULTS = Path(__file__).resolve().parent / "results" / "extract.json"
TILE, BLOCK, READS = 512, 24, 1000
OWN = ("imagecodecs", "numpy", "openslide-bin", "openslide-python", "tifffile", "zarr")

Places = list[list[int]]


def readers(slide: Path, places: Path, tiles: Path) -> list[Contender]:
    """Return who reads: regions at `places`, which touch the tiles whose corners are in `tiles`."""
    count = str(len(json.loads(tiles.read_text())))
    limit, rest = "libjpeg-turbo, bytes in memory", (str(slide), str(tiles), "{out}", "1")
    contenders = [
        Contender(name=limit, kind=LIMIT, command=("limits.py", "decode", *rest)),
        Contender(name="libjpeg-turbo, array reused", kind=LIMIT, command=("limits.py", "decode-reused", *rest)),
    ]
    ours = {"ours-tiff": "wsi-maxmin, tiff", "ours-openslide": "wsi-maxmin, openslide"}
    peers = {"openslide": None, "tifffile-zarr": None, "fastslide": "dlup"}
    peers |= {name: name for name in ("cucim", "pyvips", "tiffslide")}
    for reader in (*ours, *peers):
        command = ("read_tiles.py", reader, str(slide), str(places), count)
        kind, venv = (OURS, None) if reader in ours else (PEER, peers[reader])
        contenders.append(
            Contender(name=ours.get(reader, reader), kind=kind, command=command, venv=venv, against=limit)
        )
    return contenders


def extractors(slide: Path, places: Path, workers: int) -> list[Contender]:
    """Return who extracts patches."""
    limits = {"copy": "copy of the bytes", "jpeg": "decode, write JPEG", "png": "decode, write PNG"}
    limit_of = {"raw-jpeg": limits["copy"], "jpeg": limits["jpeg"], "png": limits["png"]}
    contenders = [
        Contender(name=name, kind=LIMIT, command=("limits.py", kind, str(slide), str(places), "{out}", str(workers)))
        for kind, name in limits.items()
    ]
    for form, store in (("raw-jpeg", "shard"), ("raw-jpeg", "files"), ("jpeg", "files"), ("png", "files")):
        command = ("ours.py", str(slide), "{out}", str(workers), form, store)
        name = f"wsi-maxmin, {form}, {store}"
        contenders.append(Contender(name=name, kind=OURS, command=command, against=limit_of[form]))
    backends = {"hs2p": ("cucim", "vips", "openslide"), "dlup": ("fastslide", "openslide")}
    for peer in ("hs2p", "tiatoolbox", "lazyslide", "dlup", "wsi-patching", "histolab"):
        for backend in backends.get(peer, ("",)):
            command = (f"{peer.replace('-', '_')}.py", str(slide), "{out}", str(workers), *filter(None, [backend]))
            name = f"{peer}, {backend}" if backend else peer
            contenders.append(Contender(name=name, kind=PEER, command=command, venv=peer))
    return contenders


def table(title: str, contenders: Sequence[Contender]) -> str:
    """Return a Markdown table: rates, and their ratios to the limit of each and to the fastest peer."""
    middle = {contender.name: statistics.median(contender.rates) for contender in contenders if contender.rates}
    best = max((middle[c.name] for c in contenders if c.kind == PEER and c.name in middle), default=None)
    lines = [
        f"### {title}",
        "",
        "| | tiles/s | min–max | of its limit | of the fastest peer | tiles | peak MB | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for contender in contenders:
        name, rate = contender.name, middle.get(contender.name)
        if rate is None:
            lines.append(f"| {name} | – | – | – | – | – | – | {contender.error or 'did not run'} |")
            continue
        limit = middle.get(contender.against or "")
        cells = [
            f"**{name}**" if contender.kind == OURS else name,
            f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}",
            f"{min(contender.rates):.0f}–{max(contender.rates):.0f}" if len(contender.rates) > 1 else "one run",
            f"{rate / limit:.2f}" if limit else "–",
            f"{rate / best:.2f}" if best and contender.kind != LIMIT else "–",
            f"{contender.tiles}",
            f"{contender.peak_mb:.0f}" if contender.peak_mb else "–",
            contender.what,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tissue_tiles(slide: Path) -> Places:
    """Return the corners of the tiles that extraction without options cuts."""
    with open_slide(slide) as opened:
        grid = make_grid(opened.info, find_tissue(opened), mpp=None, tile_px=TILE)
        return [[int(box.x), int(box.y)] for box in grid.boxes()]


def off_grid(tiles: Places, side_px: int, block: int = BLOCK) -> tuple[Places, Places]:
    """Return patches that lie half a tile off the grid, in the block with most tissue, and the tiles they touch."""
    across = side_px // TILE
    block = min(block, across - 1)
    held = np.zeros((across + 1, across + 1), dtype=int)
    for x, y in tiles:
        held[y // TILE + 1, x // TILE + 1] = 1
    held = held.cumsum(axis=0).cumsum(axis=1)
    size = block + 1
    sums = held[size:, size:] - held[:-size, size:] - held[size:, :-size] + held[:-size, :-size]
    top, left = (TILE * int(index) for index in np.unravel_index(sums.argmax(), sums.shape))

    def corners(count: int, shift: int) -> Places:
        steps = range(shift, shift + TILE * count, TILE)
        return [[left + x, top + y] for y in steps for x in steps]

    return corners(block, TILE // 2), corners(size, 0)


def environment(peers: Path) -> dict[str, Any]:
    """Return what a reader of the figures must know of the machine and the programs."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "versions": {"wsi-maxmin": __version__} | {name: version(name) for name in OWN},
        "peers": {name: version_of(peers, name) for name in EXTRACTING},
    }


def main() -> None:
    """Measure, print tables, and write the figures."""
    arguments = parse()
    if arguments.install_peers:
        install(arguments.peers, EXTRACTING)
    figures: dict[str, Any] = {
        "environment": environment(arguments.peers),
        "settings": {name: getattr(arguments, name) for name in ("rounds", "side", "workers")},
    }
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        work = Path(folder)
        slide = work / "slide.tif"
        write_slide(slide, arguments.side, levels=arguments.levels, source=arguments.source)
        tiles = tissue_tiles(slide)
        middle = len(tiles) // 2
        shifted, touched = off_grid(tiles, arguments.side)
        lists = {"all": tiles, "some": tiles[max(middle - READS // 2, 0) :][:READS], "off": shifted, "touched": touched}
        for name, corners in lists.items():
            (work / f"{name}.json").write_text(json.dumps(corners))
        some, off, under, every = (work / f"{name}.json" for name in ("some", "off", "touched", "all"))
        races = {
            "read": {
                "Reading tiles on the grid, 1 thread": readers(slide, some, some),
                "Reading patches off the grid, 1 thread, tiles touched a second": readers(slide, off, under),
            },
            "extract": {f"Extraction, {arguments.workers} workers": extractors(slide, every, arguments.workers)},
        }
        figures["slide"] = {"tissue_tiles": len(tiles), "bytes": slide.stat().st_size}
        for part in (arguments.only,) if arguments.only else races:
            for title, contenders in races[part].items():
                race(contenders, arguments, work)
                print(f"\n{table(title, contenders)}\n", flush=True)
                figures[title] = [{k: v for k, v in asdict(c).items() if k != "command"} for c in contenders]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds [5]")
    parser.add_argument("--side", type=int, default=40960, help="side of the slide, px [40960]")
    parser.add_argument("--levels", type=int, default=8, help="levels of its pyramid [8]")
    parser.add_argument("--source", type=Path, default=DEMO_SLIDE, help="slide whose tissue is used [the bundled one]")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of extraction [all cores]")
    parser.add_argument("--only", choices=("read", "extract"), help="one half of it")
    parser.add_argument("--peers", type=Path, default=HOME, help="folder of the other programs' environments")
    parser.add_argument("--install-peers", action="store_true", help="make those that are not there")
    parser.add_argument("--patience", type=float, default=120, help="run what takes more seconds only once [120]")
    parser.add_argument("--work", type=Path, help="folder for the slide and the patches [the system's]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go, JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
