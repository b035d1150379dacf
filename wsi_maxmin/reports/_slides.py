"""The slides of a folder of heatmaps: what became of each, and what its map says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_maxmin.errors import WsiMaxminError, in_one_line
from wsi_maxmin.reports._parts import Request
from wsi_maxmin.runinfo import RUN_FILE, read_json
from wsi_maxmin.slides_csv import read_slides
from wsi_maxmin.tilemaps import TileMaps
from wsi_maxmin.viewer._answers import STORE
from wsi_maxmin.viewer._opened import Opened
from wsi_maxmin.viewer._shown import Shown

_TILEMAPS = "tilemaps.zarr"
_ENDED = {"done": "done", "skipped": "done", "failed": "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSummary:
    """What a map says of its slide, as the gallery of `wsi-maxmin view` does.

    Attributes
    ----------
    channel : str
    threshold : float
        The model's, else 0.5.
    highest : float
        Value of the highest pixel.
    above_um2, seen_um2 : float
        Area from the threshold on, and of all that was seen.
    """

    channel: str
    threshold: float
    highest: float
    above_um2: float
    seen_um2: float

    @property
    def share(self) -> float:
        """Per cent of what was seen that reaches the threshold."""
        return 100 * self.above_um2 / self.seen_um2 if self.seen_um2 else 0.0

    @property
    def reached(self) -> bool:
        """Whether any pixel reaches the threshold."""
        return self.above_um2 > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRecord:
    """One slide.

    Attributes
    ----------
    slide_id : str
    name : str
        As the scores may call it: its own, where a run has not hashed it.
    folder : Path or None
        Of its files; None where there are none.
    status : {"done", "failed", "unfinished", "not begun"}
    why : str
        What went wrong.
    facts : mapping
        Its ``run.json``.
    summary : MapSummary or None
        None without a map that can be read.
    """

    slide_id: str
    name: str
    folder: Path | None
    status: str
    why: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: MapSummary | None = None


def slide_folders(folder: Path) -> list[Path]:
    """Return the folders of slides: this one, or those in it."""
    return [folder] if (folder / STORE).is_dir() else sorted(path.parent for path in folder.glob(f"*/{STORE}"))


def is_slide(folder: Path) -> bool:
    """Say whether a folder is of one slide, whatever became of it, and not of a run."""
    facts = read_json(folder / RUN_FILE) or {}
    return (folder / STORE).is_dir() or "slide" in facts or "source" in facts


def run_of(folder: Path) -> Mapping[str, Any]:
    """Return the ``run.json`` of the run that a folder is of, which for a slide lies beside its folder."""
    return read_json((folder.resolve().parent if is_slide(folder) else folder) / RUN_FILE) or {}


def read_records(folder: Path, request: Request) -> list[SlideRecord]:
    """Return the slides of a run, or the one that the folder is of, by their maps: the highest first.

    Each is attempted: a map that cannot be read is said, and the others are there.
    """
    if is_slide(folder):
        parent, kept = folder.resolve().parent, {folder.resolve().name: folder}
    else:
        parent, kept = folder, {path.name: path for path in slide_folders(folder)}
    rows, outcomes = read_slides(parent), _outcomes(parent)
    names = list(kept) if parent != folder else [*dict.fromkeys((*outcomes, *rows, *kept))]
    records = []
    with request.progress.track("read", len(names), unit="slide") as advance:
        for name in names:
            known = {"name": rows.get(name, {}).get("name") or name, **outcomes.get(name, {})}
            records.append(_record(name, known, kept.get(name) or _begun(parent, name)))
            advance()
    return sorted(records, key=_by_map)


def _begun(run: Path, slide_id: str) -> Path | None:
    """Return the folder of a slide without a map; a name in a file must not be able to lead elsewhere."""
    folder = run / slide_id
    return folder if Path(slide_id).name == slide_id and (folder / RUN_FILE).is_file() else None


def _outcomes(folder: Path) -> dict[str, dict[str, str]]:
    """Return status and reason of each slide that a run has attempted."""
    slides = (read_json(folder / RUN_FILE) or {}).get("slides") or ()
    return {
        str(slide["slide_id"]): {"status": str(slide.get("status")), "why": str(slide.get("why") or "")}
        for slide in slides
        if isinstance(slide, Mapping) and slide.get("slide_id")
    }


def _record(slide_id: str, known: Mapping[str, str], folder: Path | None) -> SlideRecord:
    facts = {} if folder is None else read_json(folder / RUN_FILE) or {}
    unended = "not begun" if folder is None else "unfinished"
    own = "done" if facts.get("status") == "done" else unended
    status = _ENDED.get(known.get("status", ""), own)
    if status == "done" and own != "done":
        status = own  # begun again since
    why, summary = known.get("why", "") if status == "failed" else "", None
    if folder is not None and (folder / STORE).is_dir():
        try:
            summary = _summary(slide_id, folder)
        except Exception as error:  # a damaged file may make any library raise anything
            why = why or f"its map cannot be read: {error if isinstance(error, WsiMaxminError) else in_one_line(error)}"
    return SlideRecord(
        slide_id=slide_id, name=known["name"], folder=folder, status=status, why=why, facts=facts, summary=summary
    )


def _summary(slide_id: str, folder: Path) -> MapSummary:
    threshold = TileMaps(folder / _TILEMAPS).spec.threshold if (folder / _TILEMAPS).is_dir() else None
    opened = Opened(Shown(slide_id=slide_id, store=folder / STORE, threshold=threshold))
    return MapSummary(**opened.summary())


def _by_map(record: SlideRecord) -> tuple[float, float, str]:
    if record.summary is None:
        return 1.0, 0.0, record.slide_id
    return -record.summary.highest, -record.summary.share, record.slide_id


def unended_slide(record: SlideRecord) -> str:
    """Return what a slide without a whole result lacks, and the remedy; nothing of one that is done."""
    if record.status == "failed":
        return f"This slide failed: {record.why or 'its run does not say why'}. Once it is mended, --resume does it."
    if record.status != "done":
        return (
            "This slide is not done: its run goes on, or ended before it was. --resume does the rest; if the slide "
            "failed, the report of the run's folder says why."
        )
    return f"This slide is done, but {record.why}." if record.why else ""


def files_of(record: SlideRecord) -> list[str]:
    """Return the names of a slide's files and stores, those of a run's own keeping left out."""
    if record.folder is None:
        return []
    return sorted(path.name for path in record.folder.iterdir() if path.name[0] != "." and path.name != RUN_FILE)
