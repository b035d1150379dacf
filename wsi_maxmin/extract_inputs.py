"""What a user hands to extract-patches besides settings, and the job of each slide that follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from wsi_maxmin.annotations import find_annotation, find_mask, stray_annotations
from wsi_maxmin.errors import InputError
from wsi_maxmin.extraction import ExtractSettings, Planned, SlideJob
from wsi_maxmin.moved_slides import Recorded
from wsi_maxmin.protocols.p512_list import read_list
from wsi_maxmin.runinfo import digest
from wsi_maxmin.slide_ids import source_key, source_name
from wsi_maxmin.slide_inputs import RunSlides, SlideInputs
from wsi_maxmin.slide_list import lookup, lookup_all
from wsi_maxmin.splits import SplitRow, kfold, list_splits, read_splits


@dataclass(frozen=True, kw_only=True)
class ExtractInputs(SlideInputs):
    """Files and folders of a run, besides those of `SlideInputs`.

    Attributes
    ----------
    annotations, masks : Path or None
        Ground truth: ASAP XML or GeoJSON, or mask TIFFs; of the one slide, or a folder of them. Not both.
    lists : tuple of Path
        What protocol ``p512-list`` cuts.
    splits : Path or None
        CSV of train, valid and test slides.
    folds : int or None
        Deal slides to this many folds instead.
    """

    EXCLUSIVE: ClassVar = (("annotations", "masks"), ("splits", "folds"), *SlideInputs.EXCLUSIVE)
    PATHS: ClassVar = ("annotations", "masks", "splits", *SlideInputs.PATHS)
    PER_SLIDE: ClassVar = ("annotations", "masks", *SlideInputs.PER_SLIDE)

    annotations: Path | None = None
    masks: Path | None = None
    lists: tuple[Path, ...] = ()
    splits: Path | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
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


class JobMaker(RunSlides):
    """Makes the job of each slide of a run.

    Parameters
    ----------
    inputs : ExtractInputs
    settings : ExtractSettings
    known : mapping of slide_id to path
        Slides of earlier runs into the same folder, by their plain names.
    recorded : callable, optional
        Returns of what file the result of a slide is; see `follow_moved`.
    """

    _inputs: ExtractInputs

    def __init__(
        self,
        inputs: ExtractInputs,
        settings: ExtractSettings,
        known: Mapping[str, str],
        recorded: Recorded = lambda _: None,
    ) -> None:
        super().__init__(inputs, hashed=settings.hash_slide_ids, known=known, recorded=recorded)
        self._settings, self._listed = settings, _read_lists(inputs.lists)
        self.notes += self._check_names()

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
            tissue_mask=self.tissue_mask(slide_id),
            partly_annotated=not {plain, source_name(slide.path).stem}.isdisjoint(self._settings.partly_annotated),
            listed=tuple(chain.from_iterable(lookup_all(slide.path, plain, self._listed).values())),
        )

    def given_splits(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return slide_id to split and to patient, as the CSV of splits says; empty without one."""
        patients = {
            slide_id: self._named(slide.patient_id) if slide.patient_id else slide_id
            for slide_id, slide in self.slides.items()
        }
        if not self._splits:
            return {}, patients
        plain = self._plain_slides()
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
    def _splits(self) -> dict[str, SplitRow]:
        return read_splits(self._inputs.splits) if self._inputs.splits is not None else {}

    def _strays(self) -> list[str]:
        folder = self._inputs.annotations
        return stray_annotations(folder, set(self._plain.values())) if folder is not None and folder.is_dir() else []

    def _check_names(self) -> list[str]:
        notes = [*self._unused("splits", self._splits), *self._unused("lists", self._listed)]
        if strays := self._strays():
            notes.append(f"{len(strays)} files of annotations are of no slide that is given{self._first(strays)}")
        if self._splits:
            _, missing = list_splits(self._plain_slides(), self._splits)
            notes += [f"{self._named(slide_id)} is in no split" for slide_id in missing]
        return notes


def _read_lists(paths: Sequence[Path]) -> dict[str, tuple[Planned, ...]]:
    listed: dict[str, tuple[Planned, ...]] = {}
    for path in paths:
        for slide_id, patches in read_list(path).items():
            planned = (Planned(p.x, p.y, p.width, p.height, p.tissue_fraction) for p in patches)
            listed[slide_id] = (*listed.get(slide_id, ()), *planned)
    return listed
