"""Check a heatmap against the slide itself: is it that slide, and does the map lie on its tissue."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wsi_maxmin.check import LABELS
from wsi_maxmin.findings import Fault, Finding, NotCheckedError, find
from wsi_maxmin.heatmap_store import HeatmapStore
from wsi_maxmin.pipelines._intact import AGAIN
from wsi_maxmin.pipelines._result import SlideNotFoundError, open_slide_of
from wsi_maxmin.pipelines._tile_plan import identify
from wsi_maxmin.readers import Reader
from wsi_maxmin.tissue import find_tissue

_LEAST_AGREEMENT = 0.98
_OVERVIEW_PX = 1024


def slide_findings(
    folder: Path, facts: dict[str, Any], store: HeatmapStore, given: str | Path | None
) -> tuple[Finding, ...]:
    """Check against the slide, if it can be reached.

    Parameters
    ----------
    folder : Path
        Of the slide's result.
    facts : dict
        Its ``run.json``.
    store : HeatmapStore
    given : path or URL, optional
        The slide, where the user names it: then a wrong one is a mistake of the call, not of the result.
    """
    before = facts.get("slide") or (facts.get("source") or {}).get("slide") or {}
    remedy = AGAIN if given is None else _right_slide(before, store)

    def on_slide(check: Callable[[Reader], str]) -> Callable[[], str]:
        def checked() -> str:
            try:
                opened = open_slide_of(folder, given)
            except SlideNotFoundError:  # whose message has the path, of which --hash-slide-ids keeps names out
                raise NotCheckedError("the slide is not where slides.csv says: --slide names it") from None
            with opened as slide:
                return check(slide)

        return checked

    same = find("registered", "slide", on_slide(lambda slide: _same_slide(slide, before, store, remedy)), remedy)
    wrong = given is not None and same.status == "FAILED"
    return same, find("registered", "tissue", _not_that_slide if wrong else on_slide(_tissue_of(before, store)), AGAIN)


def _right_slide(before: dict[str, Any], store: HeatmapStore) -> str:
    georef = store.georef
    named = f"{before['file']}, " if "file" in before else ""  # --hash-slide-ids keeps it out
    width, height = georef.slide_size_px
    return (
        f"give the slide that was run ({named}{width} × {height} px, {georef.slide_mpp:.4g} µm a pixel), "
        "or leave --slide out"
    )


def _not_that_slide() -> str:
    raise NotCheckedError("--slide is not the slide of this result")


def _same_slide(slide: Reader, before: dict[str, Any], store: HeatmapStore, remedy: str) -> str:
    now = identify(slide, None, hashed="file" not in before)
    if wrong := [name for name, value in now.items() if before.get(name) != value]:
        raise Fault(f"{wrong[0]} {now[wrong[0]]}, the result is of {before.get(wrong[0])}", remedy)
    mpp = slide.info.require_mpp()
    if abs(mpp / store.georef.slide_mpp - 1) > 1e-6:
        raise Fault(f"{mpp:.6g} µm a pixel, the result is of {store.georef.slide_mpp:.6g}", remedy)
    return f"{store.georef.slide_size_px[0]} × {store.georef.slide_size_px[1]} px, {mpp:.4g} µm"


def _tissue_of(before: dict[str, Any], store: HeatmapStore) -> Callable[[Reader], str]:
    """Return a check that finds the tissue of a slide anew, and compares it with that of the labels."""

    def check(slide: Reader) -> str:
        if "tissue_mask" in before:
            raise NotCheckedError("the tissue mask was given")
        if LABELS not in store.group:
            raise NotCheckedError("there are no labels")
        level = next((n for n in range(store.levels) if max(store.labels(n).shape) <= _OVERVIEW_PX), store.levels - 1)
        marked = np.asarray(store.labels(level)) > 0
        # A pixel of a coarse level of labels is the first of those that it stands for.
        y_l0, x_l0 = ((np.arange(side) * 2.0**level + 0.5) * store.georef.downsample for side in marked.shape)
        tissue = find_tissue(slide).at(x_l0, y_l0)
        both = int((marked & tissue).sum())
        agreement = 2 * both / max(int(marked.sum()) + int(tissue.sum()), 1) if (marked | tissue).any() else 1.0
        if agreement < _LEAST_AGREEMENT:
            raise Fault(
                f"the tissue of slide and labels has a Dice of {agreement:.3f}, expected {_LEAST_AGREEMENT:g}", AGAIN
            )
        return f"Dice of the slide's tissue and the labels' {agreement:.3f}"

    return check
