"""What a slide is called: one name that lasts, from its path or URL, or a pseudonym."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from upath import UPath

from wsi_maxmin.errors import InputError
from wsi_maxmin.runinfo import FAILURES, RUN_FILE, SLIDES

P = TypeVar("P", bound=Path | UPath)
T = TypeVar("T")

_NOT_SLIDES = (RUN_FILE, SLIDES, FAILURES)
_KEY_BYTES = hashlib.blake2b.MAX_KEY_SIZE


def as_source(text: str | Path | UPath) -> Path | UPath:
    """Return where a slide is: a `UPath` for a URL, a path for a file and for ``file://``.

    Raises
    ------
    InputError
        If the URL is of a kind that fsspec does not know.
    """
    if not isinstance(text, str) or "://" not in text:
        return Path(text) if isinstance(text, str) else text
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    try:
        return UPath(text)
    except ValueError:
        raise InputError(
            "no such kind of URL", got=source_key(text), expected="one that fsspec knows, such as s3:// or https://"
        ) from None


def source_key(source: str | Path | UPath) -> str:
    """Return where a slide is as text that a run may keep: an absolute path, or a URL without user and query.

    These two hold passwords and signatures, and a signature is another one in every run.
    """
    if isinstance(source, Path):
        try:
            return str(source.parent.resolve() / source.name)
        except (OSError, RuntimeError):
            # Links in a circle: the slide fails when it is opened, and must have a name until then.
            return str(source.absolute())
    text = str(source)
    if not text.startswith(("http://", "https://")):
        return text
    url = urlsplit(text)
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def same_source(path: Path | UPath) -> str:
    """Return what two mentions of one slide share; URLs that differ in their queries may be different slides."""
    return source_key(path) if isinstance(path, Path) else str(path)


def source_name(path: Path | UPath) -> PurePath:
    """Return a slide's path or URL as folders and a file name."""
    key = source_key(path)
    return PurePath(key) if isinstance(path, Path) else PurePosixPath(unquote(key.partition("://")[2]))


def unique_slide_ids(paths: Sequence[P], known: Mapping[str, str] | None = None) -> dict[str, P]:
    """Name each slide by its file's stem, with folders in front where two would clash; a repeated file counts once.

    A DICOM slide is named by its folder, because its files have numbers for names.

    Parameters
    ----------
    paths : sequence of Path or UPath
    known : mapping of slide_id to path, optional
        Slides of earlier runs into the same folder. They keep their names, and no other slide gets one of these.

    Returns
    -------
    dict of slide_id to path
        In the order of `paths`.

    Raises
    ------
    InputError
        If no slide is given, or two remain alike.
    """
    if not paths:
        raise InputError("no slide given", expected="at least one slide file")
    known = known or {}
    earlier = [as_source(text) for text in known.values()]
    kept = dict(zip(map(source_key, earlier), known, strict=True))
    distinct = list({same_source(path): path for path in paths}.values())
    folders: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    labels = {source_key(path): _label(path) for path in (*earlier, *distinct)}
    for label in labels.values():
        folders[label[-1]].add(label[:-1])
    counts = Counter(label[-1] for label in labels.values())
    named: dict[str, P] = {}
    for path in distinct:
        key = source_key(path)
        *above, stem = labels[key]
        slide_id = kept.get(key, stem)
        if key not in kept and counts[stem] > 1:
            slide_id = "_".join((*above[-_depth(folders[stem]) :], stem))
        if key not in kept and (slide_id in known or slide_id in named or slide_id.lower() in _NOT_SLIDES):
            slide_id += source_name(path).suffix.replace(".", "_")
        if slide_id in named or (slide_id in known and key not in kept):
            other = named[slide_id] if slide_id in named else known[slide_id]
            raise InputError("two slides have the same name", got=f"{other} and {path}", remedy="rename one")
        named[slide_id] = path
    return named


def _label(path: Path | UPath) -> tuple[str, ...]:
    """Return the folders above a slide and its name without suffix."""
    name = source_name(path)
    name = name.parent if name.suffix.lower() == ".dcm" else name.with_name(name.stem)
    return tuple(part for part in name.parts if part != name.anchor)


def _depth(folders: Collection[tuple[str, ...]]) -> int:
    """Return how many folders above slides of one name tell these slides apart."""
    return next(depth for depth in count(1) if len({above[-depth:] for above in folders}) == len(folders))


def names_a_folder(slide_id: str) -> bool:
    """Return whether a folder of results can hold a folder of this name: not hidden, and none of its own files."""
    return not (slide_id.startswith(".") or "/" in slide_id or "\\" in slide_id or slide_id.lower() in _NOT_SLIDES)


def hash_slide_id(slide_id: str, key: str = "") -> str:
    """Return a pseudonym of a slide: 16 hex digits of the BLAKE2b of its name.

    It is the same in every run, so that patches and heatmaps of a slide still belong together. Without a key it hides
    nothing from someone who can guess file names: they hash their guesses and compare.

    Parameters
    ----------
    slide_id : str
    key : str
        A secret that keeps guesses from being compared, at most 64 bytes; empty for none.

    Raises
    ------
    InputError
        If the key is too long.

    Examples
    --------
    >>> hash_slide_id("tumor_001")
    '9eb213729db3adb3'
    """
    secret = key.encode(errors="surrogateescape")
    if len(secret) > _KEY_BYTES:
        raise InputError("the key of slide ids is too long", got=f"{len(secret)} bytes", expected=f"≤ {_KEY_BYTES}")
    # A name that is no UTF-8 still is a name.
    name = slide_id.encode(errors="surrogateescape")
    return hashlib.blake2b(name, digest_size=8, key=secret).hexdigest()


def lookup(
    path: Path | UPath, slide_id: str, table: Mapping[str, T], *, key: Callable[[T], Any] = lambda value: value
) -> T | None:
    """Return what a table says of a slide, called there by its id, its file name or its stem; None if it says nothing.

    Raises
    ------
    InputError
        If it says different things, by `key`, under two of these names.
    """
    found = lookup_all(path, slide_id, table)
    if len({key(value) for value in found.values()}) > 1:
        raise InputError(
            f"two rows say different things of {slide_id}", got=" and ".join(found), expected="one", remedy="remove one"
        )
    return next(iter(found.values()), None)


def lookup_all(path: Path | UPath, slide_id: str, table: Mapping[str, T]) -> dict[str, T]:
    """Return all that a table says of a slide, by the name that it uses.

    An id that is not the file's stem speaks alone: files of other slides have that stem too.
    """
    names = names_of(path, slide_id)
    if slide_id in table and slide_id != names[-1]:
        return {slide_id: table[slide_id]}
    return {name: table[name] for name in names if name in table}


def names_of(path: Path | UPath, slide_id: str) -> tuple[str, ...]:
    """Return the names by which a table may call a slide: its id, its file name and its stem."""
    name = source_name(path)
    return slide_id, name.name, name.stem
