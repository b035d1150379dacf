"""Rings of level-0 points as shapely's polygons: for their area, and for pictures."""

from collections.abc import Iterable

import numpy as np
import shapely
from shapely.geometry import LinearRing, Point, Polygon
from shapely.geometry.base import BaseGeometry

from wsi_maxmin.annotations._rings import Region, Ring

_LEAST_AREA_PX2 = 1e-6


def has_area(ring: Ring) -> bool:
    """Return whether a ring encloses anything."""
    if len(ring) < 3:
        return False
    x, y = (ring - ring[0]).T
    signed = float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    # The lobes of a figure of eight cancel out in the signed area: only then is the dearer question asked.
    return abs(signed) > _LEAST_AREA_PX2 or _faces((ring,)).area > _LEAST_AREA_PX2


def to_geometry(regions: Iterable[Region]) -> BaseGeometry:
    """Return the union of regions as a valid geometry of polygons."""
    return shapely.union_all([_to_shape(region) for region in regions])


def _to_shape(region: Region) -> BaseGeometry:
    rings = [ring for ring in region if has_area(ring)]
    if not rings:
        return Polygon()
    polygon = Polygon(rings[0], rings[1:])
    return polygon if polygon.is_valid else _faces(region)


def _faces(region: Region) -> BaseGeometry:
    """Return the faces between the lines of a region that lie inside by the even–odd rule.

    shapely's `make_valid` decides otherwise where a ring runs along itself.
    """
    lines = shapely.union_all([LinearRing(ring) for ring in region if len(ring) >= 3])
    faces = shapely.get_parts(shapely.polygonize([lines]))
    return shapely.union_all([face for face in faces if _is_inside(region, face.representative_point())])


def _is_inside(region: Region, point: Point) -> bool:
    x, y = np.concatenate(region).T - [[point.x], [point.y]]
    x_next, y_next = np.concatenate([np.roll(ring, -1, axis=0) for ring in region]).T - [[point.x], [point.y]]
    spans = np.flatnonzero((x <= 0) != (x_next <= 0))
    crossing = y[spans] - x[spans] / (x_next - x)[spans] * (y_next - y)[spans]
    return bool(np.count_nonzero(crossing < 0) % 2)
