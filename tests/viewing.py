"""A small result to look at: a slide with black squares, and a heatmap that is high on the same squares."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import zarr

from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import Georef
from wsi_maxmin.pipelines._finished import finished_slides
from wsi_maxmin.pipelines._shown_slides import shown_slides
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.slide_list import hash_slide_id
from wsi_maxmin.stitching import Heatmap
from wsi_maxmin.tilemaps import MapSpec, TileMaps
from wsi_maxmin.tiling import make_grid
from wsi_maxmin.viewer._shown import Shown

SIZE, MPP, DOWNSAMPLE, THRESHOLD = (2048, 1536), 0.25, 2, 0.5
GLASS, TISSUE, BLACK = 245, (200, 150, 190), 20
# x, y, side, value of the tumour map; level-0 px.
SQUARES = ((256, 256, 128, 0.8), (900, 480, 256, 0.9), (1600, 1100, 64, 1.0))
LOW, COVERED = 0.2, (64, 64, 1920, 1408)
XML = """<?xml version="1.0"?><ASAP_Annotations><Annotations>
<Annotation Name="a" Type="Polygon" PartOfGroup="Tumor"><Coordinates>
<Coordinate Order="0" X="900" Y="480"/><Coordinate Order="1" X="1156" Y="480"/>
<Coordinate Order="2" X="1156" Y="736"/><Coordinate Order="3" X="900" Y="736"/>
</Coordinates></Annotation></Annotations></ASAP_Annotations>"""


def find_results(result: Path, **options: Any) -> list[Shown]:
    """Return what `view` shows of a result."""
    return shown_slides(finished_slides(result).folders, **options)


def painted() -> np.ndarray:
    """Return level 0 of the slide."""
    width, height = SIZE
    pixels = np.full((height, width, 3), GLASS, np.uint8)
    x, y, across, down = COVERED
    pixels[y : y + down, x : x + across] = TISSUE
    for x, y, side, _ in SQUARES:
        pixels[y : y + side, x : x + side] = BLACK
    return pixels


def values_of(georef: Georef) -> np.ndarray:
    """Return tumour, uncertainty and coverage on a display grid, (3, H, W)."""
    step = georef.downsample
    values = np.zeros((3, *georef.shape), np.float32)
    x, y, across, down = (number // step for number in COVERED)
    values[:2, y : y + down, x : x + across] = LOW
    values[2, y : y + down, x : x + across] = 1
    for x, y, side, high in SQUARES:
        place = slice(y // step, (y + side) // step), slice(x // step, (x + side) // step)
        values[0][place], values[1][place] = high, 1 - high / 2
    return values


def make_result(
    out: Path,
    slides: Path,
    write_pyramid: Callable[..., Path],
    levels: Sequence[np.ndarray],
    *,
    names: Sequence[str] = ("squares",),
    hashed: bool = False,
) -> Path:
    """Write what infer-slide would leave for slides with squares; return the folder of the run."""
    rows = ["slide_id,path,mpp,name"]
    for name in names:
        slide_id = hash_slide_id(name) if hashed else name
        path = write_pyramid(slides / f"{name}.tif", levels, MPP, 256)
        _write_slide(out / slide_id, slide_id, path, hashed=hashed)
        rows.append(f"{slide_id},{path},,{name}")
    (out / "slides.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return out


def forget_all_tiles(folder: Path) -> None:
    """Make the result of a slide one of which nothing was looked at: values and coverage are 0 at every level."""
    group = zarr.open_group(folder / "heatmap.ome.zarr", mode="r+")
    for level in group.attrs["multiscales"][0]["datasets"]:
        group[level["path"]][:] = 0


def mark(folder: Path, **facts: object) -> None:
    """Change facts in a ``run.json``."""
    path = folder / "run.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**known, **facts}), encoding="utf-8")


def _write_slide(folder: Path, slide_id: str, slide: Path, *, hashed: bool) -> None:
    from wsi_maxmin.readers import open_slide

    folder.mkdir(parents=True)
    georef = Georef(slide_size_px=SIZE, slide_mpp=MPP, downsample=DOWNSAMPLE)
    heatmap = Heatmap(
        data=da.from_array(values_of(georef)), georef=georef, channels=("tumour", "uncertainty", "coverage")
    )
    mask = np.zeros((SIZE[1] // 32, SIZE[0] // 32), bool)
    x, y, across, down = (number // 32 for number in COVERED)
    mask[y : y + down, x : x + across] = True
    tissue = TissueMask(mask=mask, downsample=(32.0, 32.0), mpp=32 * MPP)
    omezarr.write(heatmap, folder / "heatmap.ome.zarr", threshold=THRESHOLD, tissue=tissue, name=slide_id)
    with open_slide(slide, slide_id=slide_id) as opened:
        grid = make_grid(opened.info, tissue, mpp=MPP, tile_px=256, stride_px=128, min_tissue=0.5)
    spec = MapSpec(
        downsample=8,
        class_names=("normal", "tumor"),
        positive_class="tumor",
        threshold=THRESHOLD,
        model="m",
        slide="s",
    )
    TileMaps.create(folder / "tilemaps.zarr", grid, spec)
    boxes = pd.DataFrame([(b.x, b.y, b.width, b.height) for b in grid.boxes()], columns=["x", "y", "width", "height"])
    scores = {"logit_tumor": 0.5, "posterior_tumor": 0.25, "uncertainty": 0.75, "mask_mean": 0.125}
    boxes.assign(**scores).to_parquet(folder / "tiles.parquet", index=False)
    slide_facts = {"bytes": 1} if hashed else {"file": slide.name, "bytes": 1}
    facts = {
        "status": "done",
        "settings": {"model": "tiny:0", "blend": "hann"},
        "slide": slide_facts,
        "tiles": len(grid),
    }
    (folder / "run.json").write_text(json.dumps({**facts, "mpp": {"slide": MPP}}), encoding="utf-8")
