"""A regular grid over the whole slide: every tile of it that holds enough tissue."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wsi_maxmin.extraction import ExtractSettings, Plan, Planned, SlideJob
from wsi_maxmin.geometry import Box
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.protocols._rules import lies_in
from wsi_maxmin.readers import Reader
from wsi_maxmin.tiling import lay_grid
from wsi_maxmin.tissue import find_tissue, read_tissue_mask

if TYPE_CHECKING:
    from wsi_maxmin.annotations import Truth

NEEDS_QUOTA = False
TAKES_TISSUE_MASKS = True


def plan(
    slide: Reader,
    truth: "Truth | None",  # noqa: ARG001 - a protocol's form
    job: SlideJob,
    settings: ExtractSettings,
) -> Plan:
    """Lay a grid of patches over a slide.

    Parameters
    ----------
    slide : Reader
    truth : Truth or None
        Of no influence: tissue alone decides.
    job : SlideJob
        Its `tissue_mask` is taken for the slide's tissue where there is one.
    settings : ExtractSettings
        `patch_px`, `stride_px`, `mpp`, `min_tissue` and `region`.

    Raises
    ------
    SlideError
        If the slide's µm per pixel is missing or too coarse.
    InputError
        If a setting is out of range, or the tissue mask is not one of this slide.
    """
    info = slide.info
    tissue = find_tissue(slide) if job.tissue_mask is None else read_tissue_mask(job.tissue_mask, info)
    grid, fractions = lay_grid(
        info,
        tissue,
        mpp=settings.mpp,
        tile_px=settings.patch_px,
        stride_px=settings.stride_px,
        min_tissue=settings.min_tissue,
    )
    patches = _patches(grid, fractions)
    if settings.region is not None:
        patches = [patch for patch in patches if lies_in(patch.box, settings.region)]
    note = f"{len(patches)} patches of {grid.describe_mpp(settings.mpp)}{info.mpp_note()}"
    return Plan(mpp=grid.mpp, patches=tuple(patches), note=note, tissue=tissue)


def mask(truth: "Truth", box: Box, side: int) -> npt.NDArray[np.bool_]:
    """Return the tumour of a patch, (side, side) bool: pixel centres inside an outline and in no exclusion."""
    return truth.mask(box, side, side)


def _patches(grid: TileGrid, fractions: npt.NDArray[np.float64]) -> list[Planned]:
    """Return the kept tiles of a grid; a tile shares its place in x with its column and in y with its row."""
    columns = [grid.box(0, column) for column in range(grid.shape[1])]
    rows = [grid.box(row, 0) for row in range(grid.shape[0])]
    kept = zip(grid.keep.tolist(), fractions.tolist(), strict=True)
    return [
        Planned(columns[column].x, rows[row].y, columns[column].width, rows[row].height, fraction)
        for (row, column), fraction in kept
    ]
