"""How well a heatmap's pixels agree with the annotation, at each of the values that a byte can have."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_maxmin.annotations import Truth
from wsi_maxmin.geometry import Box
from wsi_maxmin.heatmap_store import HeatmapStore

BLOCK_PX = 2048

Counts = npt.NDArray[np.int64]
_Float = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelCounts:
    """Pixels of one slide or of many.

    Attributes
    ----------
    counts : (2, 256) int64
        Tissue by truth (background first) and by the byte of the tumour map.
    off_tissue : int
        Annotated pixels that are not tissue; they are not in `counts`.
    """

    counts: Counts
    off_tissue: int

    def dice(self, least_byte: int) -> float | None:
        """Return the Dice of the pixels from a byte on; None without annotated pixels."""
        called, right = self.counts[:, least_byte:].sum(), self.counts[1, least_byte:].sum()
        tumour = self.counts[1].sum()
        return float(2 * right / (called + tumour)) if tumour else None

    def average_precision(self) -> float | None:
        """Return Σ (Rᵢ − Rᵢ₋₁)·Pᵢ from the highest byte to the lowest; None without annotated pixels."""
        if not self.counts[1].any():
            return None
        precision, recall = (np.nan_to_num(curve[::-1]) for curve in self.precision_recall())
        return float((np.diff(recall, prepend=0) * precision).sum())

    def precision_recall(self) -> tuple[_Float, _Float]:
        """Return precision and recall of the pixels from each byte on, (256,) each; NaN where not defined."""
        called = self.counts.sum(axis=0)[::-1].cumsum()[::-1]
        right = self.counts[1][::-1].cumsum()[::-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return right / called, right / right[0]


def add_counts(slides: list[PixelCounts]) -> PixelCounts:
    """Return the pixels of all slides together."""
    return PixelCounts(
        counts=np.sum([slide.counts for slide in slides], axis=0, dtype=np.int64).reshape(2, 256),
        off_tissue=sum(slide.off_tissue for slide in slides),
    )


def count_pixels_by_value(store: HeatmapStore, truth: Truth | None, *, block_px: int = BLOCK_PX) -> PixelCounts:
    """Count the pixels of a heatmap's tissue by truth and value.

    Parameters
    ----------
    store : HeatmapStore
    truth : Truth, optional
        None on a slide without tumour.
    block_px : int
        Side of the blocks that are in memory, one at a time; the result does not depend on it.
    """
    labels, level, channel = store.labels(), store.level(), store.channels.index(store.main_channel)
    height, width = labels.shape
    pixel_l0 = store.georef.downsample
    counts, off_tissue = np.zeros((2, 256), dtype=np.int64), 0
    for top in range(0, height, block_px):
        for left in range(0, width, block_px):
            rows, columns = min(block_px, height - top), min(block_px, width - left)
            where = slice(top, top + rows), slice(left, left + columns)
            tissue = np.asarray(labels[where]) > 0
            tumour = np.zeros((rows, columns), dtype=np.bool_)
            if truth is not None:
                box = Box(
                    x=left * pixel_l0, y=top * pixel_l0, width=columns * pixel_l0, height=rows * pixel_l0
                )  # fmt: skip
                tumour = truth.mask(box, columns, rows)
                off_tissue += int((tumour & ~tissue).sum())
            if tissue.any():
                values = np.asarray(level[channel, *where])[tissue]
                bins = np.bincount(256 * tumour[tissue].astype(np.int64) + values, minlength=512)
                counts += bins.reshape(2, 256)
    return PixelCounts(counts=counts, off_tissue=off_tissue)
