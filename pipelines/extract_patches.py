"""Cut the tissue of slides into labelled patches with masks."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from wsi_maxmin.annotations import Annotation, Role, find_annotation, read_asap_xml
from wsi_maxmin.cohort import CohortResult, Existing, Status, claim, locked, run_cohort, same_slide, unique_slide_ids
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box, TissueMask
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.patches import (
    NORMAL,
    TABLE_NAME,
    TUMOUR,
    UNLABELLED,
    PatchTable,
    label_of,
    make_rows,
    read_patch_table,
    write_patch_table,
)
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.tiling import make_grid, tissue_fraction
from wsi_maxmin.tissue import find_tissue

_PARTS, _IMAGES, _MASKS = "parts", "images", "masks"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractSettings:
    """What decides which patches are cut and how.

    Attributes
    ----------
    patch_px, stride_px : int
        Side of a patch and step between patches, in pixels of the patches.
    mpp : float or None
        µm per pixel of the patches; None is the slide's level 0.
    min_tissue, min_tumour : float
        Least share of tissue of a patch to cut it, of tumour to label it tumour.
    slide_mpp : float or None
        µm per level-0 pixel, where slides do not say.
    groups : mapping
        Meaning of further annotation groups.
    """

    patch_px: int = 512
    stride_px: int | None = None
    mpp: float | None = None
    min_tissue: float = 0.1
    min_tumour: float = 0.2
    slide_mpp: float | None = None
    groups: tuple[tuple[str, Role], ...] = ()


def extract_patches(
    slides: Sequence[Path],
    out: Path,
    *,
    annotations: Path | None = None,
    settings: ExtractSettings | None = None,
    existing: Existing = "refuse",
    workers: int = 2,
    progress: Progress | None = None,
) -> CohortResult:
    """Write ``patches.parquet``, images and masks of all slides to `out`.

    A slide is done when its part of the table is there; ``--resume`` skips those and cuts the others.

    Raises
    ------
    InputError, OutputExistsError
        If nothing can be attempted: no slides, no annotations where they are said to be, a folder in use.
    """
    settings, progress = settings or ExtractSettings(), progress or Quiet()
    named = unique_slide_ids(slides)
    if annotations is not None and annotations.is_file() and len(named) > 1:
        raise InputError(
            "one annotation for several slides",
            got=annotations,
            expected="a folder of <slide>.xml",
            remedy="name it",
        )
    if annotations is not None:
        find_annotation(annotations, next(iter(named)))
    values = {
        **asdict(settings),
        "groups": [list(group) for group in settings.groups],
        "command": "extract-patches",
    }
    with locked(out):
        if claim(out, values, existing, may_change=("groups", "slide_mpp")) and any(map(Path.exists, named.values())):
            _clear(out)
        (out / _PARTS).mkdir(exist_ok=True)

        def work(slide_id: str, path: Path) -> Status:
            part = out / _PARTS / f"{slide_id}.parquet"
            with open_slide(path, slide_mpp=settings.slide_mpp, slide_id=slide_id) as slide:
                xml = find_annotation(annotations, slide_id) if annotations is not None else None
                inputs = {**slide.fingerprint(), "annotation": _digest(xml)}
                if part.is_file():
                    same_slide(slide_id, read_patch_table(part).facts["slide"], inputs)
                    return "skipped"
                if xml is None:
                    progress.say(f"{slide_id}: no annotation, so its patches are unlabelled")
                annotation = read_asap_xml(xml, dict(settings.groups)) if xml is not None else None
                rows = _cut(slide, annotation, out, settings, workers, progress)
                write_patch_table(part, PatchTable(rows=rows, facts={"slide": inputs}))
            return "done"

        result = run_cohort(named, work, out=out, settings=values, progress=progress)
        _gather(out, values)
    return result


def _clear(out: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    for name in (_PARTS, _IMAGES, _MASKS):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / TABLE_NAME).unlink(missing_ok=True)


def _gather(out: Path, settings: Mapping[str, Any]) -> None:
    parts = {path.stem: read_patch_table(path) for path in sorted((out / _PARTS).glob("*.parquet"))}
    if parts:
        rows = pd.concat([part.rows for part in parts.values()], ignore_index=True)
        facts = {"settings": settings, "slides": {name: part.facts["slide"] for name, part in parts.items()}}
        rows = _keep_edits(rows.sort_values(["slide_id", "y", "x"], ignore_index=True), out / TABLE_NAME)
        write_patch_table(out / TABLE_NAME, PatchTable(rows=rows, facts=facts))


def _keep_edits(rows: pd.DataFrame, table: Path) -> pd.DataFrame:
    """Carry over what people fill in by hand, patients and splits, from the table that a resumed run replaces."""
    if not table.is_file():
        return rows
    edited = read_patch_table(table).rows.set_index("patch_id")[["patient_id", "split"]]
    edited = edited.reindex(rows["patch_id"])
    for column in edited:
        rows[column] = edited[column].fillna(rows.set_index("patch_id")[column]).to_numpy()
    return rows


def _digest(xml: Path | None) -> str | None:
    return None if xml is None or not xml.is_file() else hashlib.sha256(xml.read_bytes()).hexdigest()[:16]


def _cut(
    slide: Reader,
    annotation: Annotation | None,
    out: Path,
    settings: ExtractSettings,
    workers: int,
    progress: Progress,
) -> pd.DataFrame:
    """Cut one slide; return its rows of the table."""
    slide_id = slide.info.slide_id
    tissue = find_tissue(slide)
    grid = make_grid(
        slide.info,
        tissue,
        mpp=settings.mpp,
        tile_px=settings.patch_px,
        stride_px=settings.stride_px,
        min_tissue=settings.min_tissue,
    )
    progress.say(f"{slide_id}: {len(grid)} patches of {grid.describe_mpp(settings.mpp)}{slide.info.mpp_note()}")
    for folder in (_IMAGES, _MASKS):
        (out / folder / slide_id).mkdir(parents=True, exist_ok=True)
    cutter = _Cutter(slide=slide, annotation=annotation, tissue=tissue, grid=grid, out=out, settings=settings)
    with progress.track(slide_id, len(grid), unit="patch") as advance:
        records = []
        for record in _in_threads(cutter, list(grid.boxes()), workers):
            records.append(record)
            advance()
    return make_rows(records)


def _in_threads(cutter: "_Cutter", boxes: list[Box], workers: int) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(cutter, boxes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cutter:
    """Cut one box of a slide: image and mask to disk, its row of the table as result."""

    slide: Reader
    annotation: Annotation | None
    tissue: TissueMask
    grid: TileGrid
    out: Path
    settings: ExtractSettings

    def __call__(self, box: Box) -> dict[str, Any]:
        side = self.settings.patch_px
        slide_id = self.slide.info.slide_id
        patch_id = f"{slide_id}_{box.x}_{box.y}"
        image_path = f"{_IMAGES}/{slide_id}/{patch_id}.png"
        Image.fromarray(self.slide.read(box, side, side)).save(self.out / image_path, compress_level=1)
        tumour_fraction, mask_path = self._mask(box, f"{_MASKS}/{slide_id}/{patch_id}.png")
        return {
            "patch_id": patch_id,
            "slide_id": slide_id,
            "patient_id": slide_id,
            "x": box.x,
            "y": box.y,
            "width": box.width,
            "height": box.height,
            "mpp": self.grid.mpp,
            "patch_px": side,
            "label": label_of(tumour_fraction, self.settings.min_tumour),
            "slide_label": self._slide_label,
            "tissue_fraction": tissue_fraction(box, self.tissue),
            "tumour_fraction": tumour_fraction,
            "image_path": image_path,
            "mask_path": mask_path,
            "split": "",
        }

    @property
    def _slide_label(self) -> str:
        if self.annotation is None:
            return UNLABELLED
        return TUMOUR if self.annotation.include else NORMAL

    def _mask(self, box: Box, path: str) -> tuple[float, str]:
        """Write the mask of a box with tumour; return its tumour fraction and the mask's path, empty without one."""
        if self.annotation is None:
            return float("nan"), ""
        mask = self.annotation.mask(box, self.settings.patch_px, self.settings.patch_px)
        if not mask.any():
            return 0.0, ""
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("1").save(self.out / path)
        return float(mask.mean()), path
