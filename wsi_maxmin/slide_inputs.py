"""The slides of a run as a user hands them over: which they are, what they are called, and what belongs to each."""

import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

from upath import UPath

from wsi_maxmin.errors import InputError, WsiMaxminError
from wsi_maxmin.moved_slides import Recorded
from wsi_maxmin.slide_ids import as_source, source_key
from wsi_maxmin.slide_list import ListedSlide, find_slides, hash_slide_id, mpp_for, read_overrides, unused_rows

# A mask may lie beside its slide: what is named as a mask comes first.
_TISSUE_MASKS = ("{}_tissue.png", "{}_tissue.tif", "{}_tissue.tiff", "{}.png", "{}.tif", "{}.tiff")


@dataclass(frozen=True, kw_only=True)
class SlideInputs:
    """Slides, and what a user knows of them.

    Attributes
    ----------
    slides : sequence
        Files, folders, CSV lists and URLs; see `find_slides`.
    tissue_masks : Path or None
        Tissue mask of the one slide, or a folder of them, instead of finding tissue.
    overrides : Path or None
        CSV of slides' µm per pixel.
    slide_mpp : float or None
        µm per level-0 pixel of every slide for which a list in `slides` says nothing; not with `overrides`.
    """

    EXCLUSIVE: ClassVar[tuple[tuple[str, str], ...]] = (("slide_mpp", "overrides"),)
    PATHS: ClassVar[tuple[str, ...]] = ("tissue_masks", "overrides")
    PER_SLIDE: ClassVar[tuple[str, ...]] = ("tissue_masks",)

    slides: Sequence[str | Path | UPath]
    tissue_masks: Path | None = None
    overrides: Path | None = None
    slide_mpp: float | None = None

    def __post_init__(self) -> None:
        for one, other in self.EXCLUSIVE:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise InputError(f"{one} and {other} exclude each other", remedy="give one of them")
        for name in self.PATHS:
            path = getattr(self, name)
            if path is not None and not path.exists():
                raise InputError(
                    f"no such file or folder of {name.replace('_', ' ')}", got=path, remedy="check the path"
                )

    def absolute(self) -> Self:
        """Return the same with paths that hold in every process, whatever its working directory."""
        sources = [as_source(slide) for slide in self.slides]
        slides = [path.absolute() if isinstance(path, Path) else path for path in sources]
        paths = {name: path.absolute() for name in self.PATHS if (path := getattr(self, name)) is not None}
        return replace(self, slides=slides, **paths)


class RunSlides:
    """The slides of a run under the names that its results give them.

    Parameters
    ----------
    inputs : SlideInputs
    hashed : bool
        Call slides by a hash of their names.
    known : mapping of slide_id to path
        Slides of earlier runs into the same folder, by their plain names.
    recorded : callable, optional
        Returns of what file the result of a slide is; see `follow_moved`.

    Attributes
    ----------
    slides : dict of slide_id to ListedSlide
        As they are called in results, in order.
    hashed : bool
    notes : list of str
        What the user should know before the run.
    """

    def __init__(
        self, inputs: SlideInputs, *, hashed: bool, known: Mapping[str, str], recorded: Recorded = lambda _: None
    ) -> None:
        self._inputs, self.hashed = inputs, hashed
        found = find_slides(inputs.slides, known=known, recorded=lambda name: recorded(self._named(name)))
        for name in inputs.PER_SLIDE:
            path = getattr(inputs, name)
            if path is not None and path.is_file() and len(found) > 1:
                raise InputError(
                    f"one file of {name.replace('_', ' ')} for several slides", got=path, expected="a folder of them"
                )
        self._plain = {self._named(slide.slide_id): slide.slide_id for slide in found}
        self.slides = {name: replace(slide, slide_id=name) for name, slide in zip(self._plain, found, strict=True)}
        self.notes = [*self._moved(found, known), *self._unused("overrides", self._overrides)]

    def paths(self) -> dict[str, Path | UPath]:
        """Return where each slide is."""
        return {slide_id: slide.path for slide_id, slide in self.slides.items()}

    def found(self) -> list[str]:
        """List the slides that are there; a URL is taken for there."""
        return [slide_id for slide_id, path in self.paths().items() if not isinstance(path, Path) or path.exists()]

    def slide_mpp(self, slide_id: str) -> float | None:
        """Return the µm per level-0 pixel that the user gave for a slide; None where the file's own holds."""
        slide = self.slides[slide_id]
        given = mpp_for(slide.path, self._plain[slide_id], self._overrides)
        return next((mpp for mpp in (given, slide.mpp, self._inputs.slide_mpp) if mpp is not None), None)

    def tissue_mask(self, slide_id: str) -> Path | None:
        """Return the file of a slide's given tissue mask; None where tissue is to be found.

        Raises
        ------
        InputError
            If masks are given, and none is this slide's.
        """
        source, plain = self._inputs.tissue_masks, self._plain[slide_id]
        if source is None or source.is_file():
            return source
        found = [path for name in _TISSUE_MASKS if (path := source / name.format(plain)).is_file()]
        if not found:
            raise InputError(
                f"{plain} has no tissue mask",
                got=source,
                expected=f"{plain}_tissue.png, {plain}.png, or the same with .tif or .tiff",
            )
        return found[0]

    def plain_name(self, slide_id: str) -> str:
        """Return what a slide would be called if its name were not hashed."""
        return self._plain[slide_id]

    @contextmanager
    def hiding_names(self, slide_id: str) -> Iterator[None]:
        """Raise the errors of the block as they are; with hashed names, see `without_names`."""
        try:
            yield
        except Exception as error:
            if self.hashed:
                raise self.without_names(error, slide_id) from None
            raise

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

    @cached_property
    def _overrides(self) -> dict[str, float]:
        return read_overrides(self._inputs.overrides) if self._inputs.overrides is not None else {}

    def _named(self, name: str) -> str:
        return hash_slide_id(name) if self.hashed else name

    def _plain_slides(self) -> list[ListedSlide]:
        return [replace(slide, slide_id=self._plain[name]) for name, slide in self.slides.items()]

    def _moved(self, found: Sequence[ListedSlide], known: Mapping[str, str]) -> list[str]:
        """Return a note where slides of earlier runs lie elsewhere than these said."""
        before = {name: source_key(as_source(path)) for name, path in known.items()}
        now = {slide.slide_id: source_key(slide.path) for slide in found}
        moved = [name for name, path in now.items() if before.get(name, path) != path]
        note = f"{len(moved)} slides lie elsewhere than in the earlier run and keep their names{self._first(moved)}"
        return [note] if moved else []

    def _unused(self, what: str, table: Collection[str]) -> list[str]:
        """Return a note where rows of a table are of no slide of the run."""
        unused = unused_rows(table, self._plain_slides())
        note = f"the {what} name {len(unused)} slides that are not among those given{self._first(unused)}"
        return [note] if unused else []

    def _first(self, names: Sequence[str]) -> str:
        """Return an example for a note; none where names are to be hidden."""
        return f", first {names[0]}" if names and not self.hashed else ""
