"""Score the heatmaps of a cohort against a reference list and annotations: lesions, slides, pixels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from wsi_maxmin.candidates import Candidates, CandidateSettings, find_candidates, read_candidates
from wsi_maxmin.cohort import CohortResult, Outcome, Status, attempt_one
from wsi_maxmin.cohort_scores import LEAST_SLIDES, CohortScore, SlideScore, score_cohort
from wsi_maxmin.errors import InputError
from wsi_maxmin.exports._source import ExportSettings
from wsi_maxmin.froc import Frame, Protocol, land, map_lesions
from wsi_maxmin.pipelines._exports import open_source
from wsi_maxmin.pipelines._result import threshold_of
from wsi_maxmin.pipelines._result_folders import result_folders
from wsi_maxmin.pipelines._slide_folder import HEATMAP, TILEMAPS
from wsi_maxmin.pipelines._slide_tables import SCORES, SlideTables, write_scores
from wsi_maxmin.pixel_curves import count_pixels_by_value
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.reference import SlidesTruth, read_reference
from wsi_maxmin.sinks._ngff import least_byte
from wsi_maxmin.slide_folders import SLIDE_SUFFIXES
from wsi_maxmin.slides_csv import read_slides

__all__ = ["CandidateSettings", "EvaluateSlidesSettings", "SlidesScores", "SlidesTruth", "evaluate_slides"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSlidesSettings:
    """How slides are scored.

    Attributes
    ----------
    protocol : {"camelyon16", "per-slide-mpp"}
        Whether lesions are found at 0.243 µm a pixel whatever the slide's own, as the organisers do, or at its own.
    candidates : CandidateSettings
        How candidates are read off heatmaps.
    threshold : float or None
        A pixel is tumour where the map is ≥ it; by default the model's.
    bootstrap : int
        Resamples of the intervals; 0 for none.
    seed : int
        Of the resamples.
    """

    protocol: Protocol = "camelyon16"
    candidates: CandidateSettings = field(default_factory=CandidateSettings)
    threshold: float | None = None
    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        ExportSettings(threshold=self.threshold).check()
        if self.bootstrap < 0:
            raise InputError("no such number of resamples", got=self.bootstrap, expected="at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidesScores:
    """What came out.

    Attributes
    ----------
    scores : dict of str to CohortScore
        Empty where a slide failed: without it they would be of another cohort.
    result : CohortResult
        What became of each slide.
    """

    scores: dict[str, CohortScore]
    result: CohortResult


def evaluate_slides(
    heatmaps: Path,
    truth: SlidesTruth,
    *,
    candidates: Path | None = None,
    out: Path | None = None,
    settings: EvaluateSlidesSettings | None = None,
    progress: Progress | None = None,
) -> SlidesScores:
    """Return FROC score, AUC of slides, Dice and average precision of pixels, each with its interval.

    Parameters
    ----------
    heatmaps : Path
        Folder of a run of ``infer-slide``.
    truth : SlidesTruth
    candidates : Path, optional
        Folder of ``<slide>.csv``, instead of candidates from the heatmaps. A slide without file has none.
    out : Path, optional
        Folder for ``scores.json``, tables and curves.
    settings : EvaluateSlidesSettings, optional
    progress : Progress, optional

    Raises
    ------
    InputError
        If reference list, annotations or candidates are not there, or a slide of the list has no heatmap.
    """
    settings, progress = settings or EvaluateSlidesSettings(), progress or Quiet()
    labels, places = read_reference(truth.reference), _places(heatmaps)
    truth.check(sum(labels.values()))
    folders = _folders_of(labels, places)
    if others := sorted({path.name for path in places.values()} - {path.name for path in folders.values()}):
        progress.say(f"{len(others)} heatmaps are of slides that the reference list does not name, such as {others[0]}")
    if candidates is not None:
        progress.say(_match_candidates(candidates, folders))
    tables = SlideTables()
    outcomes: list[Outcome] = []
    with progress.track("evaluate", len(labels), unit="slide") as advance:
        for name, tumour in labels.items():
            work = partial(_score_slide, tumour, truth, candidates, settings, tables)
            outcome, _ = attempt_one(name, folders[name], work=work, hide_path=False)
            outcomes.append(outcome)
            if outcome.status == "failed":
                progress.say(f"{name}: failed: {outcome.why}")
            advance()
    result = CohortResult(out=out or heatmaps, outcomes=tuple(outcomes))
    if result.exit_code:
        if out is not None and (out / SCORES).exists():
            progress.say(f"the scores in {out} are of an earlier evaluation")
        return SlidesScores(scores={}, result=result)
    if settings.bootstrap and len(labels) < LEAST_SLIDES:
        progress.say(f"no intervals: {len(labels)} slides, of which resamples say nothing below {LEAST_SLIDES}")
    scores = score_cohort(tables.scores, repeats=settings.bootstrap, seed=settings.seed)
    if out is not None:
        facts = asdict(settings) | {"candidates_from": "files" if candidates else "heatmaps"}
        write_scores(out, tables, scores, facts)
    return SlidesScores(scores=scores, result=result)


def _places(heatmaps: Path) -> dict[str, Path]:
    """Return the folders of slides by their ids, and by their plain names where a run has hashed these."""
    folders = result_folders([heatmaps], holding=[HEATMAP, TILEMAPS], what="heatmaps")
    plain = {row["name"]: folders[key] for key, row in read_slides(heatmaps).items() if key in folders}
    return {**plain, **folders}


def _folders_of(labels: Mapping[str, bool], places: Mapping[str, Path]) -> dict[str, Path]:
    folders = {name: places.get(name) or places.get(_without_ending(name)) for name in labels}
    if missing := [name for name, folder in folders.items() if folder is None]:
        raise InputError(
            f"{len(missing)} of {len(labels)} slides of the reference list have no heatmap",
            got=", ".join(missing[:3]),
            remedy="run infer-slide on them, or take them off the list",
        )
    found = {name: folder for name, folder in folders.items() if folder is not None}
    if len(set(found.values())) < len(found):
        raise InputError("two names of the reference list are one slide", got=", ".join(found), remedy="keep one")
    return found


def _without_ending(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in SLIDE_SUFFIXES else name


def _match_candidates(candidates: Path, folders: Mapping[str, Path]) -> str:
    """Say how many slides have a file of candidates; that none has is a mistake in the names, and no FROC of 0."""
    if not candidates.is_dir():
        raise InputError("no such folder of candidates", got=candidates, expected="a folder of <slide>.csv")
    files = {path.stem for path in candidates.glob("*.csv")}
    used = [files & {*_names_of(name, folder)} for name, folder in folders.items()]
    if not any(used):
        raise InputError(
            "no slide has a file of candidates",
            got=f"{candidates / min(files)}.csv" if files else f"no CSV in {candidates}",
            expected=f"{next(iter(folders))}.csv",
            remedy="name them as the slides; a slide without candidates may have a file without rows, or none",
        )
    strays = len(files.difference(*used))
    return f"{sum(map(bool, used))} of {len(used)} slides have a file of candidates; {strays} are of none"


def _names_of(name: str, folder: Path) -> list[str]:
    """Return how files of a slide may be called: as the list has it, as its result, or as before a run hashed it."""
    plain = read_slides(folder.parent).get(folder.name, {}).get("name", folder.name)
    return [*dict.fromkeys((name, folder.name, plain))]


def _score_slide(
    tumour: bool,
    truths: SlidesTruth,
    candidates: Path | None,
    settings: EvaluateSlidesSettings,
    tables: SlideTables,
    name: str,
    folder: Path,
) -> Status:
    store = open_source(folder, folder, ExportSettings()).store
    names = _names_of(name, folder)
    georef = store.georef
    truth = truths.of(names, georef.slide_size_px) if tumour else None
    frame = Frame.of(settings.protocol, georef.slide_mpp)
    lesions = None if truth is None else map_lesions(truth, georef.slide_size_px, frame)
    threshold = threshold_of(folder, settings.threshold)
    if candidates is None:
        points = find_candidates(store, settings.candidates, threshold)
    else:
        files = [path for name in names if (path := candidates / f"{name}.csv").is_file()]
        points = read_candidates(files[0], georef.slide_size_px) if files else Candidates.none()
    pixels = count_pixels_by_value(store, truth)
    score = SlideScore(
        tumour=tumour,
        score=points.highest,
        detections=land(points, lesions),
        pixels=pixels,
        dice=pixels.dice(least_byte(threshold)),
    )
    tables.add(name, score, points, () if lesions is None else lesions.lesions, threshold, georef.mpp)
    return "done"
