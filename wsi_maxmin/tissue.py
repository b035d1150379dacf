"""Find tissue on a slide's overview: Otsu on saturation, closed, without small holes and specks."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk, remove_small_holes, remove_small_objects

from wsi_maxmin.config import TissueConfig
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.readers import Reader

BoolArray = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

LEAST_SATURATION, MOST_SATURATION = 0.04, 0.2


def find_tissue(slide: Reader, config: TissueConfig | None = None) -> TissueMask:
    """Return the tissue mask of a slide.

    Parameters
    ----------
    slide : Reader
    config : TissueConfig, optional
        Overview resolution in µm per pixel and the smallest hole and speck in µm².

    Raises
    ------
    SlideError
        If the slide's µm per pixel is unknown.

    Notes
    -----
    A bare Otsu splits the noise of a slide that is all glass, and the texture of one that is all tissue. So the
    threshold stays between `LEAST_SATURATION`, above any glass, and `MOST_SATURATION`, below stained tissue (real
    slides: glass up to 0.03, tissue from 0.25, Otsu between them at 0.11 to 0.24).
    """
    config = config or TissueConfig()
    slide_mpp = slide.info.require_mpp()
    width, height = slide.info.size_px
    downsample = max(config.overview_mpp / slide_mpp, 1.0)
    overview = slide.overview(downsample)
    mpp = slide_mpp * width / overview.shape[1]
    return TissueMask(
        mask=tissue_of_pixels(overview, mpp, config),
        downsample=(width / overview.shape[1], height / overview.shape[0]),
        mpp=mpp,
    )


def tissue_of_pixels(pixels: Pixels, mpp: float, config: TissueConfig) -> BoolArray:
    """Return tissue, (H, W) bool, of (H, W, 3) uint8 pixels at `mpp` µm per pixel."""
    saturation = ndimage.median_filter(_saturation(pixels), size=3, mode="nearest")
    if np.ptp(saturation) == 0:
        return np.full(saturation.shape, saturation.flat[0] > LEAST_SATURATION * 255)
    threshold = min(max(float(threshold_otsu(saturation)), LEAST_SATURATION * 255), MOST_SATURATION * 255)
    tissue = saturation > threshold
    radius = round(config.closing_um / mpp)
    if radius:
        # Closing with the border replicated: with the default of glass outside, tissue would shrink at the edge.
        padded = np.pad(tissue, radius, mode="edge")
        tissue = ndimage.binary_closing(padded, disk(radius))[radius:-radius, radius:-radius]
    pixel_um2 = mpp**2
    # With a frame of glass around, a bay of glass at the slide's edge is no hole.
    framed = remove_small_holes(np.pad(tissue, 1), max_size=int(config.smallest_hole_um2 / pixel_um2))
    tissue = framed[1:-1, 1:-1]
    cleaned: BoolArray = remove_small_objects(tissue, max_size=int(config.smallest_speck_um2 / pixel_um2))
    return cleaned


def _saturation(pixels: Pixels) -> Pixels:
    """Saturation of the HSV model as uint8."""
    high = pixels.max(axis=2).astype(np.float32)
    low = pixels.min(axis=2)
    saturation: Pixels = np.divide(255 * (high - low), high, out=np.zeros_like(high), where=high > 0).astype(np.uint8)
    return saturation
