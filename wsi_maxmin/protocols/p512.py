"""The P512 protocol of the weakly supervised segmentation survey for Camelyon16, anew for any slide.

The rules come from the survey's description and its published lists. Against the names of the 3,994 tumour patches of
tumor_001–040 and those slides' outlines: the boxes of `search_boxes` explain every region number, and the rows of
`strips` every row number; 3,753 positions follow from the outlines alone; before the other 241 the strip's first window
with enough tumour has too little tissue, and the names agree where they tell (228 have a first patch of 10.0 to 10.5 %
tissue). The 14,515 windows of these slides also tell how those above half tumour were drawn, see `_RATES`.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wsi_maxmin.errors import InputError
from wsi_maxmin.extraction import ExtractSettings, Plan, Planned, SlideJob
from wsi_maxmin.geometry import Box, TissueMask
from wsi_maxmin.protocols._p512_tissue import find_tissue
from wsi_maxmin.protocols._p512_windows import SIDE_PX, Window, find_windows, search_boxes, strips
from wsi_maxmin.protocols._rules import lies_in, refuse
from wsi_maxmin.readers import Reader

if TYPE_CHECKING:
    from wsi_maxmin.annotations import Truth

NEEDS_QUOTA = True
TAKES_TISSUE_MASKS = False

_ALL_UP_TO = 0.5
_OVERVIEW_DOWNSAMPLE = 64
# Share of the windows that the survey's lists hold, by tumour fraction in ten bins of (0.5, 1]: counted on
# tumor_001–040 (1,416 of 11,917). It levels the bins of all slides together: a slide's shares differ from another's by
# no more than chance, so that each window is drawn on its own and a slide need not know the others.
_RATES = (0.61, 0.68, 0.69, 0.68, 0.66, 0.75, 0.57, 0.48, 0.54, 0.018)


def plan(slide: Reader, truth: "Truth | None", job: SlideJob, settings: ExtractSettings) -> Plan:
    """Draw the patches of a slide as the P512 protocol does.

    On a slide with tumour, every window of `find_windows` with up to 50 % tumour is taken, and one with more by chance,
    with the rate of its bin (`_RATES`). On a slide without, patches come from the 512 px grid: cells with enough tissue
    in the overview, in random order, that hold enough tissue at level 0 by thresholds of their own, up to the quota.

    Parameters
    ----------
    slide : Reader
    truth : Truth or None
        None is a slide without tumour where `settings.without_annotation` is ``normal``.
    job : SlideJob
        `slide_id` goes into the chance; `quota` is of influence on slides without tumour, where None is every patch.
    settings : ExtractSettings
        `min_tissue`, `min_tumour`, `seed`, `region` and `without_annotation`.

    Raises
    ------
    InputError
        If the protocol does not allow `patch_px`, `mpp`, `stride_px` or `min_tumour`; or if nothing says whether the
        slide holds tumour.
    SlideError
        If the slide's µm per pixel is missing.
    """
    _check(settings)
    if truth is None and settings.without_annotation != "normal":
        raise InputError(
            f"{job.slide_id} has no annotation",
            expected="outlines or a mask, or a slide that is known to hold none",
            remedy="pass --no-annotation normal if slides without annotation hold no tumour",
        )
    mpp = slide.info.require_mpp()
    if truth is not None and truth.holds_tumour:
        return _plan_tumour(slide, truth, job, settings, mpp)
    return _plan_normal(slide, job, settings, mpp)


def mask(truth: "Truth", box: Box, side: int) -> npt.NDArray[np.bool_]:  # noqa: ARG001 - a protocol's form
    """Return the tumour of a patch, (side, side) bool, drawn as in P512: exclusions are not subtracted."""
    return truth.drawn_mask(box)


def _check(settings: ExtractSettings) -> None:
    fixed: dict[str, tuple[str, tuple[object, ...]]] = {
        "patch_px": ("--patch-size", (SIDE_PX,)),
        "mpp": ("--mpp", (None,)),
        "stride_px": ("--stride", (None, SIDE_PX)),
    }
    refuse(settings, fixed)
    if settings.min_tumour > _ALL_UP_TO:
        raise InputError(
            f"--min-tumour is too high for the protocol {settings.protocol}",
            got=settings.min_tumour,
            expected=f"at most {_ALL_UP_TO}",
            remedy="lower --min-tumour, or use --protocol grid",
        )


def _plan_tumour(slide: Reader, truth: "Truth", job: SlideJob, settings: ExtractSettings, mpp: float) -> Plan:
    found: dict[tuple[int, int], Window] = {}
    for box in search_boxes(truth.tumour_boxes(), slide.info.bounds):
        for strip in strips(box):
            least = {"min_tissue": settings.min_tissue, "min_tumour": settings.min_tumour}
            for window in find_windows(slide, truth, strip, **least):
                found.setdefault((window.x, window.y), window)
    drawn = _draw(list(found.values()), _rng(job, settings))
    planned = [_planned(window.x, window.y, window.tissue) for window in drawn]
    patches = _sorted(patch for patch in planned if lies_in(patch.box, settings.region))
    note = f"{_count(patches, mpp)}; {len(drawn)} of the slide's {len(found)} windows drawn"
    return Plan(mpp=mpp, patches=patches, note=note + slide.info.mpp_note())


def _plan_normal(slide: Reader, job: SlideJob, settings: ExtractSettings, mpp: float) -> Plan:
    overview = slide.overview(_OVERVIEW_DOWNSAMPLE)
    tissue = find_tissue(overview)
    cells = _grid_cells(tissue, slide.info.bounds, settings.min_tissue)
    wanted = len(cells) if job.quota is None else job.quota
    patches: list[Planned] = []
    for x, y in _rng(job, settings).permutation(cells).tolist():
        if len(patches) >= wanted:
            break
        box = Box(x=x, y=y, width=SIDE_PX, height=SIDE_PX)
        if not lies_in(box, settings.region):
            continue
        share = float(find_tissue(slide.read_level(0, x, y, SIDE_PX, SIDE_PX)).mean())
        if share >= settings.min_tissue:
            patches.append(_planned(x, y, share))
    note = _count(patches, mpp)
    if job.quota is not None and len(patches) < job.quota:
        note += f"; {job.quota} were wanted, and there is no more tissue"
    scale = (slide.info.size_px[0] / tissue.shape[1], slide.info.size_px[1] / tissue.shape[0])
    seen = TissueMask(mask=tissue, downsample=scale, mpp=mpp * _OVERVIEW_DOWNSAMPLE)
    return Plan(mpp=mpp, patches=_sorted(patches), note=note + slide.info.mpp_note(), tissue=seen)


def _grid_cells(tissue: npt.NDArray[np.bool_], bounds: Box, min_tissue: float) -> npt.NDArray[np.int64]:
    """Return the corners (x, y) of the cells with enough tissue in the overview, (N, 2) level-0 px, row by row."""
    side = SIDE_PX // _OVERVIEW_DOWNSAMPLE
    rows, columns = bounds.height // SIDE_PX, bounds.width // SIDE_PX
    cells = tissue[: rows * side, : columns * side].reshape(rows, side, columns, side)
    found = np.argwhere(cells.mean(axis=(1, 3)) >= min_tissue)
    corners: npt.NDArray[np.int64] = found[:, ::-1] * SIDE_PX
    return corners


def _draw(windows: list[Window], rng: np.random.Generator) -> list[Window]:
    """Return all windows with up to half tumour, and of the others a share that their bin says."""
    chances = rng.random(len(windows)).tolist()
    return [window for window, chance in zip(windows, chances, strict=True) if chance < _rate(window.tumour)]


def _rate(tumour: float) -> float:
    """Return the share of the windows with this tumour fraction that is taken."""
    if tumour <= _ALL_UP_TO:
        return 1.0
    upper = 1 - _ALL_UP_TO
    return _RATES[min(int((tumour - _ALL_UP_TO) / upper * len(_RATES)), len(_RATES) - 1)]


def _rng(job: SlideJob, settings: ExtractSettings) -> np.random.Generator:
    """Return the slide's own chance; `hash` would differ from process to process."""
    digest = hashlib.sha256(job.slide_id.encode()).digest()
    return np.random.default_rng([settings.seed, int.from_bytes(digest[:8], "big")])


def _planned(x: int, y: int, tissue: float) -> Planned:
    return Planned(x, y, SIDE_PX, SIDE_PX, tissue)


def _sorted(patches: Iterable[Planned]) -> tuple[Planned, ...]:
    return tuple(sorted(patches, key=lambda patch: (patch.y, patch.x)))


def _count(patches: Collection[Planned], mpp: float) -> str:
    return f"{len(patches)} patches of {SIDE_PX} px at level 0, {mpp:.4g} µm a pixel"
