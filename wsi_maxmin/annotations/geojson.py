"""Outlines as QuPath exports them: GeoJSON in level-0 pixels."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsi_maxmin.annotations._annotation import Annotation
from wsi_maxmin.annotations._files import read_bytes
from wsi_maxmin.annotations._groups import QUPATH_CLASSES, UNCLASSIFIED, Role, role_of
from wsi_maxmin.annotations._rings import Region, as_ring
from wsi_maxmin.annotations._shapes import has_area
from wsi_maxmin.errors import InputError

_EXPECTED = "GeoJSON as QuPath exports it"
_WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")


def read_geojson(path: Path, groups: Mapping[str, Role] | None = None) -> Annotation:
    """Read the annotation of a slide in QuPath's GeoJSON.

    Parameters
    ----------
    path : Path
        A FeatureCollection, a Feature, a bare geometry or a list of any of these; may be packed as .gz.
    groups : mapping, optional
        What to make of classes beyond `QUPATH_CLASSES`, by name; objects without a class are in ``Unclassified``.

    Raises
    ------
    InputError
        If the file is missing, empty or not GeoJSON, or has a class of unknown meaning.

    Notes
    -----
    Each polygon is filled by the even–odd rule together with its holes. Points, lines and whatever else encloses
    nothing are counted and left out. A class of several names reads ``first: second``, as in QuPath.
    """
    roles = {**QUPATH_CLASSES, **(groups or {})}
    regions: dict[Role, list[Region]] = {"tumour": [], "exclude": [], "ignore": []}
    without_area = 0
    for number, (group, geometry) in enumerate(_objects(_parse(path)), start=1):
        try:
            found = [*_regions(geometry)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path.name}: object {number} cannot be read",
                got=repr(error),
                expected="a geometry whose coordinates are finite numbers",
            ) from None
        areas = [region for region in found if region]
        without_area += len(found) - len(areas)
        if areas:
            regions[role_of(group, roles, path)].extend(areas)
    return Annotation(include=tuple(regions["tumour"]), exclude=tuple(regions["exclude"]), without_area=without_area)


def _parse(path: Path) -> list[Any]:
    try:
        content = json.loads(read_bytes(path, _EXPECTED))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read", got=repr(error), expected=_EXPECTED) from None
    objects = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(objects, list) or not all(isinstance(item, dict) and "type" in item for item in objects):
        raise InputError(
            f"{path} is not an annotation",
            got=type(content).__name__,
            expected="a FeatureCollection, a Feature, a geometry or a list of them",
        )
    return objects


def _objects(items: list[Any]) -> Iterator[tuple[str, Any]]:
    """Give the class and the geometry of each object."""
    for item in items:
        if item["type"] == "Feature":
            yield _class_of(item.get("properties") or {}), item.get("geometry")
        else:
            yield UNCLASSIFIED, item


def _class_of(properties: Any) -> str:
    # QuPath before 0.2 wrote a bare name; since 0.5 an object of several classes has a list of names.
    found = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(found, dict):
        names = found.get("names") or [found.get("name") or UNCLASSIFIED]
        return ": ".join(map(str, names))
    return str(found or UNCLASSIFIED)


def _regions(geometry: Any) -> Iterator[Region]:
    """Give the regions of a geometry, an empty one for each part without area."""
    kind = None if geometry is None else geometry["type"]
    if kind == "Polygon":
        yield _region(geometry["coordinates"])
    elif kind == "MultiPolygon":
        yield from map(_region, geometry["coordinates"])
    elif kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _regions(part)
    elif kind is None or kind in _WITHOUT_AREA:
        yield ()
    else:
        raise ValueError(f"a geometry of type {kind!r}")


def _region(coordinates: Any) -> Region:
    shell, *holes = [as_ring([[float(value) for value in point[:2]] for point in ring]) for ring in coordinates] or [
        as_ring([])
    ]
    return (shell, *filter(has_area, holes)) if has_area(shell) else ()
