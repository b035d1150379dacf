"""The folder that extract-patches writes: its parts, and the table made of them."""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wsi_maxmin import stores
from wsi_maxmin.errors import InputError
from wsi_maxmin.extract_inputs import ExtractInputs, JobMaker
from wsi_maxmin.extraction import ExtractSettings
from wsi_maxmin.patches import TABLE_NAME, TUMOUR, PatchTable, read_patch_table, write_patch_table
from wsi_maxmin.progress import Progress
from wsi_maxmin.quotas import QUOTA_FILE
from wsi_maxmin.runinfo import FAILURES, SLIDES
from wsi_maxmin.sinks.preview import PREVIEWS
from wsi_maxmin.slides_csv import read_slides
from wsi_maxmin.splits import kfold

PARTS = "parts"


def clear(out: Path) -> None:
    """Remove the files and the folders of slides that earlier runs wrote, and nothing else."""
    slides = {*read_slides(out), *(path.stem for path in (out / PARTS).glob("*.parquet"))}
    shutil.rmtree(out / PARTS, ignore_errors=True)
    for slide_id in slides:
        clear_slide(out, slide_id)
        (out / PREVIEWS / f"{slide_id}.png").unlink(missing_ok=True)
    for name in (PREVIEWS, *_image_folders()):
        # What is not empty holds files of someone else.
        with contextlib.suppress(OSError):
            (out / name).rmdir()
    for name in (TABLE_NAME, SLIDES, QUOTA_FILE, FAILURES):
        (out / name).unlink(missing_ok=True)


def recorded_slide(out: Path, slide_id: str) -> dict[str, Any] | None:
    """Return by what a finished slide and its truth are recognised; None of a slide that is not finished."""
    part = out / PARTS / f"{slide_id}.parquet"
    return read_patch_table(part).facts["slide"] if part.is_file() else None


def clear_slide(out: Path, slide_id: str) -> None:
    """Remove what an interrupted run left of a slide."""
    for name in _image_folders():
        shutil.rmtree(out / name / slide_id, ignore_errors=True)


def gather(
    out: Path,
    values: Mapping[str, Any],
    maker: JobMaker,
    inputs: ExtractInputs,
    settings: ExtractSettings,
    progress: Progress,
) -> None:
    """Write the table of all slides that are done, with patients and splits."""
    parts = {path.stem: read_patch_table(path) for path in sorted((out / PARTS).glob("*.parquet"))}
    if not parts:
        return
    rows = pd.concat([part.rows for part in parts.values()], ignore_index=True)
    rows = rows.sort_values(["slide_id", "y", "x"], ignore_index=True)
    splits, patients = maker.given_splits()
    rows = _keep_edits(rows, out / TABLE_NAME)
    known = {slide_id: patient for slide_id, patient in patients.items() if patient != slide_id}
    _overlay(rows, "patient_id", known)
    if inputs.folds is not None:
        try:
            splits = _folds(rows, inputs.folds, settings.seed)
        except InputError as error:
            # Too many slides failed or are empty: what was cut is not lost, and a resumed run deals the folds.
            progress.say(f"no patch is in a fold: {error}")
            splits = dict.fromkeys(rows["slide_id"], "")
    _overlay(rows, "split", splits)
    facts = {"settings": values, "slides": {name: part.facts["slide"] for name, part in parts.items()}}
    write_patch_table(out / TABLE_NAME, PatchTable(rows=rows, facts=facts))


def _folds(rows: pd.DataFrame, folds: int, seed: int) -> dict[str, str]:
    slides = rows.drop_duplicates("slide_id")
    labels = [int(label == TUMOUR) for label in slides["slide_label"]]
    fold_of = kfold(list(slides["patient_id"]), labels, folds=folds, seed=seed)
    return {row.slide_id: f"fold_{fold_of[row.patient_id]}" for row in slides.itertuples()}


def _overlay(rows: pd.DataFrame, column: str, values: Mapping[str, str]) -> None:
    """Set a column for the slides that a mapping names."""
    if values:
        pairs = zip(rows["slide_id"], rows[column], strict=True)
        rows[column] = [values.get(slide_id, value) for slide_id, value in pairs]


def _keep_edits(rows: pd.DataFrame, table: Path) -> pd.DataFrame:
    """Carry over what people fill in by hand, patients and splits, from the table that a resumed run replaces."""
    if not table.is_file():
        return rows
    edited = read_patch_table(table).rows.set_index("patch_id")[["patient_id", "split"]]
    edited = edited.reindex(rows["patch_id"])
    for column in edited:
        rows[column] = edited[column].fillna(rows.set_index("patch_id")[column]).to_numpy()
    return rows


def _image_folders() -> list[str]:
    return [folder for name in stores.plugins.names() for folder in stores.plugins.load(name).FOLDERS]
