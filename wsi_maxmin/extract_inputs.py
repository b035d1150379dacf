"""What a user hands to extract-patches besides settings, and the job of each slide that follows from it."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from upath import UPath

from wsi_maxmin.annotations import find_annotation, find_mask, stray_annotations
from wsi_maxmin.cutting import digest
from wsi_maxmin.errors import InputError, WsiMaxminError
from wsi_maxmin.extraction import ExtractSettings, Planned, SlideJob
from wsi_maxmin.protocols.p512_list import read_list
from wsi_maxmin.slide_ids import source_key, source_name
from wsi_maxmin.slide_list import find_slides, hash_slide_id, lookup, lookup_all, mpp_for, read_overrides, unused_rows
from wsi_maxmin.splits import SplitRow, kfold, list_splits, read_splits

# A mask may lie beside its slide: what is named as a mask comes first.
_TISSUE_MASKS = ("{}_tissue.png", "{}_tissue.tif", "{}_tissue.tiff", "{}.png", "{}.tif", "{}.tiff")


@dataclass(frozen=True, kw_only=True)
class ExtractInputs:
    """Files and folders of a run.

    Attributes
    ----------
    slides : sequence
        Files, folders, CSV lists and URLs; see `find_slides`.
    annotations, masks : Path or None
        Ground truth: ASAP XML or GeoJSON, or mask TIFFs; of the one slide, or a folder of them. Not both.
    tissue_masks : Path or None
        Likewise, instead of finding tissue.
    lists : tuple of Path
        What protocol ``p512-list`` cuts.
    splits : Path or None
        CSV of train, valid and test slides.
    folds : int or None
        Deal slides to this many folds instead.
    overrides : Path or None
        CSV of slides' µm per pixel.
    slide_mpp : float or None
        µm per level-0 pixel of every slide for which a list in `slides` says nothing; not with `overrides`.
    """

    slides: Sequence[str | Path | UPath]
    annotations: Path | None = None
    masks: Path | None = None
    tissue_masks: Path | None = None
    lists: tuple[Path, ...] = ()
    splits: Path | None = None
    folds: int | None = None
    overrides: Path | None = None
    slide_mpp: float | None = None

    def __post_init__(self) -> None:
        for one, other in (("annotations", "masks"), ("splits", "folds"), ("slide_mpp", "overrides")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise InputError(f"{one} and {other} exclude each other", remedy="give one of them")
        for name in ("annotations", "masks", "tissue_masks", "splits", "overrides"):
            path = getattr(self, name)
            if path is not None and not path.exists():
                raise InputError(
                    f"no such file or folder of {name.replace('_', ' ')}", got=path, remedy="check the path"
                )
        if self.folds is not None and self.folds < 2:
            raise InputError("too few folds", got=self.folds, expected="at least 2")
        if absent := [path for path in self.lists if not path.is_file()]:
            raise InputError("no such list of patches", got=absent[0], remedy="check the path")

    def to_json(self) -> dict[str, Any]:
        """Return what decides the patches and is no setting, as JSON values."""
        return {
            "slide_mpp": self.slide_mpp,
            "lists": sorted(digest(path) for path in self.lists),
            "splits": digest(self.splits) if self.splits is not None else None,
            "folds": self.folds,
        }


class JobMaker:
    """Makes the job of each slide of a run.

    Parameters
    ----------
    inputs : ExtractInputs
    settings : ExtractSettings
    known : mapping of slide_id to path
        Slides of earlier runs into the same folder, by their plain names.

    Attributes
    ----------
    slides : dict of slide_id to ListedSlide
        As they are called in results, in order.
    notes : list of str
        What the user should know before the run.
    """

    def __init__(self, inputs: ExtractInputs, settings: ExtractSettings, known: Mapping[str, str]) -> None:
        self._inputs, self._settings = inputs, settings
        found = find_slides(inputs.slides, known=known)
        for name in ("annotations", "masks", "tissue_masks"):
            path = getattr(inputs, name)
            if path is not None and path.is_file() and len(found) > 1:
                raise InputError(
                    f"one file of {name.replace('_', ' ')} for several slides", got=path, expected="a folder of them"
                )
        self._plain = {self._named(slide.slide_id): slide.slide_id for slide in found}
        self.slides = {name: replace(slide, slide_id=name) for name, slide in zip(self._plain, found, strict=True)}
        self._listed = _read_lists(inputs.lists)
        self.notes = self._check_names()

    def job(self, slide_id: str) -> SlideJob:
        """Return the job of one slide.

        Raises
        ------
        InputError
            If its annotation is ambiguous.
        """
        slide, plain, inputs = self.slides[slide_id], self._plain[slide_id], self._inputs
        truth = None
        if inputs.annotations is not None:
            truth = find_annotation(inputs.annotations, plain)
        elif inputs.masks is not None:
            truth = find_mask(inputs.masks, plain)
            # Masks may lie beside their slides; a slide is not its own mask.
            truth = None if truth is not None and source_key(truth) == source_key(slide.path) else truth
        return SlideJob(
            slide_id=slide_id,
            path=slide.path,
            slide_mpp=self.slide_mpp(slide_id),
            truth=truth,
            tissue_mask=_tissue_mask(inputs.tissue_masks, plain),
            partly_annotated=not {plain, source_name(slide.path).stem}.isdisjoint(self._settings.partly_annotated),
            listed=tuple(chain.from_iterable(lookup_all(slide.path, plain, self._listed).values())),
        )

    def found(self) -> list[str]:
        """List the slides that are there; a URL is taken for there."""
        paths = {slide_id: slide.path for slide_id, slide in self.slides.items()}
        return [slide_id for slide_id, path in paths.items() if not isinstance(path, Path) or path.exists()]

    def slide_mpp(self, slide_id: str) -> float | None:
        """Return the µm per level-0 pixel that the user gave for a slide; None where the file's own holds."""
        slide = self.slides[slide_id]
        given = mpp_for(slide.path, self._plain[slide_id], self._overrides)
        return next((mpp for mpp in (given, slide.mpp, self._inputs.slide_mpp) if mpp is not None), None)

    def plain_name(self, slide_id: str) -> str:
        """Return what a slide would be called if its name were not hashed."""
        return self._plain[slide_id]

    def without_names(self, error: Exception, slide_id: str) -> Exception:
        """Return an error in whose message and traceback the slide's path and names are replaced by its id."""
        path = self.slides[slide_id].path
        names = {str(path), source_key(path), path.name, path.stem, self._plain[slide_id]}

        def clean(text: str) -> str:
            for name in sorted(names, key=len, reverse=True):
                text = text.replace(name, slide_id)
            return text

        nameless = (InputError if isinstance(error, WsiMaxminError) else RuntimeError)(clean(str(error)))
        nameless.add_note(clean("".join(traceback.format_exception(error))))
        return nameless

    def given_splits(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return slide_id to split and to patient, as the CSV of splits says; empty without one."""
        patients = {
            slide_id: self._named(slide.patient_id) if slide.patient_id else slide_id
            for slide_id, slide in self.slides.items()
        }
        if not self._splits:
            return {}, patients
        plain = [replace(slide, slide_id=self._plain[name]) for name, slide in self.slides.items()]
        by_plain, _ = list_splits(plain, self._splits)
        rows = {slide.slide_id: lookup(slide.path, slide.slide_id, self._splits, key=SplitRow.facts) for slide in plain}
        for slide_id, name in self._plain.items():
            row = rows[name]
            if row is not None and row.patient_id and not self.slides[slide_id].patient_id:
                patients[slide_id] = self._named(row.patient_id)
        return {slide_id: by_plain[name] for slide_id, name in self._plain.items()}, patients

    def check_folds(self) -> None:
        """See that there are patients for all folds, before hours of cutting.

        Raises
        ------
        InputError
            If there are not.
        """
        if self._inputs.folds is not None:
            _, patients = self.given_splits()
            kfold(list(patients.values()), [0] * len(patients), folds=self._inputs.folds, seed=0)

    @cached_property
    def _overrides(self) -> dict[str, float]:
        return read_overrides(self._inputs.overrides) if self._inputs.overrides is not None else {}

    @cached_property
    def _splits(self) -> dict[str, SplitRow]:
        return read_splits(self._inputs.splits) if self._inputs.splits is not None else {}

    def _named(self, name: str) -> str:
        return hash_slide_id(name) if self._settings.hash_slide_ids else name

    def _strays(self) -> list[str]:
        folder = self._inputs.annotations
        return stray_annotations(folder, set(self._plain.values())) if folder is not None and folder.is_dir() else []

    def _check_names(self) -> list[str]:
        plain = [replace(slide, slide_id=self._plain[name]) for name, slide in self.slides.items()]
        notes = []
        for what, table in (("overrides", self._overrides), ("splits", self._splits), ("lists", self._listed)):
            if unused := unused_rows(table, plain):
                notes.append(f"the {what} name {len(unused)} slides that are not among those given, first {unused[0]}")
        if strays := self._strays():
            notes.append(f"{len(strays)} files of annotations are of no slide that is given, first {strays[0]}")
        if self._splits:
            _, missing = list_splits(plain, self._splits)
            notes += [f"{slide_id} is in no split" for slide_id in missing]
        return notes


def _read_lists(paths: Sequence[Path]) -> dict[str, tuple[Planned, ...]]:
    listed: dict[str, tuple[Planned, ...]] = {}
    for path in paths:
        for slide_id, patches in read_list(path).items():
            planned = (Planned(p.x, p.y, p.width, p.height, p.tissue_fraction) for p in patches)
            listed[slide_id] = (*listed.get(slide_id, ()), *planned)
    return listed


def _tissue_mask(source: Path | None, slide_id: str) -> Path | None:
    if source is None or source.is_file():
        return source
    found = [path for name in _TISSUE_MASKS if (path := source / name.format(slide_id)).is_file()]
    if not found:
        raise InputError(f"{slide_id} has no tissue mask", got=source, expected=f"{slide_id}.png or {slide_id}.tif")
    return found[0]
