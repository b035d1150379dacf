"""Regions and tiles as GeoJSON features that QuPath takes: level-0 px, x first, from the corner of pixel (0, 0)."""

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from wsi_maxmin.exports._source import ExportSource, color_of

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "wsi-maxmin")

Feature = dict[str, Any]


def write_collection(features: Iterable[Feature], path: Path) -> None:
    """Write features to a file one by one."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(features):
            file.write(",\n" if index else "\n")
            # QuPath does not take NaN, which Python would write.
            file.write(json.dumps(feature, ensure_ascii=False, allow_nan=False))
        file.write("\n]}\n")


def region_features(source: ExportSource) -> Iterator[Feature]:
    """Yield the regions of tumour as annotations."""
    for region in source.regions:
        yield make_feature(
            source.slide_id,
            region.polygon,
            kind="annotation",
            class_name=source.class_name(source.positive_class),
            measurements={
                "Map area µm^2": region.area_um2,
                **{f"{_title(name)} mean": value for name, value in region.means.items()},
                **{f"{_title(name)} max": value for name, value in region.maxima.items()},
            },
        )


def tile_features(source: ExportSource) -> Iterator[Feature]:
    """Yield the tiles, as far as they lie on the slide; none without a table of them."""
    if source.tiles is None:
        return
    width, height = source.store.georef.slide_size_px
    names: Sequence[str | None] = source.tile_classes or [None] * len(source.tiles)
    for row, class_name in zip(source.tiles.to_dict("records"), names, strict=True):
        right, bottom = min(row["x"] + row["width"], width), min(row["y"] + row["height"], height)
        measured = {
            _title(name): value
            for name, value in row.items()
            if name.startswith("posterior_") or name in ("uncertainty", "mask_mean")
        }
        yield make_feature(
            source.slide_id,
            shapely.box(max(row["x"], 0), max(row["y"], 0), right, bottom),
            kind="tile",
            class_name=class_name,
            measurements=measured,
        )


def identity(slide_id: str, kind: str, shape: BaseGeometry) -> str:
    """Return a UUID that is the same for the same shape of the same slide in every export."""
    return str(uuid.uuid5(_NAMESPACE, f"{slide_id} {kind} {shape.wkt}"))


def make_feature(
    slide_id: str,
    shape: BaseGeometry,
    *,
    kind: str,
    class_name: str | None,
    measurements: Mapping[str, float],
    color: tuple[int, int, int] | None = None,
) -> Feature:
    """Return a shape as a feature; by default the colour is that of its class."""
    properties: dict[str, Any] = {"objectType": kind}
    if class_name is not None:
        properties["classification"] = {"name": class_name, "color": list(color or color_of(class_name))}
    properties["isLocked"] = True
    properties["measurements"] = {
        name: round(float(value), 6) for name, value in measurements.items() if math.isfinite(value)
    }
    return {
        "type": "Feature",
        "id": identity(slide_id, kind, shape),
        "geometry": _geometry(shape),
        "properties": properties,
    }


def _geometry(shape: BaseGeometry) -> dict[str, Any]:
    parts = [_rings(part) for part in shapely.get_parts(shape)]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _rings(polygon: Polygon) -> list[list[list[int]]]:
    """Return shell and holes, each closed; coordinates are whole, since all lie on edges of pixels."""
    return [
        np.rint(shapely.get_coordinates(ring)).astype(int).tolist() for ring in (polygon.exterior, *polygon.interiors)
    ]


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize() if name != "mask_mean" else "Soft mask mean"
