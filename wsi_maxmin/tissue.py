"""Find tissue on a slide's overview: Otsu on saturation, closed, without small holes and specks. Or read it."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_maxmin._tissue_steps import dilate, median_of_neighbours, otsu, saturation_of, without_specks
from wsi_maxmin.annotations._mask_level import open_levels
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import MPP_TOLERANCE, SlideInfo, TissueMask, nominal_downsample
from wsi_maxmin.readers import Reader

if TYPE_CHECKING:
    from wsi_maxmin.config import TissueConfig

BoolArray = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

LEAST_SATURATION, MOST_SATURATION = 0.04, 0.2
_GIVEN_MPP = 16.0
_MOST_GIVEN_PX = 2**25
_ASPECT_TOLERANCE = 0.01


def find_tissue(slide: Reader, config: "TissueConfig | None" = None) -> TissueMask:
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
    # Loaded here: processes that only cut patches start in two thirds of the time without pydantic.
    from wsi_maxmin.config import TissueConfig

    config = config or TissueConfig()
    slide_mpp = slide.info.require_mpp()
    width, height = slide.info.size_px
    # The colours of the largest slides are 60 MB here, and what is made of them many times that: so in bands.
    bands = slide.overview_bands(_overview_downsample(slide, config.overview_mpp / slide_mpp))
    rows = [saturation_of(band) for band in bands]
    downsample = (width / rows[0].shape[1], height / sum(map(len, rows)))
    mpp = slide_mpp * downsample[0]
    return TissueMask(mask=_tissue_of_saturation(rows, mpp, config), downsample=downsample, mpp=mpp)


def _overview_downsample(slide: Reader, wanted: float) -> float:
    """Return the downsample of a level within 10 % of the one wanted, which needs no resampling, else that one."""
    near = [own for own in slide.info.level_downsamples if abs(own / wanted - 1) <= MPP_TOLERANCE]
    return near[0] if near else max(wanted, 1.0)


def tissue_of_pixels(pixels: Pixels, mpp: float, config: "TissueConfig") -> BoolArray:
    """Return tissue, (H, W) bool, of (H, W, 3) uint8 pixels at `mpp` µm per pixel."""
    return _tissue_of_saturation([saturation_of(pixels)], mpp, config)


def _tissue_of_saturation(bands: list[Pixels], mpp: float, config: "TissueConfig") -> BoolArray:
    """Return tissue, given the saturation in bands of rows, which are used up."""
    saturation = np.concatenate(bands)
    bands.clear()
    saturation = median_of_neighbours(saturation)
    if np.ptp(saturation) == 0:
        return np.full(saturation.shape, saturation.flat[0] > LEAST_SATURATION * 255)
    tissue = saturation > min(max(otsu(saturation), LEAST_SATURATION * 255), MOST_SATURATION * 255)
    del saturation
    radius = round(config.closing_um / mpp)
    if radius:
        # Closing with the border replicated: with the default of glass outside, tissue would shrink at the edge.
        tissue = dilate(np.pad(tissue, radius, mode="edge"), radius)
        tissue = ~dilate(~tissue, radius)[radius:-radius, radius:-radius]
    pixel_um2 = mpp**2
    # With a frame of glass around, a bay of glass at the slide's edge is no hole.
    tissue = ~np.pad(tissue, 1)
    tissue = ~without_specks(tissue, int(config.smallest_hole_um2 / pixel_um2))[1:-1, 1:-1]
    return without_specks(tissue, int(config.smallest_speck_um2 / pixel_um2))


def read_tissue_mask(path: Path, info: SlideInfo) -> TissueMask:
    """Read a given tissue mask of a slide: an image of the whole slide at any resolution, not 0 where there is tissue.

    Parameters
    ----------
    path : Path
        PNG or TIFF. Of a pyramid the coarsest level is read that has at most 16 µm a pixel, else the finest. Of more
        than 2²⁵ pixels, every n-th of every n-th row is taken.
    info : SlideInfo

    Raises
    ------
    InputError
        If the file is missing or no such image, or its sides are not in the slide's proportion within 1 %.
    SlideError
        If the slide's µm per pixel is unknown.
    """
    slide_mpp = info.require_mpp()
    if not path.is_file():
        raise InputError("no such tissue mask", got=path)
    if path.suffix.lower() in (".tif", ".tiff"):
        levels = open_levels(path)
        whole = _downsample(path, info, levels[0].size_px)
        coarse = [level for level in levels if level.downsample * whole[0] * slide_mpp <= _GIVEN_MPP]
        level = coarse[-1] if coarse else levels[0]
        columns, rows, step = _sample(level.size_px)
        mask = level.look_up(columns, rows)
        step *= level.downsample
    else:
        image = _read_image(path)
        whole = _downsample(path, info, (image.shape[1], image.shape[0]))
        columns, rows, step = _sample((image.shape[1], image.shape[0]))
        mask = image[np.ix_(rows, columns)]
    return TissueMask(mask=mask, downsample=(whole[0] * step, whole[1] * step), mpp=slide_mpp * whole[0] * step)


def _downsample(path: Path, info: SlideInfo, size_px: tuple[int, int]) -> tuple[float, float]:
    """Return the level-0 pixels a mask pixel, in x and y."""
    nominal = nominal_downsample(info.size_px, size_px)
    if all(abs(whole - part * nominal) < nominal for whole, part in zip(info.size_px, size_px, strict=True)):
        return nominal, nominal
    across, down = (whole / part for whole, part in zip(info.size_px, size_px, strict=True))
    if abs(across / down - 1) > _ASPECT_TOLERANCE + 1 / min(size_px):
        raise InputError(
            f"{path.name} is not a tissue mask of {info.slide_id}",
            got=f"{size_px[0]}×{size_px[1]} pixels",
            expected=f"the proportion of {info.size_px[0]}×{info.size_px[1]} within 1 %",
            remedy="give a mask of the whole slide",
        )
    return across, down


def _sample(size_px: tuple[int, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], float]:
    """Return the columns and rows of an image to take, and the step between them."""
    step = math.ceil(math.sqrt(size_px[0] * size_px[1] / _MOST_GIVEN_PX))
    columns, rows = (np.minimum(np.arange(0, side, step) + step // 2, side - 1) for side in size_px)
    return columns, rows, float(step)


def _read_image(path: Path) -> BoolArray:
    try:
        with Image.open(path) as image:
            if image.format != "PNG":
                raise ValueError(f"an image of the format {image.format}")
            # A palette's index says what is tissue, opacity does not.
            pixels = np.asarray(image if image.mode in ("1", "L", "P", "I", "I;16", "F") else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a readable tissue mask", got=str(error), expected="a PNG or TIFF") from None
    marked: BoolArray = np.not_equal(pixels, 0).reshape(*pixels.shape[:2], -1).any(axis=2)
    return marked
