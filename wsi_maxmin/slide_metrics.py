"""How well a slide's heatmap agrees with a person's outline of the tumour."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zarr

from wsi_maxmin.annotations import Annotation
from wsi_maxmin.geometry import Box
from wsi_maxmin.grids import Georef
from wsi_maxmin.metrics import dice, roc_auc
from wsi_maxmin.sinks._ngff import ome_metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelScores:
    """Agreement over the pixels of a display grid.

    Attributes
    ----------
    dice : float or None
        Of the map at its threshold; None without tumour in the truth.
    auc : float or None
        Of the map's values; None where one class is missing.
    called : float
        Share of the pixels that the map calls tumour.
    pixels : int
        Pixels that were compared.
    """

    dice: float | None
    auc: float | None
    called: float
    pixels: int


def read_channel(store: Path, channel: str) -> npt.NDArray[np.float32]:
    """Return one channel of an OME-Zarr heatmap at full resolution, (H, W) float32 in [0, 1]."""
    group = zarr.open_group(store, mode="r")
    labels = [entry["label"] for entry in ome_metadata(group)["omero"]["channels"]]
    values: npt.NDArray[np.float32] = np.divide(group["0"][labels.index(channel)], 255, dtype=np.float32)
    return values


def truth_on_display(annotation: Annotation, georef: Georef) -> npt.NDArray[np.bool_]:
    """Return the annotated tumour on a display grid, (H, W) bool."""
    height, width = georef.shape
    box = Box(x=0, y=0, width=width * georef.downsample, height=height * georef.downsample)
    return annotation.mask(box, width, height)


def score_pixels(
    values: npt.NDArray[np.float32],
    truth: npt.NDArray[np.bool_],
    where: npt.NDArray[np.bool_],
    threshold: float,
) -> PixelScores:
    """Compare a map with the truth inside `where`; all are (H, W)."""
    inside, expected = values[where], truth[where]
    called = inside >= threshold
    return PixelScores(
        dice=dice(called, expected),
        auc=roc_auc(inside, expected),
        called=float(called.mean()) if len(called) else 0.0,
        pixels=len(inside),
    )
