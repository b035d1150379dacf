"""See whether tile maps are still what ``tiles.parquet``, which was made of them, says of every tile."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._file_names import TILES
from wsi_maxmin.runinfo import RUN_FILE, read_json
from wsi_maxmin.tilemaps import TileMaps, tile_table

AGAIN = "run infer-slide on this slide with --overwrite"
_AGREEMENT = 1e-5  # of a mean of float16 values, summed in another order


def require_intact(folder: Path, maps: TileMaps, *, masks: bool = True) -> None:
    """Raise InputError if the tile maps of a finished slide have lost or changed values.

    Parameters
    ----------
    folder : Path
        Of the slide.
    maps : TileMaps
    masks : bool
        Whether to read all soft masks; without, only that their files are there.
    """
    if (read_json(folder / RUN_FILE) or {}).get("status") != "done":
        return  # its table may be that of an earlier run
    table = folder / TILES
    if table.is_file() and (why := damage(maps, read_tiles(table), masks=masks)):
        raise InputError(
            "the tile maps are damaged", got=f"{maps.path}: {why}", expected=f"the values in {TILES}", remedy=AGAIN
        )


def damage(maps: TileMaps, table: pd.DataFrame, *, masks: bool = True) -> str | None:
    """Return in what tile maps differ from their table, such as a chunk that is gone; None if in nothing.

    The parameters are those of `require_intact`.
    """
    if len(table) != len(maps.grid):
        return f"{len(maps.grid)} tiles, {TILES} has {len(table)}"
    for chunk in maps.chunks():
        seen = maps.spec.has_masks and table["mask_mean"].iloc[chunk.start : chunk.stop].any()
        if seen and not maps.has_file("mask", chunk):
            return f"the soft masks of tiles {chunk.start} to {chunk.stop - 1} are gone"
    try:
        columns = _columns(maps, masks=masks)
    except Exception as error:  # a damaged chunk may make any library raise anything
        return f"{type(error).__name__}: {error}"
    for name, values in columns.items():
        same = np.isclose(values, table[name].to_numpy(), rtol=0, atol=_AGREEMENT, equal_nan=True)
        if not same.all():
            index = int(np.argmin(same))
            return f"tile {index} has {name} {values[index]:.4g}, {TILES} says {table[name].iloc[index]:.4g}"
    return None


def _columns(maps: TileMaps, *, masks: bool) -> dict[str, npt.NDArray[np.float32]]:
    """Return those columns of the table that tile maps hold themselves."""
    if masks:
        made = tile_table(maps)
        return {name: made[name].to_numpy() for name in made if name == "mask_mean" or name.startswith("logit_")}
    logits = np.asarray(maps.logits[:])
    return {f"logit_{name}": logits[:, index] for index, name in enumerate(maps.spec.class_names)}


def read_tiles(path: Path) -> pd.DataFrame:
    """Return ``tiles.parquet``.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError("no table of tiles", got=f"{path} ({error})", remedy="run infer-slide again") from None
