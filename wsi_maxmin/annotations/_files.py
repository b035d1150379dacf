"""Which file holds the truth of a slide, and its bytes."""

import gzip
import zlib
from collections.abc import Container
from pathlib import Path

from wsi_maxmin.errors import InputError

_KINDS = (".xml", ".geojson", ".json")
_ANNOTATIONS = (".xml", ".xml.gz", ".geojson", ".geojson.gz", ".json")
_MASKS = ("_mask.tif", "_mask.tiff", ".tif", ".tiff")


def find_annotation(source: Path, slide_id: str) -> Path | None:
    """Return the outlines of a slide: `source` itself, or the file of the slide's name in it where it is a folder.

    In a folder, ``<slide_id>`` with the ending .xml, .xml.gz, .geojson, .geojson.gz or .json is looked for; None is
    returned where there is none.

    Raises
    ------
    InputError
        If `source` does not exist, or holds two files for the slide.
    """
    _require(source, "annotation", "an ASAP XML or GeoJSON file, or a folder of them")
    if source.is_file():
        return source
    found = [path for ending in _ANNOTATIONS if (path := source / f"{slide_id}{ending}").is_file()]
    if len(found) > 1:
        raise InputError(
            f"several annotations of {slide_id} in {source}",
            got=" and ".join(path.name for path in found),
            expected="one",
            remedy="remove the others",
        )
    return found[0] if found else None


def stray_annotations(folder: Path, slide_ids: Container[str]) -> list[str]:
    """Return the names of the files in a folder of outlines that are of none of the slides."""
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(_ANNOTATIONS))
    return [name for name in names if not any(_stem(name, ending) in slide_ids for ending in _ANNOTATIONS)]


def _stem(name: str, ending: str) -> str | None:
    return name.removesuffix(ending) if name.endswith(ending) else None


def find_mask(source: Path, slide_id: str) -> Path | None:
    """Return the mask TIFF of a slide: `source` itself, or the file of the slide's name in it where it is a folder.

    In a folder, ``<slide_id>_mask.tif`` comes before ``<slide_id>.tif``, so that masks may lie beside their slides;
    None is returned where there is none.

    Raises
    ------
    InputError
        If `source` does not exist.
    """
    _require(source, "mask", "a TIFF file or a folder of them")
    if source.is_file():
        return source
    return next((path for ending in _MASKS if (path := source / f"{slide_id}{ending}").is_file()), None)


def kind_of(path: Path) -> str:
    """Return how a file of outlines ends, .gz aside.

    Raises
    ------
    InputError
        If nothing that ends so is read.
    """
    name = path.name.lower().removesuffix(".gz")
    kind = next((kind for kind in _KINDS if name.endswith(kind)), None)
    if kind is None:
        raise InputError(
            f"{path.name} is not an annotation that can be read",
            got=f"a file that ends in {path.suffix!r}",
            expected="ASAP's .xml or QuPath's .geojson or .json, each also with .gz",
        )
    return kind


def read_bytes(path: Path, expected: str) -> bytes:
    """Return what a file holds, unpacked where its name ends in .gz.

    Raises
    ------
    InputError
        If it is missing or empty, or cannot be unpacked; `expected` says what it should have been.
    """
    _require(path, "annotation", expected)
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read", got=repr(error), expected=expected) from None
    if not content:
        raise InputError(f"{path} is empty", got="0 bytes", expected=expected, remedy="copy the file again")
    return content


def _require(path: Path, what: str, expected: str) -> None:
    if not path.exists():
        raise InputError(f"no such {what}", got=path, expected=expected)
