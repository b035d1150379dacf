"""Exactly the patches that a list names, such as the published lists of the P512 protocol."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from wsi_maxmin.csvs import Row, read_csv_rows, read_table
from wsi_maxmin.errors import InputError
from wsi_maxmin.extraction import ExtractSettings, Plan, Planned, SlideJob
from wsi_maxmin.geometry import Box
from wsi_maxmin.protocols._rules import lies_in, refuse
from wsi_maxmin.readers import Reader

if TYPE_CHECKING:
    from wsi_maxmin.annotations import Truth

NEEDS_QUOTA = False
TAKES_TISSUE_MASKS = False

_SIDE_PX = 512
_TABLE = {"required": ("slide", "x", "y"), "optional": ("width", "height", "tissue_fraction")}
_NAMED = "rows of patch,mask,class named as in P512, or the header slide,x,y[,width][,height][,tissue_fraction]"
_NAME = re.compile(
    r"Patch_file_[^-/]+-[^-/]+-(?P<slide>[^/]+)\.\w+?(?:_reg_\d+_row_\d+)?_patch_\d+_x_(?P<x>\d+)_y_(?P<y>\d+)"
    r"_tissue_(?P<tissue>[\d.e-]+)(?:_metastatic_(?P<tumour>[\d.e-]+))?_w_(?P<width>\d+)_h_(?P<height>\d+)\.png"
)


class ListedPatch(NamedTuple):
    """A patch of a list.

    Attributes
    ----------
    x, y, width, height : int
        Level-0 px.
    tissue_fraction, tumour_fraction : float
        NaN where the list does not say.
    label : str
        Class in the list; empty where it does not say.
    name : str
        File name in the list; empty where it has none.
    """

    x: int
    y: int
    width: int
    height: int
    tissue_fraction: float = float("nan")
    tumour_fraction: float = float("nan")
    label: str = ""
    name: str = ""


def read_list(path: Path) -> dict[str, tuple[ListedPatch, ...]]:
    """Read a list of patches; return those of each slide, by its id.

    Parameters
    ----------
    path : Path
        CSV, also gzipped, of one of two forms. Rows of the P512 protocol are ``patch,mask,class`` without a header,
        every fact in the patch's name. Other lists have a header ``slide,x,y[,width][,height][,tissue_fraction]``,
        level-0 px; without width and height a patch is 512 px wide.

    Raises
    ------
    InputError
        If the file cannot be read or a row is malformed.
    """
    rows = read_csv_rows(path)
    if not rows:
        raise InputError(f"{path} is empty", expected=_NAMED)
    found: dict[str, list[ListedPatch]] = {}
    if "slide" in rows[0]:
        for row in read_table(path, **_TABLE):
            found.setdefault(row["slide"], []).append(_of_table(row))
    else:
        for number, cells in enumerate(rows, start=1):
            slide_id, patch = _of_name(cells, f"{path}, row {number}")
            found.setdefault(slide_id, []).append(patch)
    return {slide_id: tuple(patches) for slide_id, patches in found.items()}


def plan(
    slide: Reader,
    truth: "Truth | None",  # noqa: ARG001 - a protocol's form
    job: SlideJob,
    settings: ExtractSettings,
) -> Plan:
    """Cut exactly the patches of `job.listed`.

    Parameters
    ----------
    slide : Reader
    truth : Truth or None
        Of no influence.
    job : SlideJob
        A patch that is listed twice is cut once.
    settings : ExtractSettings
        `patch_px` and `region`.

    Raises
    ------
    InputError
        If a patch is not square, not as wide as `patch_px`, or not on the slide whole; or for a resolution other than
        level 0.
    SlideError
        If the slide's µm per pixel is missing.
    """
    refuse(settings, {"mpp": ("--mpp", (None,)), "stride_px": ("--stride", (None,))})
    mpp = slide.info.require_mpp()
    listed: dict[tuple[int, int], Planned] = {}
    for patch in job.listed:
        _check(patch, slide, settings)
        listed.setdefault((patch.x, patch.y), patch)
    patches = tuple(patch for patch in listed.values() if lies_in(patch.box, settings.region))
    twice = len(job.listed) - len(listed)
    note = f"{len(patches)} listed patches of {settings.patch_px} px at level 0, {mpp:.4g} µm a pixel"
    note += f"; {twice} were listed again" if twice else ""
    return Plan(mpp=mpp, patches=patches, note=note + slide.info.mpp_note())


def mask(truth: "Truth", box: Box, side: int) -> npt.NDArray[np.bool_]:  # noqa: ARG001 - a protocol's form
    """Return the tumour of a patch, (side, side) bool, drawn as in P512: exclusions are not subtracted."""
    return truth.drawn_mask(box)


def _check(patch: Planned, slide: Reader, settings: ExtractSettings) -> None:
    """Raise an error if a listed patch cannot be cut as it is."""
    box, size_px = patch.box, slide.info.size_px
    what = f"{slide.info.slide_id}: the listed patch at x={box.x}, y={box.y}"
    if (box.width, box.height) != (settings.patch_px, settings.patch_px):
        raise InputError(
            f"{what} has another size than patches have",
            got=f"{box.width}×{box.height} px",
            expected=f"{settings.patch_px}×{settings.patch_px}",
            remedy="say how wide the listed patches are with --patch-size" if box.width == box.height else None,
        )
    if not lies_in(box, slide.info.bounds):
        raise InputError(f"{what} is not on the slide", got=f"{box.width} px wide", expected=f"within {size_px} px")


def _of_table(row: Row) -> ListedPatch:
    """Read a row of a list with a header."""
    try:
        x, y = int(row["x"]), int(row["y"])
        width, height = (int(row[side] or _SIDE_PX) for side in ("width", "height"))
        tissue = float(row["tissue_fraction"] or "nan")
        return _checked(ListedPatch(x, y, width, height, tissue))
    except ValueError as error:
        raise InputError(
            f"{row.where}: malformed patch",
            got=f"{','.join(row.values())} ({error})",
            expected="whole level-0 px, a size above 0, and a fraction from 0 to 1",
        ) from None


def _of_name(cells: list[str], where: str) -> tuple[str, ListedPatch]:
    """Read a row of the P512 protocol; return the slide's id and the patch."""
    name = cells[0].rpartition("/")[2]
    facts = _NAME.fullmatch(name)
    try:
        if facts is None or len(cells) != 3:
            raise ValueError("not of this form")
        tissue, tumour = float(facts["tissue"]), float(facts["tumour"] or "nan")
        if cells[2] != ("normal" if facts["tumour"] is None else "tumor"):
            raise ValueError(f"class {cells[2]!r} against the name")
        x, y, width, height = (int(facts[key]) for key in ("x", "y", "width", "height"))
        return facts["slide"], _checked(ListedPatch(x, y, width, height, tissue, tumour, cells[2], name))
    except ValueError as error:
        raise InputError(
            f"{where}: malformed patch",
            got=f"{','.join(cells)} ({error})",
            expected="patch,mask,class with …Patch_file_SET-CLASS-SLIDE.tif_[reg_I_row_J_]patch_N_x_X_y_Y_tissue_F_"
            "[metastatic_F_]w_W_h_H.png, or a header slide,x,y",
        ) from None


def _checked(patch: ListedPatch) -> ListedPatch:
    fractions = (patch.tissue_fraction, patch.tumour_fraction)
    if min(patch.width, patch.height) <= 0 or any(fraction < 0 or fraction > 1 for fraction in fractions):
        raise ValueError("out of range")
    return patch
