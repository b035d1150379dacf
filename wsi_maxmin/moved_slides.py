"""Slides of an earlier run that lie elsewhere now: a slide that moved is not another slide."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from upath import UPath

from wsi_maxmin.readers._bytes import LocalRanges, content_facts
from wsi_maxmin.slide_ids import as_source, source_key

Recorded = Callable[[str], Mapping[str, Any] | None]
"""Returns what the result of a slide says of its file (see `Reader.fingerprint`); None where there is no result."""


def follow_moved(known: Mapping[str, str], paths: Sequence[Path | UPath], recorded: Recorded) -> dict[str, str]:
    """Return where the slides of an earlier run are now.

    A slide moved if nothing is at its path any more and one of `paths`, unknown so far, is the same file: name, bytes
    and samples of its content. Where several slides or several files are alike, none moved.

    Parameters
    ----------
    known : mapping of slide_id to path
    paths : sequence of Path or UPath
        Slides of this run; one behind a URL is none that moved.
    recorded : callable
        Asked for a slide_id of `known`.

    Returns
    -------
    dict of slide_id to path
        Without slides that are gone and have no result: their names are free.
    """
    earlier = {slide_id: as_source(text) for slide_id, text in known.items()}
    gone = {slide_id: path for slide_id, path in earlier.items() if isinstance(path, Path) and _is_gone(path)}
    facts = {slide_id: found for slide_id in gone if (found := recorded(slide_id)) is not None}
    lost, found_at = defaultdict(list), defaultdict(list)
    for slide_id, of_file in facts.items():
        lost[gone[slide_id].name, of_file.get("bytes"), of_file.get("sampled")].append(slide_id)
    names, there = {name for name, *_ in lost}, {source_key(path) for path in earlier.values()}
    for path in paths:
        if isinstance(path, Path) and path.name in names and source_key(path) not in there:
            found_at[path.name, *_content(path)].append(source_key(path))
    alike = ((slide_ids, found_at.get(key, [])) for key, slide_ids in lost.items())
    moved = {slide_ids[0]: places[0] for slide_ids, places in alike if len(slide_ids) == len(places) == 1}
    left = {slide_id: text for slide_id, text in known.items() if slide_id in facts or slide_id not in gone}
    return left | moved


def _is_gone(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        # What may not even be looked at may still be there.
        return False
    return False


def _content(path: Path) -> tuple[object, object]:
    """Return bytes and samples of a file; of one that cannot be read what no result says."""
    try:
        facts = content_facts(LocalRanges(path))
    except OSError:
        return None, path
    return facts["bytes"], facts["sampled"]
