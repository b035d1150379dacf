"""Tables of regions and of tiles, in level-0 pixels and µm, for spreadsheets and statistics."""

from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from wsi_maxmin.exports._features import identity
from wsi_maxmin.exports._source import ExportSource

FILES = ("regions.csv", "tiles.csv")


def write(source: ExportSource, folder: Path) -> None:
    """Write ``regions.csv``, and ``tiles.csv`` where there are tiles."""
    _region_table(source).to_csv(folder / FILES[0], index=False, lineterminator="\n")
    if source.tiles is not None:
        table = _with_um(source.tiles, source.store.georef.slide_mpp)
        if (classes := source.tile_classes) is not None:
            table["class"] = classes
        table.to_csv(folder / FILES[1], index=False, lineterminator="\n")


def _region_table(source: ExportSource) -> pd.DataFrame:
    shapes = np.array([region.polygon for region in source.regions], dtype=object)
    bounds = shapely.bounds(shapes).reshape(-1, 4)
    table = pd.DataFrame(
        np.column_stack([bounds[:, :2], bounds[:, 2:] - bounds[:, :2]]).round().astype(np.int64),
        columns=["x", "y", "width", "height"],
    )
    table = _with_um(table, source.store.georef.slide_mpp)
    table.insert(0, "id", [identity(source.slide_id, "annotation", shape) for shape in shapes])
    table.insert(1, "class", source.class_name(source.positive_class))
    table["area_um2"] = [round(region.area_um2, 3) for region in source.regions]
    for name in source.store.valued:
        table[f"{name}_mean"] = [round(region.means[name], 6) for region in source.regions]
        table[f"{name}_max"] = [round(region.maxima[name], 6) for region in source.regions]
    return table


def _with_um(table: pd.DataFrame, mpp: float) -> pd.DataFrame:
    """Add where each row lies in µm from the slide's upper left corner."""
    return table.assign(**{f"{name}_um": (table[name] * mpp).round(3) for name in ("x", "y", "width", "height")})
