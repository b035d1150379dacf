"""Outlines drawn by a person: ASAP XML to polygons in level-0 pixels, and from them the mask of any box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
import numpy.typing as npt
import shapely
from defusedxml import DefusedXmlException
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from skimage.draw import polygon2mask

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box

Role = Literal["tumour", "exclude", "ignore"]

ASAP_GROUPS: dict[str, Role] = {
    "Tumor": "tumour",
    "_0": "tumour",
    "_1": "tumour",
    "_2": "exclude",
    "Exclusion": "exclude",
}
_WITHOUT_AREA = ("Dot", "PointSet")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotation:
    """The tumour of one slide: outlines minus exclusions.

    Attributes
    ----------
    include, exclude : tuple of Polygon
        Valid polygons in level-0 pixels.
    without_area : int
        Dots and point sets that were left out.
    """

    include: tuple[Polygon, ...]
    exclude: tuple[Polygon, ...]
    without_area: int = 0

    def mask(self, box: Box, width: int, height: int) -> npt.NDArray[np.bool_]:
        """Rasterise the tumour inside a box.

        A pixel is tumour where its centre lies inside an included outline and inside no excluded one.

        Parameters
        ----------
        box : Box
        width, height : int
            Size of the result.

        Returns
        -------
        (height, width) bool
        """
        tumour = _rasterise(self.include, box, width, height)
        if self.exclude and tumour.any():
            tumour &= ~_rasterise(self.exclude, box, width, height)
        return tumour

    def geometry(self) -> BaseGeometry:
        """Return the tumour as one geometry."""
        return shapely.union_all(self.include).difference(shapely.union_all(self.exclude))


def read_asap_xml(path: Path, groups: Mapping[str, Role] | None = None) -> Annotation:
    """Read the annotation of a slide in ASAP's XML.

    Parameters
    ----------
    path : Path
    groups : mapping, optional
        What to make of groups beyond `ASAP_GROUPS`, by name.

    Raises
    ------
    InputError
        If the file is missing, empty, unsafe or not ASAP's, or has a group of unknown meaning.

    Notes
    -----
    Decimal commas are read as points. Polygon, Spline and Rectangle have area; dots and point sets are counted and
    left out. A ring that crosses itself is repaired (even–odd), one of fewer than three points has no area.
    """
    roles = {**ASAP_GROUPS, **(groups or {})}
    include: list[Polygon] = []
    exclude: list[Polygon] = []
    without_area = 0
    for element in _parse(path).iter("Annotation"):
        kind, group = element.get("Type", ""), element.get("PartOfGroup", "")
        if kind in _WITHOUT_AREA:
            without_area += 1
            continue
        role = roles.get(group)
        if role is None:
            raise InputError(
                f"{path.name}: unknown annotation group",
                got=repr(group),
                expected=f"one of {', '.join(roles)}",
                remedy=f"say what it means with --group '{group}=tumour' (or =exclude, =ignore)",
            )
        if role != "ignore":
            (include if role == "tumour" else exclude).extend(_polygons(_ring(element, path)))
    return Annotation(include=tuple(include), exclude=tuple(exclude), without_area=without_area)


def find_annotation(source: Path, slide_id: str) -> Path | None:
    """Return the XML of a slide: `source` itself, or ``<slide_id>.xml`` in it where it is a folder (None if absent).

    Raises
    ------
    InputError
        If `source` does not exist.
    """
    if not source.exists():
        raise InputError("no such annotation", got=source, expected="an ASAP XML file or a folder of them")
    if source.is_file():
        return source
    path = source / f"{slide_id}.xml"
    return path if path.is_file() else None


def _parse(path: Path) -> Element:
    expected = "an ASAP XML file"
    if not path.is_file():
        raise InputError("no such annotation", got=path, expected=expected)
    if not path.stat().st_size:
        raise InputError(f"{path} is empty", got="0 bytes", expected=expected, remedy="copy the file again")
    try:
        root: Element | None = defusedxml.ElementTree.parse(path).getroot()
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise InputError(f"{path} cannot be read", got=repr(error), expected=expected) from None
    if root is None or root.tag != "ASAP_Annotations":
        raise InputError(
            f"{path} is not an annotation",
            got="nothing" if root is None else f"<{root.tag}>",
            expected="<ASAP_Annotations>",
        )
    return root


def _ring(element: Element, path: Path) -> npt.NDArray[np.float64]:
    points = element.findall("Coordinates/Coordinate")
    try:
        points.sort(key=lambda point: int(point.get("Order", "0")))
        values = [[float(point.attrib[axis].replace(",", ".")) for axis in "XY"] for point in points]
        if not np.isfinite(values).all():
            raise ValueError("a number that is not finite")
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path.name}: a coordinate of {element.get('Name')!r} cannot be read",
            got=repr(error),
            expected="Order, X and Y as finite numbers",
        ) from None
    return np.array(values, dtype=np.float64).reshape(-1, 2)


def _polygons(ring: npt.NDArray[np.float64]) -> list[Polygon]:
    if len(ring) < 3:
        return []
    polygon: BaseGeometry = Polygon(ring)
    if not polygon.is_valid:
        polygon = shapely.make_valid(polygon)
    return _flat(polygon)


def _flat(geometry: BaseGeometry) -> list[Polygon]:
    """Return the polygons with area of any geometry."""
    parts = getattr(geometry, "geoms", [geometry])
    flat = [piece for part in parts for piece in (part.geoms if isinstance(part, MultiPolygon) else [part])]
    return [piece for piece in flat if isinstance(piece, Polygon) and piece.area > 0]


def _rasterise(polygons: Sequence[Polygon], box: Box, width: int, height: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((height, width), dtype=np.bool_)
    margin_x, margin_y = 2 * box.width / width, 2 * box.height / height
    # Only what lies in the box is filled: an outline of 20,000 vertices costs each box its own few.
    window = shapely.box(box.x - margin_x, box.y - margin_y, box.right + margin_x, box.bottom + margin_y)
    for polygon in polygons:
        for piece in _flat(polygon.intersection(window)):
            filled = _fill(np.asarray(piece.exterior.coords), box, width, height)
            for hole in piece.interiors:
                filled &= ~_fill(np.asarray(hole.coords), box, width, height)
            mask |= filled
    return mask


def _fill(ring: npt.NDArray[np.float64], box: Box, width: int, height: int) -> npt.NDArray[np.bool_]:
    # Pixel i has its centre at i + 0.5 in our frame and at i in polygon2mask's.
    columns = (ring[:, 0] - box.x) * width / box.width - 0.5
    rows = (ring[:, 1] - box.y) * height / box.height - 0.5
    filled: npt.NDArray[np.bool_] = polygon2mask((height, width), np.column_stack([rows, columns]))
    return filled
