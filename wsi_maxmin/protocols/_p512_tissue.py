"""The tissue rule of the P512 protocol: Otsu thresholds of an image that never has to lie in memory at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu

from wsi_maxmin.readers import Pixels

_LEVELS = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueRule:
    """Tissue of one image: darker than glass in a channel, saturated, and black in no channel.

    tissue = not (R > t_R and G > t_G and B > t_B) and S > t_S and R > 0 and G > 0 and B > 0, the t from Otsu's method
    over the image. S is the saturation (max - min) / max in [0, 1] as a float: with it, and not with one rounded to
    bytes, the fractions in the names of the survey's normal patches come out to the pixel.

    Attributes
    ----------
    channels : (int, int, int)
        t_R, t_G and t_B.
    saturated : (256, 256) bool
        Whether S > t_S, by the largest and the smallest of R, G and B.
    """

    channels: tuple[int, int, int]
    saturated: npt.NDArray[np.bool_]

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.bool_]:
        """Return the tissue of a piece of the image.

        Parameters
        ----------
        pixels : (H, W, 3) uint8 RGB

        Returns
        -------
        (H, W) bool
        """
        planes = _planes(pixels)
        glass = np.logical_and.reduce([plane > t for plane, t in zip(planes, self.channels, strict=True)])
        tissue: npt.NDArray[np.bool_] = self.saturated.ravel()[_pairs(planes)] & ~glass & (planes.min(axis=0) > 0)
        return tissue


def find_rule(pieces: Iterable[Pixels]) -> TissueRule | None:
    """Take the thresholds of an image from its pieces.

    They are skimage's `threshold_otsu` of the whole image exactly: a channel has 256 values, and a saturation is one of
    those of 256 × 256 pairs of a largest and a smallest channel, so that counts of both hold all that matters.

    Parameters
    ----------
    pieces : iterable of (H, W, 3) uint8 RGB
        Together the image, in any order.

    Returns
    -------
    TissueRule or None
        None where a channel or the saturation is constant: such an image holds no tissue.
    """
    channels = np.zeros((3, _LEVELS), dtype=np.int64)
    pairs = np.zeros(_LEVELS**2, dtype=np.int64)
    for pixels in pieces:
        planes = _planes(pixels)
        channels += [np.bincount(plane.ravel(), minlength=_LEVELS) for plane in planes]
        pairs += np.bincount(_pairs(planes).ravel(), minlength=_LEVELS**2)
    saturation = _saturations()
    present = np.flatnonzero(pairs)
    values = saturation.ravel()[present]
    if np.any(np.count_nonzero(channels, axis=1) < 2) or values.min() == values.max():
        return None
    counts, edges = np.histogram(values, bins=_LEVELS, weights=pairs[present])
    threshold = threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2))
    red, green, blue = (_threshold(counts) for counts in channels)
    return TissueRule(channels=(red, green, blue), saturated=saturation > threshold)


def find_tissue(image: Pixels) -> npt.NDArray[np.bool_]:
    """Return the tissue of an image with thresholds of its own, (H, W) bool; none where a channel is constant."""
    rule = find_rule([image])
    return np.zeros(image.shape[:2], dtype=np.bool_) if rule is None else rule(image)


def _threshold(counts: npt.NDArray[np.int64]) -> int:
    """Return Otsu's threshold of a channel with at least two values."""
    # skimage lets the histogram of bytes begin and end with the image's own extremes.
    values = np.arange(*(np.flatnonzero(counts)[[0, -1]] + (0, 1)))
    return int(threshold_otsu(hist=(counts[values], values)))


def _planes(pixels: Pixels) -> Pixels:
    """Return the channels one behind the other, (3, H, W); with them side by side all that follows takes four times."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _pairs(planes: Pixels) -> npt.NDArray[np.uint16]:
    """Return 256 · largest + smallest channel of each pixel, (H, W)."""
    pairs: npt.NDArray[np.uint16] = planes.max(axis=0).astype(np.uint16) * _LEVELS + planes.min(axis=0)
    return pairs


@cache
def _saturations() -> npt.NDArray[np.float64]:
    """Return the saturation by the largest and the smallest channel, (256, 256); of no meaning below the diagonal."""
    high, low = np.indices((_LEVELS, _LEVELS), dtype=np.uint8)
    saturation: npt.NDArray[np.float64] = rgb2hsv(np.stack([high, low, low], axis=-1))[..., 1]
    return saturation
