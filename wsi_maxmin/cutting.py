"""What a worker does for one slide: plan its patches, cut a chunk of them. It opens the files itself."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from upath import UPath

from wsi_maxmin import formats, protocols, stores
from wsi_maxmin.annotations import Annotation, Role, Truth, read_annotation
from wsi_maxmin.annotations.mask_tiff import check_size, open_mask
from wsi_maxmin.errors import InputError
from wsi_maxmin.extraction import ExtractSettings, Plan, Planned, SlideJob
from wsi_maxmin.formats.png import encode_mask
from wsi_maxmin.geometry import Box
from wsi_maxmin.labels import NORMAL, TUMOUR, UNLABELLED, label_of
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.runinfo import digest
from wsi_maxmin.stores import Store

Groups = tuple[tuple[str, Role], ...]

MASK_SUFFIXES = (".tif", ".tiff")
# Patches off the tile grid share tiles with their neighbours; blocks of columns this wide keep those in the reader's
# cache from one row of patches to the next.
_BLOCK_PX = 40 * 512


def plan_slide(job: SlideJob, settings: ExtractSettings) -> Plan:
    """Decide which patches of a slide are cut.

    Raises
    ------
    WsiMaxminError
        If slide or truth cannot be read, or the protocol cannot be applied to them.
    """
    protocol = protocols.plugins.load(settings.protocol)
    if job.tissue_mask is not None and not protocol.TAKES_TISSUE_MASKS:
        raise InputError(
            f"the protocol {settings.protocol} finds tissue by a rule of its own", remedy="leave --tissue-masks out"
        )
    slide, truth = open_job(job, settings)
    plan: Plan = protocol.plan(slide, truth, job, settings)
    note = plan.note
    if truth is None:
        unlabelled = settings.without_annotation == UNLABELLED
        note += f"; no annotation, so they are {'unlabelled' if unlabelled else 'taken for normal'}"
    if settings.region is not None and not plan.patches:
        note += "; WARNING: none lies in --region whole"
    if isinstance(truth, Annotation) and truth.without_area:
        note += f"; {truth.without_area} dots and other objects without area ignored"
    if job.partly_annotated:
        note += "; partly annotated, so those without tumour are unlabelled"
    return replace(plan, note=note, facts=describe(job, settings))


def describe(job: SlideJob, settings: ExtractSettings) -> dict[str, Any]:
    """Return the facts by which a later run sees whether slide and truth are still the same."""
    slide, _ = open_job(job, settings)
    facts = {**slide.fingerprint(), "annotation": digest(job.truth), "tissue_mask": digest(job.tissue_mask)}
    if settings.hash_slide_ids:
        del facts["file"]
    return facts


def holds_tumour(job: SlideJob, settings: ExtractSettings) -> bool:
    """Return whether the truth of a slide has any tumour; False without one."""
    _, truth = open_job(job, settings)
    return truth is not None and truth.holds_tumour


def ask_tumour(job: SlideJob, settings: ExtractSettings) -> tuple[str, bool | Exception]:
    """Return a slide's id and whether it holds tumour, or the error that keeps this from being known."""
    try:
        return job.slide_id, holds_tumour(job, settings)
    except Exception as error:
        return job.slide_id, error


def in_chunks(plan: Plan, settings: ExtractSettings) -> list[tuple[Planned, ...]]:
    """Divide a plan into chunks of fixed size, whatever the number of workers, in an order that suits the reader."""
    sizes = stores.plugins.load(settings.store).chunk_sizes(len(plan.patches), settings.shard_patches)
    ordered = sorted(plan.patches, key=lambda patch: (patch.x // _BLOCK_PX, patch.y, patch.x))
    left = iter(ordered)
    return [tuple(islice(left, size)) for size in sizes]


def cut_chunk(
    job: SlideJob, settings: ExtractSettings, out: Path, number: int, patches: Sequence[Planned], mpp: float
) -> list[dict[str, Any]]:
    """Write the images and masks of a chunk; return its rows of the table, without patient and split."""
    cut = _Cutter(job, settings)
    with stores.plugins.load(settings.store).open(out, job.slide_id, number) as store:
        return [cut(patch, mpp, store) for patch in patches]


class _Cutter:
    """Cuts one patch after the other of a slide."""

    def __init__(self, job: SlideJob, settings: ExtractSettings) -> None:
        self._job, self._settings = job, settings
        self._slide, self._truth = open_job(job, settings)
        self._slide_label = label_of_slide(self._truth, settings)
        self._encode = formats.plugins.load(settings.format).encode
        self._mask = protocols.plugins.load(settings.protocol).mask

    def __call__(self, patch: Planned, mpp: float, store: Store) -> dict[str, Any]:
        """Write a patch; return its row of the table, without patient and split."""
        mask, fraction = self._truth_of(patch.box)
        patch_id = f"{self._job.slide_id}_{patch.x}_{patch.y}"
        row: dict[str, Any] = {
            "patch_id": patch_id,
            "slide_id": self._job.slide_id,
            "x": patch.x,
            "y": patch.y,
            "width": patch.width,
            "height": patch.height,
            "mpp": mpp,
            "patch_px": self._settings.patch_px,
            "label": self._label(fraction),
            "slide_label": self._slide_label,
            "tissue_fraction": patch.tissue_fraction,
            "tumour_fraction": fraction,
        }
        image = self._encode(self._slide, patch.box, self._settings.patch_px, quality=self._settings.jpeg_quality)
        places = store.put(patch_id, image, encode_mask(mask) if mask is not None else None, row)
        row["image_format"] = image.name if image is not None else "none"
        for kind, place in zip(("image", "mask"), places, strict=True):
            row |= {f"{kind}_path": place.path, f"{kind}_offset": place.offset, f"{kind}_bytes": place.size}
        return row

    def _truth_of(self, box: Box) -> tuple[npt.NDArray[np.bool_] | None, float]:
        """Return the mask of a box, None without tumour in it, and its tumour fraction, NaN if that is not known."""
        if self._truth is None or not self._truth.holds_tumour:
            return None, float("nan") if self._slide_label == UNLABELLED else 0.0
        mask = self._mask(self._truth, box, self._settings.patch_px)
        tumour_px = int(np.count_nonzero(mask))
        return mask if tumour_px else None, tumour_px / mask.size

    def _label(self, fraction: float) -> str:
        label = label_of(fraction, self._settings.min_tumour)
        return UNLABELLED if self._job.partly_annotated and label == NORMAL else label


def label_of_slide(truth: Truth | None, settings: ExtractSettings) -> str:
    """Return ``slide_label``: whether the slide holds tumour anywhere."""
    if truth is None:
        return NORMAL if settings.without_annotation == "normal" else UNLABELLED
    return TUMOUR if truth.holds_tumour else NORMAL


@lru_cache(maxsize=2)
def opened(
    path: Path | UPath, slide_id: str, slide_mpp: float | None, truth: Path | None, groups: Groups
) -> tuple[Reader, Truth | None]:
    """Give a slide and its truth, kept open from one chunk to the next; `release` lets go of them."""
    slide = open_slide(path, slide_mpp=slide_mpp, slide_id=slide_id)
    if truth is None:
        return slide, None
    if truth.suffix.lower() not in MASK_SUFFIXES:
        return slide, read_annotation(truth, dict(groups))
    mask = open_mask(truth)
    check_size(mask, slide.info.size_px, slide_id)
    return slide, mask


def open_job(job: SlideJob, settings: ExtractSettings) -> tuple[Reader, Truth | None]:
    """Open what a job names; see `opened`."""
    return opened(job.path, job.slide_id, job.slide_mpp, job.truth, settings.groups)


def release() -> None:
    """Let go of the slides that this process keeps open."""
    opened.cache_clear()
