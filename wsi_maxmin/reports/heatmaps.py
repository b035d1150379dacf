"""A folder of heatmaps: slides by what their maps say, pictures, failures, and where the time went."""

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wsi_maxmin.reports import slide_scores
from wsi_maxmin.reports._about import duration, settings_section
from wsi_maxmin.reports._charts import divide
from wsi_maxmin.reports._matching import Match, match
from wsi_maxmin.reports._parts import (
    Bars,
    Card,
    Cards,
    Column,
    Command,
    Facts,
    Highlights,
    Link,
    Note,
    Part,
    Report,
    Request,
    Section,
    Table,
)
from wsi_maxmin.reports._pictures import share_of, shrink
from wsi_maxmin.reports._slide_facts import common_facts, environment_of, tiles_per_second, unended_run, warnings_of
from wsi_maxmin.reports._slides import (
    SlideRecord,
    files_of,
    is_slide,
    read_records,
    run_of,
    slide_folders,
    unended_slide,
)
from wsi_maxmin.runinfo import RUN_FILE, command_of, read_json

EXPECTED = "heatmaps (infer-slide, stitch)"
_OVERVIEW = "overview.png"
_COMMANDS = ("infer-slide", "stitch")


def is_one(folder: Path) -> bool:
    """Say whether heatmaps, or a run that was to make some, are here."""
    return command_of(folder) in _COMMANDS or bool(slide_folders(folder))


def describe(folder: Path, request: Request) -> Report:
    """Return what is known of the slides of a run, or of one of them.

    Raises
    ------
    InputError
        If `request.scores` are none, or of other slides, or a file of the run is damaged.
    """
    records = read_records(folder, request)
    alone, run = is_slide(folder), run_of(folder)
    own = read_json(folder / RUN_FILE) or {}
    scores = match(folder, records, request)
    if scores.said:
        request.progress.say(f"WARNING: {scores.said}")
    cards = [_card(index, record, len(records), request) for index, record in enumerate(records, 1)]
    failed = [] if alone else [record for record in records if record.why]
    unended = [text for record in records if (text := unended_slide(record))] if alone else unended_run(run)
    found = [
        Section(anchor="summary", title="Summary", parts=[*_differ(scores), *_summary(folder, unended, records)]),
        Section(anchor="failed", title="What went wrong", parts=_failed(failed)),
        Section(anchor="slides", title="Slides", parts=[] if alone else [_table(records, scores.labels)]),
        Section(anchor="maps", title="Map" if alone else "Maps", parts=[Cards(cards=cards)] if cards else []),
        *_scored(scores),
        Section(anchor="time", title="Where the time went", parts=_time(records)),
        settings_section(own.get("settings") or {}, environment_of([own, *(record.facts for record in records), run])),
    ]
    return Report(
        title=folder.resolve().name,
        what="Heatmap of a slide" if alone else "Heatmaps of slides",
        sections=[section for section in found if section.parts],
    )


def _differ(scores: Match) -> list[Part]:
    return [Note(text=scores.said, warning=True)] if scores.said else []


def _scored(scores: Match) -> list[Section]:
    """Return the sections of the scores; that they are of other slides as well stands by the numbers too."""
    if scores.folder is None:
        return []
    first, *others = slide_scores.sections(scores.folder)
    return [replace(first, parts=[*_differ(scores), *first.parts]), *others]


def _summary(folder: Path, unended: Sequence[str], records: Sequence[SlideRecord]) -> list[Part]:
    counts = Counter(record.status for record in records)
    maps = [record.summary for record in records if record.summary is not None]
    facts = [record.facts for record in records if record.facts]
    tiles, rate = sum(each.get("tiles") or 0 for each in facts), tiles_per_second(facts)
    rows = [("Slides done", f"{counts['done']:,} of {len(records):,}")]
    rows += [(status.capitalize(), f"{count:,}") for status, count in sorted(counts.items()) if status != "done"]
    if maps:
        rows.append(("Reach the threshold", f"{sum(each.reached for each in maps):,} of {len(maps):,}"))
    rows += [("Tiles", f"{tiles:,}")] if tiles else []
    rows.append(("Time of all slides", duration(sum(each.get("elapsed_seconds") or 0 for each in facts))))
    rows += [] if rate is None else [("Tiles a second", f"{rate:,.1f}")]
    warnings = [Note(text=text, warning=True) for text in (*unended, *warnings_of(facts))]
    thresholds = [("Threshold", ", ".join(dict.fromkeys(f"{each.threshold:g}" for each in maps)))]
    command = [Command(text=f"wsi-maxmin view {shlex.quote(str(folder))}")] if maps else []
    return [*warnings, Highlights(rows=rows), Facts(rows=[*common_facts(facts), *thresholds]), *command]


def _failed(records: Sequence[SlideRecord]) -> list[Part]:
    if not records:
        return []
    columns = [Column(name=name) for name in ("Slide", "Status", "Why")]
    rows = [[record.slide_id, record.status, record.why] for record in records]
    return [Table(caption="--resume does what is missing once it is mended", columns=columns, rows=rows)]


def _table(records: Sequence[SlideRecord], labels: Mapping[str, str]) -> Table:
    names = [("Slide", None), *([("Label", None)] if labels else []), ("Status", None), ("Highest value", 3)]
    names += [("From the threshold, mm²", 3), ("Share of tissue, %", 1), ("Tissue, mm²", 2)]
    names += [("Tiles", 0), ("Time, s", 1), ("Tiles a second", 1)]
    rows = []
    for index, record in enumerate(records, 1):
        summary, facts = record.summary, record.facts
        row: list[Any] = [Link(text=record.slide_id, href=f"#slide-{index}")]
        row += [labels.get(record.slide_id)] if labels else []
        row += [record.status]
        row += (
            [None] * 4
            if summary is None
            else [summary.highest, summary.above_um2 / 1e6, summary.share, summary.seen_um2 / 1e6]
        )
        rows.append([*row, *(facts.get(key) for key in ("tiles", "elapsed_seconds", "tiles_per_second"))])
    caption = f"{len(records):,} slides, the highest value of the map first; values are from 0 to 1"
    return Table(caption=caption, columns=[Column(name=name, digits=digits) for name, digits in names], rows=rows)


def _card(index: int, record: SlideRecord, count: int, request: Request) -> Card:
    lines, picture, links = [record.status], None, []
    if record.summary is not None:
        each = record.summary
        lines = [
            f"highest {each.channel} {each.highest:.3f}; from {each.threshold:g} on {each.above_um2 / 1e6:.3f} mm², "
            f"{each.share:.1f} % of {each.seen_um2 / 1e6:.2f} mm² of tissue"
        ]
        lines += [record.status] if record.status != "done" else []
    lines += [record.why] if record.why else []
    if record.folder is not None:
        alt = f"Slide {record.slide_id}, and beside it the slide with its tumour map; contours at the threshold"
        picture = shrink(record.folder / _OVERVIEW, alt, most_bytes=share_of(count))
        links = [Link(text=name, href=_beside(record.folder / name, request.out)) for name in files_of(record)]
        if request.viewer_url is not None:
            place = f"{request.viewer_url}slide.html?id={quote(record.slide_id, safe='', errors='surrogateescape')}"
            links.insert(0, Link(text="Open in the viewer", href=place))
    return Card(
        anchor=f"slide-{index}",
        title=record.slide_id,
        picture=picture,
        lines=lines,
        command="" if record.summary is None else f"wsi-maxmin view {shlex.quote(str(record.folder))}",
        links=links,
    )


def _beside(path: Path, out: Path) -> str:
    """Return a link from the report to a file; every character that is not plain is escaped, ':' and '#' among them."""
    return quote(os.fsencode(os.path.relpath(path, out.parent)), safe="/")


def _time(records: Sequence[SlideRecord]) -> list[Part]:
    stages: Counter[str] = Counter()
    for record in records:
        stages.update((record.facts.get("timings") or {}).get("in_turn") or {})
    bar = divide([(name, seconds) for name, seconds in stages.items() if seconds], "s")
    if bar is None:
        return []
    note = "Stages one after the other, summed over all slides; docs/heatmaps.md says what each is."
    return [Note(text=note), Bars(bar=bar)]
