"""Outlines as ASAP saves them: XML."""

from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from wsi_maxmin.annotations._annotation import Annotation
from wsi_maxmin.annotations._files import read_bytes
from wsi_maxmin.annotations._groups import ASAP_GROUPS, Role, role_of
from wsi_maxmin.annotations._rings import Region, Ring, as_ring
from wsi_maxmin.annotations._shapes import has_area
from wsi_maxmin.errors import InputError

_WITH_AREA, _WITHOUT_AREA = ("Polygon", "Spline", "Rectangle"), ("Dot", "PointSet", "Measurement")
# What ASAP writes of an object that has no type; its points are an outline all the same.
_UNTYPED = ("", "None")
_EXPECTED = "an ASAP XML file"


def read_asap_xml(path: Path, groups: Mapping[str, Role] | None = None) -> Annotation:
    """Read the annotation of a slide in ASAP's XML.

    Parameters
    ----------
    path : Path
        May be packed as .gz.
    groups : mapping, optional
        What to make of groups beyond `ASAP_GROUPS`, by name.

    Raises
    ------
    InputError
        If the file is missing, empty, unsafe or not ASAP's, or has a group or type of unknown meaning.

    Notes
    -----
    Decimal commas are read as points. Polygon, Spline (by its control points) and Rectangle have area; dots, point sets
    and whatever else encloses nothing are counted and left out. A ring that crosses itself is filled by the even–odd
    rule.
    """
    roles = {**ASAP_GROUPS, **(groups or {})}
    regions: dict[Role, list[Region]] = {"tumour": [], "exclude": [], "ignore": []}
    without_area = 0
    for element in _parse(path).iter("Annotation"):
        kind = element.get("Type", "")
        if kind in _WITHOUT_AREA:
            without_area += 1
            continue
        if kind not in (*_WITH_AREA, *_UNTYPED):
            raise InputError(
                f"{path.name}: {element.get('Name')!r} is of an unknown type",
                got=kind,
                expected=f"one of {', '.join((*_WITH_AREA, *_WITHOUT_AREA))}",
                remedy="draw it anew as a polygon in ASAP",
            )
        role = role_of(element.get("PartOfGroup", ""), roles, path)
        ring = _ring(element, path)
        if has_area(ring):
            regions[role].append((ring,))
        else:
            without_area += 1
    return Annotation(include=tuple(regions["tumour"]), exclude=tuple(regions["exclude"]), without_area=without_area)


def _parse(path: Path) -> Element:
    content = read_bytes(path, _EXPECTED)
    try:
        root: Element = defusedxml.ElementTree.fromstring(content)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise InputError(f"{path} cannot be read", got=repr(error), expected=_EXPECTED) from None
    if root.tag != "ASAP_Annotations":
        raise InputError(f"{path} is not an annotation", got=f"<{root.tag}>", expected="<ASAP_Annotations>")
    return root


def _ring(element: Element, path: Path) -> Ring:
    points = element.findall("Coordinates/Coordinate")
    try:
        points.sort(key=lambda point: int(point.get("Order", "0")))
        ring = as_ring([[float(point.attrib[axis].replace(",", ".")) for axis in "XY"] for point in points])
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path.name}: a coordinate of {element.get('Name')!r} cannot be read",
            got=repr(error),
            expected="Order, X and Y as finite numbers",
        ) from None
    if element.get("Type") == "Rectangle" and len(ring) == 2:
        (left, top), (right, bottom) = ring.tolist()
        ring = as_ring([[left, top], [right, top], [right, bottom], [left, bottom]])
    return ring
