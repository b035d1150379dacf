"""Which tiles of a slide a model is run on, and at which µm per pixel: the same for a run and for its dry run."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsi_maxmin.config import SlideConfig
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import MPP_LIMITS, MPP_TOLERANCE, Box, SlideInfo, TissueMask
from wsi_maxmin.grids import TileGrid, overlap_to_stride
from wsi_maxmin.pipelines._slide_folder import MapSettings
from wsi_maxmin.readers import Reader
from wsi_maxmin.runinfo import digest
from wsi_maxmin.tiling import make_grid, touching
from wsi_maxmin.tissue import find_tissue, read_tissue_mask

_LATER = ("region", "mpp", "level", "hash_slide_ids", "compile")


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSettings(MapSettings):
    """What decides the tiles of each slide, and what slides are called.

    Attributes
    ----------
    overlap : float
        Share of a tile's side that it shares with the next, 0 ≤ overlap < 1.
    min_tissue : float
        Least share of tissue of a tile to run it.
    slide_mpp : float or None
        µm per level-0 pixel, where slides do not say.
    region : Box or None
        Run only tiles of which some part lies in it, level-0 px.
    mpp : float or None
        µm per pixel of the tiles, instead of the model's own.
    level : int or None
        Take those of this level of each slide instead; 0 is the slide's own pixels. Not with `mpp`.
    hash_slide_ids : bool
        Name slides by a hash of what they are called.
    """

    overlap: float = 0.5
    min_tissue: float = 0.1
    slide_mpp: float | None = None
    region: Box | None = None
    mpp: float | None = None
    level: int | None = None
    hash_slide_ids: bool = False

    def check(self) -> None:
        """Raise InputError if a value is out of range, or two of them exclude each other."""
        MapSettings.check(self)
        low, high = MPP_LIMITS
        if self.mpp is not None and self.level is not None:
            raise InputError("level and mpp exclude each other", remedy="give one of them")
        if self.mpp is not None and not low <= self.mpp <= high:
            raise InputError("the µm per pixel are out of range", got=self.mpp, expected=f"{low:g} to {high:g}")
        if self.level is not None and self.level < 0:
            raise InputError("no such level", got=self.level, expected="0, the slide's own pixels, or more")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values; without those that runs of earlier versions lack, unless asked for."""
        unasked = [name for name in _LATER if (value := getattr(self, name, None)) is None or value is False]
        return {name: value for name, value in asdict(self).items() if name not in unasked}


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlan:
    """The tiles of one slide.

    Attributes
    ----------
    grid : TileGrid
    tissue : TissueMask
    requested : float or None
        µm per pixel that were asked for; None where that is the slide's level 0.
    warnings : tuple of str
        What the user should know before the result is used.
    """

    grid: TileGrid
    tissue: TissueMask
    requested: float | None
    warnings: tuple[str, ...]


def plan_tiles(slide: Reader, model: SlideConfig, settings: TileSettings, tissue_mask: Path | None = None) -> TilePlan:
    """Find the tissue of a slide and lay the grid of tiles that settings ask for.

    Parameters
    ----------
    slide : Reader
    model : SlideConfig
        How the model wants to be run.
    settings : TileSettings
    tissue_mask : Path, optional
        Of the slide, instead of finding tissue.

    Raises
    ------
    InputError
        If the slide has no such level, or the mask is none of this slide.
    SlideError
        If the slide's µm per pixel is missing or too coarse.
    """
    tissue = find_tissue(slide) if tissue_mask is None else read_tissue_mask(tissue_mask, slide.info)
    requested = _requested_mpp(slide.info, model, settings)
    grid = make_grid(
        slide.info,
        tissue,
        mpp=requested,
        tile_px=model.tile_px,
        stride_px=overlap_to_stride(model.tile_px, settings.overlap),
        min_tissue=settings.min_tissue,
    )
    if settings.region is not None:
        grid = touching(grid, settings.region)
    return TilePlan(grid=grid, tissue=tissue, requested=requested, warnings=_warnings(grid, model, settings))


def identify(slide: Reader, tissue_mask: Path | None, *, hashed: bool) -> dict[str, Any]:
    """Return the facts by which a later run sees whether slide and tissue mask are still the same."""
    facts, path = slide.fingerprint(), slide.info.path
    if hashed:
        del facts["file"]
    elif isinstance(path, Path) and path.is_file():
        # Samples may miss a change that leaves the size as it was. Of a slide without a name it would be a trace.
        facts["modified"] = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
    return facts if tissue_mask is None else {**facts, "tissue_mask": digest(tissue_mask)}


def _requested_mpp(info: SlideInfo, model: SlideConfig, settings: TileSettings) -> float | None:
    if settings.level is None:
        return model.mpp if settings.mpp is None else settings.mpp
    downsamples = info.level_downsamples
    if settings.level >= len(downsamples):
        raise InputError(
            f"{info.slide_id} has no such level",
            got=settings.level,
            expected=f"0 to {len(downsamples) - 1}",
            remedy="use --mpp, which needs no level",
        )
    return info.require_mpp() * downsamples[settings.level] if settings.level else None


def _warnings(grid: TileGrid, model: SlideConfig, settings: TileSettings) -> tuple[str, ...]:
    asked = settings.mpp is not None or settings.level is not None
    warnings = []
    if asked and model.mpp is not None and abs(grid.mpp / model.mpp - 1) > MPP_TOLERANCE:
        option = f"--mpp {settings.mpp:g}" if settings.level is None else f"--level {settings.level}"
        warnings.append(
            f"the model was made for {model.mpp:.4g} µm a pixel, and {option} runs it at {grid.mpp:.4g} µm: "
            "its map may be wrong"
        )
    if not len(grid) and settings.region is not None:
        warnings.append("no tile with tissue touches --region: nothing was looked at")
    elif not len(grid):
        warnings.append("no tile with enough tissue: nothing was looked at")
    return tuple(warnings)
