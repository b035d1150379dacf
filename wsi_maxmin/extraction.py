"""What extract-patches decides before it cuts: settings, the job of one slide, and the plan of its patches."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from upath import UPath

from wsi_maxmin.annotations import Role
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import MPP_LIMITS, Box, TissueMask
from wsi_maxmin.slide_ids import hash_slide_id

# Not every metastasis of these training slides is outlined (Camelyon16's README and its users).
CAMELYON16_PARTLY = tuple(
    f"tumor_{number:03}" for number in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractSettings:
    """What decides which patches are cut and how, for all slides of a run.

    Attributes
    ----------
    protocol : str
        Name of a module of `wsi_maxmin.protocols`: which patches.
    patch_px, stride_px : int
        Side of a patch and step between patches, in pixels of the patches.
    mpp : float or None
        µm per pixel of the patches; None is the slide's level 0.
    min_tissue, min_tumour : float
        Least share of tissue of a patch to cut it, of tumour to label it tumour.
    region : Box or None
        Cut only patches that lie in it whole, level-0 px.
    groups : tuple of (name, role)
        Meaning of further annotation groups.
    without_annotation : {"unlabelled", "normal"}
        What a slide is that has no annotation.
    partly_annotated : tuple of str
        Slides on which a patch without tumour is unlabelled and not normal.
    format, store : str
        Names of modules of `wsi_maxmin.formats` and `wsi_maxmin.stores`: how pixels become bytes, and where bytes go.
    jpeg_quality : int
        Of format ``jpeg``.
    shard_patches : int
        Patches a shard.
    seed : int
        Decides what a protocol draws at random, and folds.
    preview : bool
        Draw a picture a slide.
    hash_slide_ids : bool
        Name slides and patients by a hash of what they are called.
    """

    protocol: str = "grid"
    patch_px: int = 512
    stride_px: int | None = None
    mpp: float | None = None
    min_tissue: float = 0.1
    min_tumour: float = 0.2
    region: Box | None = None
    groups: tuple[tuple[str, Role], ...] = ()
    without_annotation: str = "unlabelled"
    partly_annotated: tuple[str, ...] = CAMELYON16_PARTLY
    format: str = "png"
    store: str = "files"
    jpeg_quality: int = 90
    shard_patches: int = 512
    seed: int = 0
    preview: bool = True
    hash_slide_ids: bool = False

    def __post_init__(self) -> None:
        if self.stride_px is not None and not self.stride_px > 0:
            raise InputError("the stride is not positive", got=self.stride_px)
        low, high = MPP_LIMITS
        if self.mpp is not None and not low <= self.mpp <= high:
            raise InputError("the µm per pixel are out of range", got=self.mpp, expected=f"{low:g} to {high:g}")
        if self.format == "none" and self.store != "files":
            raise InputError("nothing to store", got=f"--format none, --store {self.store}", remedy="leave --store out")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, in which names of slides are hashed where they are to be."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        # What acts on nothing may differ between a run and one that resumes it.
        if self.format != "jpeg":
            del values["jpeg_quality"]
        if self.store != "shard":
            del values["shard_patches"]
        if self.hash_slide_ids:
            values["partly_annotated"] = sorted(map(hash_slide_id, self.partly_annotated))
        return values


class Planned(NamedTuple):
    """A patch to cut: its level-0 box, and its share of tissue."""

    x: int
    y: int
    width: int
    height: int
    tissue_fraction: float

    @property
    def box(self) -> Box:
        """The patch as a box."""
        return Box(x=self.x, y=self.y, width=self.width, height=self.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The patches of one slide.

    Attributes
    ----------
    mpp : float
        µm per pixel of the patches.
    patches : tuple of Planned
        Positions are unique.
    note : str
        What the user should know of this slide.
    tissue : TissueMask or None
        Where the tissue is, for the picture; None where the protocol needs no overview.
    facts : dict
        What tells this slide and its truth from others, as JSON values.
    """

    mpp: float
    patches: tuple[Planned, ...]
    note: str = ""
    tissue: TissueMask | None = field(default=None, repr=False, compare=False)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideJob:
    """Where one slide of a run is, and what belongs to it. Workers get this and open the files themselves.

    Attributes
    ----------
    slide_id : str
        As it stands in the table.
    path : Path or UPath
    slide_mpp : float or None
        µm per level-0 pixel, given by the user.
    truth, tissue_mask : Path or None
        File of its tumour's outlines, or a mask TIFF of it; a given tissue mask.
    partly_annotated : bool
    listed : tuple of Planned
        Patches that a list asks for.
    quota : int or None
        Patches that a protocol may draw from this slide.
    """

    slide_id: str
    path: Path | UPath
    slide_mpp: float | None = None
    truth: Path | None = None
    tissue_mask: Path | None = None
    partly_annotated: bool = False
    listed: tuple[Planned, ...] = ()
    quota: int | None = None
