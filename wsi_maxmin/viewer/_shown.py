"""What there is to show of one slide: where its files are, and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upath import UPath

from wsi_maxmin.annotations import Annotation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """One slide of a result.

    Attributes
    ----------
    slide_id : str
        The only name of the slide that leaves this process.
    store : Path
        Its OME-Zarr heatmap.
    tiles : Path or None
        Its table of tiles.
    source : Path, UPath or None
        The slide itself; None shows the map alone.
    size_px : (int, int) or None
        Width and height of level 0, where the result says.
    threshold : float or None
        The model's, of the tumour map.
    annotation : Annotation or None
    facts : mapping
        The slide's ``run.json``.
    """

    slide_id: str
    store: Path
    tiles: Path | None = None
    source: Path | UPath | None = None
    size_px: tuple[int, int] | None = None
    threshold: float | None = None
    annotation: Annotation | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def run_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a ``run.json`` says of how a map was made, as names and texts.

    Only what is listed here: paths and file names of slides, which may name patients, stay behind.
    """
    settings, environment, mpp = (facts.get(key) or {} for key in ("settings", "environment", "mpp"))
    if not isinstance(mpp, Mapping):  # of `stitch`
        mpp = {"heatmap": mpp}
    seconds = facts.get("elapsed_seconds")
    rows = {
        "Model": settings.get("model"),
        "Engine": " ".join(str(settings[key]) for key in ("engine", "precision") if settings.get(key)),
        "Device": facts.get("device"),
        "Tiles": facts.get("tiles"),
        "Overlap": settings.get("overlap"),
        "Blend": settings.get("blend"),
        "Time": None if seconds is None else f"{seconds:.1f} s",
        "wsi-maxmin": environment.get("wsi_maxmin"),
    }
    rows |= {f"µm a pixel, {name}": f"{value:.4g}" for name, value in mpp.items() if value is not None}
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "")]
