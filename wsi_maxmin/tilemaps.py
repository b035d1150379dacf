"""Per-tile outputs of a model on disk: what inference writes once and stitching reads as often as it likes."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import TileGrid

TILES_PER_CHUNK = 64
FORMAT = "wsi-maxmin-tilemaps/1"
_EVERY_CHUNK = "every_chunk_stored"
_STORE_ALL: Any = {"write_empty_chunks": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSpec:
    """What the maps are of.

    Attributes
    ----------
    downsample : int
        Canvas pixels per map pixel.
    class_names : tuple of str
        Classes of the logits; empty for a method without classes.
    positive_class : str
    threshold : float
        Of the tumour map.
    model, slide : str
        Fingerprints of the model and of the slide's file.
    has_masks : bool
        Whether there are soft masks, or class scores alone.
    """

    downsample: int
    class_names: tuple[str, ...]
    positive_class: str
    threshold: float
    model: str
    slide: str
    has_masks: bool = True

    @property
    def main_channel(self) -> str:
        """The channel of a heatmap that the threshold is for."""
        return "tumour" if self.has_masks else "probability"


class TileMaps:
    """Soft masks and class scores of a grid's tiles, in a zarr group.

    Arrays: ``mask`` (N, 1, h, w) float16 in [0, 1], of a classifier without masks (N, 0, h, w); ``logits`` (N, K)
    float32, ``done`` (N,) bool. A chunk holds `TILES_PER_CHUNK` tiles whatever the batch size, and is written by one
    writer, ``done`` last: what is not done was not wholly written, and of what is done the files are there, be they all
    zeros; maps of earlier versions left those out. ``keep`` (N, 2) int32 are the grid's cells;
    ``tissue`` (H, W) bool is the slide's mask, so that stitching needs neither slide nor model.

    Parameters
    ----------
    path : Path
        The group, made by `create`.
    """

    def __init__(self, path: Path) -> None:
        try:
            group = zarr.open_group(path, mode="r+")
        except (OSError, ValueError) as error:
            raise InputError("no tile maps", got=f"{path} ({error})", remedy="run `wsi-maxmin infer-slide`") from None
        if group.attrs.get("format") != FORMAT:
            raise InputError("not the tile maps of wsi-maxmin", got=path, expected=FORMAT)
        self.path = path
        self.mask: zarr.Array = group["mask"].with_config(_STORE_ALL)
        self.logits: zarr.Array = group["logits"].with_config(_STORE_ALL)
        self._done: zarr.Array = group["done"]
        attributes: dict[str, Any] = dict(group.attrs)
        self.grid = TileGrid.from_json({**attributes["grid"], "keep": group["keep"][:]})
        self._every_chunk = bool(attributes.get(_EVERY_CHUNK))
        spec = attributes["spec"]
        self.spec = MapSpec(**{**spec, "class_names": tuple(spec["class_names"])})

    @classmethod
    def create(cls, path: Path, grid: TileGrid, spec: MapSpec, tissue: TissueMask | None = None) -> Self:
        """Make an empty group, replacing what is there; it takes its name when it is whole."""
        partial = path.with_name(f".{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        side = grid.tile_px // spec.downsample
        group = zarr.open_group(partial, mode="w")
        count, classes, chunk = len(grid), len(spec.class_names), TILES_PER_CHUNK
        masks = (count, int(spec.has_masks), side, side)
        group.create_array("mask", shape=masks, chunks=(chunk, 1, side, side), dtype="float16")
        group.create_array("logits", shape=(count, classes), chunks=(chunk, max(classes, 1)), dtype="float32")
        group.create_array("done", shape=(count,), chunks=(chunk,), dtype="bool")
        group.create_array("keep", data=grid.keep, chunks=(max(count, 1), 2))
        if tissue is not None:
            stored = group.create_array("tissue", data=tissue.mask, chunks=tissue.mask.shape)
            stored.attrs.update({"downsample": list(tissue.downsample), "mpp": tissue.mpp})
        grid_json = {name: value for name, value in grid.to_json().items() if name != "keep"}
        group.attrs.update(
            {
                "format": FORMAT,
                _EVERY_CHUNK: True,
                "grid": grid_json,
                "spec": {**asdict(spec), "class_names": list(spec.class_names)},
            }
        )
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        return cls(path)

    @classmethod
    def open_or_create(cls, path: Path, grid: TileGrid, spec: MapSpec, tissue: TissueMask | None = None) -> Self:
        """Open the maps of an interrupted run of the same grid, model and slide, else make new ones."""
        try:
            maps = cls(path)
        except InputError:
            return cls.create(path, grid, spec, tissue)
        same = maps.spec == spec and maps.grid.to_json() == grid.to_json()
        if not same:
            return cls.create(path, grid, spec, tissue)
        maps.tidy()
        return maps

    def tidy(self) -> None:
        """Remove what a process left that died while it wrote."""
        for half in self.path.rglob("*.partial"):
            half.unlink(missing_ok=True)

    def tissue(self) -> TissueMask | None:
        """Return the slide's tissue mask; None in maps of an earlier version, which do not have it."""
        stored = zarr.open_group(self.path, mode="r").get("tissue")
        if not isinstance(stored, zarr.Array):
            return None
        attributes: dict[str, Any] = dict(stored.attrs)
        x, y = attributes["downsample"]
        return TissueMask(mask=np.asarray(stored[:], dtype=bool), downsample=(x, y), mpp=attributes["mpp"])

    def chunks(self) -> Iterator[range]:
        """Yield the tiles of each chunk."""
        count = len(self.grid)
        return (range(start, min(start + TILES_PER_CHUNK, count)) for start in range(0, count, TILES_PER_CHUNK))

    def todo(self) -> list[range]:
        """Return the chunks that are not done."""
        done = self._done[:]
        return [chunk for chunk in self.chunks() if not done[chunk.start : chunk.stop].all() or self._is_lost(chunk)]

    def is_done(self, chunk: range) -> bool:
        """Whether a chunk was wholly written, and is still there."""
        return bool(self._done[chunk.start : chunk.stop].all()) and not self._is_lost(chunk)

    def has_file(self, name: Literal["mask", "logits"], chunk: range) -> bool:
        """Whether a chunk of an array is on the disk; what is not reads as 0."""
        array = self.mask if name == "mask" else self.logits
        key = array.metadata.encode_chunk_key((chunk.start // TILES_PER_CHUNK, *(0 for _ in array.shape[1:])))
        return Path(self.path / name / key).is_file()

    def _is_lost(self, chunk: range) -> bool:
        if not self._every_chunk:
            return False
        masks_lost = self.spec.has_masks and not self.has_file("mask", chunk)
        return masks_lost or (bool(self.spec.class_names) and not self.has_file("logits", chunk))

    @property
    def complete(self) -> bool:
        """Whether every tile is done."""
        return not self.todo()

    def write(self, chunk: range, mask: npt.NDArray[np.float16], logits: npt.NDArray[np.float32]) -> None:
        """Write the outputs of one whole chunk.

        Parameters
        ----------
        chunk : range
            As `chunks` gave it.
        mask : (n, 1, h, w) float16, or (n, 0, h, w)
        logits : (n, K) float32
        """
        where = slice(chunk.start, chunk.stop)
        if self.spec.has_masks:
            self.mask[where] = mask
        if self.spec.class_names:
            self.logits[where] = logits
        self._done[where] = True

    def posterior(self) -> npt.NDArray[np.float32] | None:
        """Return softmax of the logits, (N, K) float32; None for a method without classes."""
        if not self.spec.class_names:
            return None
        return softmax(np.asarray(self.logits[:]))

    @property
    def positive_index(self) -> int:
        """Column of the positive class."""
        return self.spec.class_names.index(self.spec.positive_class)


def main_map(
    masks: npt.NDArray[np.floating], logits: npt.NDArray[np.float32], positive: int
) -> npt.NDArray[np.float32]:
    """Return what the threshold is for: posterior × mask (B, 1, h, w), or the posterior (B,) where no mask is."""
    posterior: npt.NDArray[np.float32] = softmax(logits)[:, positive]
    if not masks.shape[1]:
        return posterior
    return posterior[:, None, None, None] * masks.astype(np.float32)


def tile_table(maps: TileMaps) -> pd.DataFrame:
    """Return a row a tile: Box in level-0 px, logits, posterior, uncertainty, mean of the mask; what there is of it."""
    boxes = [(box.x, box.y, box.width, box.height) for box in maps.grid.boxes()]
    table = pd.DataFrame(np.array(boxes, dtype=np.int64).reshape(-1, 4), columns=["x", "y", "width", "height"])
    posterior = maps.posterior()
    if posterior is not None:
        logits = np.asarray(maps.logits[:])
        for index, name in enumerate(maps.spec.class_names):
            table[f"logit_{name}"], table[f"posterior_{name}"] = logits[:, index], posterior[:, index]
        table["uncertainty"] = uncertainty(posterior)
    if not maps.spec.has_masks:
        return table
    means = [np.asarray(maps.mask[c.start : c.stop], dtype=np.float32).mean(axis=(1, 2, 3)) for c in maps.chunks()]
    table["mask_mean"] = np.concatenate(means) if means else np.empty(0, dtype=np.float32)
    return table


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    posterior: npt.NDArray[np.float32] = (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
    return posterior


def uncertainty(posterior: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the entropy of posteriors (N, K) divided by log K: 0 is certain, 1 is undecided."""
    safe = np.where(posterior > 0, posterior, 1)
    entropy: npt.NDArray[np.float32] = (-(posterior * np.log(safe)).sum(axis=-1) / np.log(posterior.shape[-1])).astype(
        np.float32
    )
    return entropy


def map_downsample(tile_px: int, wanted: Sequence[int] = (8, 4, 2, 1)) -> int:
    """Return the coarsest of the wanted map downsamples that divides the tile."""
    return next(value for value in wanted if tile_px % value == 0)
