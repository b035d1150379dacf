"""Which scores go with which heatmaps: those of the same slides, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_maxmin.errors import InputError
from wsi_maxmin.reports import slide_scores
from wsi_maxmin.reports._parts import Request
from wsi_maxmin.reports._slides import SlideRecord

_SCORES = "scores"
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Scores that go with heatmaps.

    Attributes
    ----------
    folder : Path or None
        Of the scores; None where there are none of these slides.
    labels : mapping
        Label of each slide that is scored, by the `slide_id` of its record.
    said : str
        How the two differ; empty where they are of the same slides.
    """

    folder: Path | None = None
    labels: Mapping[str, str]
    said: str = ""


def match(folder: Path, records: Sequence[SlideRecord], request: Request) -> Match:
    """Find scores of some slides: where the user says, else in the folder of the heatmaps.

    Raises
    ------
    InputError
        If the user names scores of none of these slides, or no scores.
    """
    place = request.scores or _beside(folder)
    if place is None:
        return Match(labels={})
    if not slide_scores.is_one(place):
        raise InputError(
            "no scores of slides",
            got=place,
            expected="what evaluate-slides wrote",
            remedy=f"wsi-maxmin evaluate-slides {folder} --reference CSV --out {place}",
        )
    scored = slide_scores.labels_of(place)
    called = {Path(name).stem: name for name in scored} | {name: name for name in scored}
    own = [(record.slide_id, name) for record in records for name in (record.name, record.slide_id)]
    found = {slide_id: called[name] for slide_id, name in own if name in called}
    if not found and request.scores is not None:
        raise InputError(
            "the scores are of none of these slides",
            got=f"{place} with {_listed(list(scored))}",
            expected=f"some of {folder}: {_listed([record.slide_id for record in records])}",
            remedy="give --scores what evaluate-slides wrote about these heatmaps, or leave it out",
        )
    if not found:
        return Match(labels={}, said=f"The scores in {place} are of none of these slides, and are left out.")
    others = len(scored) - len(set(found.values()))
    same = others == 0 and len(found) == len(records)
    said = (
        f"The scores are not of the same slides as the heatmaps: {len(found):,} of {len(records):,} slides here are "
        f"scored, and {others:,} of {len(scored):,} scored slides are not here."
    )
    labels = {slide_id: scored[name] for slide_id, name in found.items()}
    return Match(folder=place, labels=labels, said="" if same else said)


def _beside(folder: Path) -> Path | None:
    return next((place for place in (folder / _SCORES, folder) if slide_scores.is_one(place)), None)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES]) or 'no slide'}{more}"
