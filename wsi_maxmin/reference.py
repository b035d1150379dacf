"""Which slides of a cohort hold tumour, by a list and never by the slides' names, and where it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsi_maxmin.annotations import Role, Truth, find_annotation, find_mask, read_annotation
from wsi_maxmin.annotations.mask_tiff import check_size, open_mask
from wsi_maxmin.csvs import read_csv_rows
from wsi_maxmin.errors import InputError

_LABELS = {"tumor": True, "tumour": True, "1": True, "normal": False, "0": False}
_NAMES = ("slide_id", "slide", "image", "name")
_ONE_TRUTH = "give one of --annotations and --masks"
_EXPECTED = "a slide's name, then tumor or normal"


def read_reference(path: Path) -> dict[str, bool]:
    """Return whether each slide holds tumour, in the order of the list.

    Parameters
    ----------
    path : Path
        CSV. Without header the first column is the slide's name and the second its label, as in Camelyon16's own list;
        with one these are ``slide_id`` and ``label``. Other columns are passed over. Labels are tumor, tumour or 1, and
        normal or 0, in capitals or not.

    Raises
    ------
    InputError
        If there is no such list, it is empty, a row is not understood, or a slide is there twice.
    """
    rows = read_csv_rows(path, "reference list")
    name_at, label_at = 0, 1
    if rows and (len(rows[0]) < 2 or rows[0][1].lower() not in _LABELS):
        header = [cell.lower() for cell in rows.pop(0)]
        names = [header.index(name) for name in _NAMES if name in header]
        if not names or "label" not in header:
            raise InputError(f"{path} is no reference list", got=",".join(header), expected="slide_id,label")
        name_at, label_at = names[0], header.index("label")
    if not rows:
        raise InputError(f"{path} lists no slide", expected=_EXPECTED)
    found: dict[str, bool] = {}
    for row in rows:
        label = row[label_at].lower() if len(row) > max(name_at, label_at) else ""
        if label not in _LABELS or not row[name_at]:
            raise InputError(f"{path}: malformed row", got=",".join(row), expected=_EXPECTED)
        if row[name_at] in found:
            raise InputError(f"{path}: a slide is there twice", got=row[name_at], expected="once")
        found[row[name_at]] = _LABELS[label]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidesTruth:
    """What is known of the slides.

    Attributes
    ----------
    reference : Path
        List of slides, and which of them hold tumour; the cohort is exactly these.
    annotations, masks : Path or None
        Outlines (ASAP XML, GeoJSON) or mask TIFFs: a folder, or the file of the one slide with tumour. Not both.
    groups : mapping
        What to make of groups of unknown meaning.
    """

    reference: Path
    annotations: Path | None = None
    masks: Path | None = None
    groups: Mapping[str, Role] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.annotations is None and self.masks is None:
            raise InputError("nothing says where tumour is", expected="annotations or masks", remedy=_ONE_TRUTH)
        if self.annotations is not None and self.masks is not None:
            both = f"annotations {self.annotations} and masks {self.masks}"
            raise InputError("annotations and masks exclude each other", got=both, remedy=_ONE_TRUTH)

    def check(self, tumour_slides: int) -> None:
        """Raise InputError if there is no such file or folder, or one file is for several slides."""
        source = self.annotations or self.masks
        if source is None or not source.exists():
            raise InputError("no such annotations", got=source, expected="a folder, or the file of one slide")
        if source.is_file() and tumour_slides > 1:
            raise InputError(
                f"one annotation for {tumour_slides} slides with tumour", got=source, expected="a folder of them"
            )

    def of(self, names: Sequence[str], size_px: tuple[int, int]) -> Truth:
        """Return the tumour of a slide that goes by any of these names and has this size, level-0 px.

        Raises
        ------
        InputError
            If there is none, or no tumour in it: a slide of the reference list's tumour slides has some. Or if a mask
            is of another size.
        """
        found = [path for name in names if (path := self._find(name)) is not None]
        if not found:
            raise InputError(
                f"no annotation of {names[0]}, which holds tumour by the reference list",
                got=self.annotations or self.masks,
                expected=f"{names[0]}.xml, .geojson, or _mask.tif",
            )
        truth: Truth
        if self.annotations is None:
            truth = open_mask(found[0])
            check_size(truth, size_px, names[0])
        else:
            truth = read_annotation(found[0], self.groups)
        if not truth.holds_tumour:
            raise InputError(f"{found[0]} has no tumour; by the reference list {names[0]} holds some")
        return truth

    def _find(self, name: str) -> Path | None:
        if self.annotations is not None:
            return find_annotation(self.annotations, name)
        return None if self.masks is None else find_mask(self.masks, name)
