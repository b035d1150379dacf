"""Outlines as QuPath exports them, and the files that are something else."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from wsi_maxmin.annotations import find_annotation, read_annotation, read_geojson
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box

BOX = Box(x=0, y=0, width=64, height=64)
SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40], [10, 10]]
INNER = [[20, 20], [30, 20], [30, 30], [20, 30], [20, 20]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE]}
TUMOR = {"name": "Tumor", "color": [200, 0, 0]}


def feature(geometry: Any = POLYGON, classification: Any = TUMOR, **properties: Any) -> dict[str, Any]:
    named = {} if classification is None else {"classification": classification}
    return {
        "type": "Feature",
        "id": "4a4e6c3a-7a1c-4a57-9d8a-2f3f6f3d9a10",
        "geometry": geometry,
        "properties": {"objectType": "annotation", **named, **properties},
    }


@pytest.fixture
def write(tmp_path: Path):
    def write_json(content: Any) -> Path:
        path = tmp_path / "slide.geojson"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write_json


@pytest.mark.parametrize(
    "content",
    [
        {"type": "FeatureCollection", "features": [feature()]},
        feature(),
        [feature()],
        [feature(isLocked=True, measurements=[{"name": "Area", "value": 1}]) | {"nucleusGeometry": POLYGON}],
        [feature({"type": "MultiPolygon", "coordinates": [[SQUARE]]})],
        [feature({"type": "GeometryCollection", "geometries": [POLYGON]})],
        [feature({"type": "Polygon", "coordinates": [SQUARE[:-1]], "plane": {"c": -1, "z": 0, "t": 0}})],
        [feature({"type": "Polygon", "coordinates": [[[*point, 7] for point in SQUARE]]})],
        [feature(classification="Tumor")],
        [feature(classification={"names": ["Tumor"]})],
        [feature(classification={"name": "metastasis".title(), "colorRGB": -1})],
    ],
)
def test_one_outline_reads_the_same_however_it_is_wrapped(write, content: Any) -> None:
    found = read_geojson(write(content))
    assert found.mask(BOX, 64, 64).sum() == 40 * 30
    assert (len(found.include), len(found.exclude), found.without_area) == (1, 0, 0)


def test_holes_are_cut_out_of_their_polygon_and_exclusions_out_of_all(write) -> None:
    ring = {"type": "Polygon", "coordinates": [SQUARE, INNER]}
    corner = {"type": "Polygon", "coordinates": [[[10, 10], [15, 10], [15, 40], [10, 40]]]}
    found = read_geojson(write([feature(ring), feature(corner, {"name": "Exclusion"})]))
    assert found.mask(BOX, 64, 64).sum() == 40 * 30 - 10 * 10 - 5 * 30
    assert found.geometry().area == 40 * 30 - 10 * 10 - 5 * 30
    assert found.drawn_mask(BOX).sum() == 41 * 31 - 11 * 11


def test_the_polygons_of_one_object_overlap_without_cutting_each_other(write) -> None:
    both = {"type": "MultiPolygon", "coordinates": [[SQUARE], [INNER]]}
    found = read_geojson(write([feature(both)]))
    assert len(found.include) == 2
    assert found.mask(BOX, 64, 64).sum() == 1200


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]},
        {"type": "LineString", "coordinates": [[1, 2], [3, 4], [9, 0]]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, 4]], INNER]},
        {"type": "Polygon", "coordinates": [[[1, 1], [3, 3], [9, 9], [1, 1]]]},
    ],
)
def test_what_has_no_area_is_counted_whatever_its_class(write, geometry: Any) -> None:
    found = read_geojson(write([feature(geometry, "whatever")]))
    assert (found.include, found.exclude, found.without_area) == ((), (), 1)


def test_a_hole_without_area_is_no_hole(write) -> None:
    found = read_geojson(write(feature({"type": "Polygon", "coordinates": [SQUARE, [[20, 20], [30, 30]], []]})))
    assert [len(ring) for ring in found.include[0]] == [5]


@pytest.mark.parametrize(
    ("content", "group"),
    [
        (feature(classification="Stroma"), "Stroma"),
        (feature(classification={"name": "tumor"}), "tumor"),
        (feature(classification={"names": ["Tumor", "Positive"]}), "Tumor: Positive"),
        (feature(classification=None), "Unclassified"),
        (feature(classification={"name": None}), "Unclassified"),
        ({**feature(), "properties": None}, "Unclassified"),
        (POLYGON, "Unclassified"),
        ([POLYGON], "Unclassified"),
    ],
)
def test_an_unknown_class_is_named_with_what_to_type_and_may_be_mapped(write, content: Any, group: str) -> None:
    path = write(content)
    with pytest.raises(InputError, match=rf"slide\.geojson: unknown annotation group; got '{group}'; .*'{group}=tumo"):
        read_geojson(path)
    assert read_geojson(path, {group: "tumour"}).holds_tumour
    assert not read_geojson(path, {group: "exclude"}).holds_tumour
    assert read_geojson(path, {group: "ignore"}).exclude == ()


def test_a_collection_without_objects_means_no_tumour(write) -> None:
    for content in ([], {"type": "FeatureCollection", "features": []}):
        found = read_geojson(write(content))
        assert not found.holds_tumour
        assert not found.mask(BOX, 64, 64).any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"slide\.geojson is empty; got 0 bytes; expected GeoJSON as QuPath"),
        ("{", r"slide\.geojson cannot be read; got JSONDecodeError"),
        ("[" * 100_000, r"slide\.geojson cannot be read; got RecursionError"),
        ("3", r"slide\.geojson is not an annotation; got int"),
        ('"Feature"', r"slide\.geojson is not an annotation; got str"),
        ("{}", r"slide\.geojson is not an annotation; got dict"),
        ("[3]", r"slide\.geojson is not an annotation; got list"),
        ('{"type": "FeatureCollection", "features": {}}', r"slide\.geojson is not an annotation; got dict"),
        ('{"cells": [], "type": "Topology"}', r"object 1 cannot be read; got .*type 'Topology'"),
    ],
)
def test_a_file_that_is_no_geojson_is_refused_by_name(write, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_geojson(write(content))


@pytest.mark.parametrize(
    "geometry",
    [
        "Polygon",
        {"type": "Circle", "coordinates": [1, 2, 3]},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": SQUARE},
        {"type": "Polygon", "coordinates": [[[1, 2], [3], [5, 6]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, "x"], [5, 6]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, None], [5, 6]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, float("nan")], [5, 6]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, float("inf")], [5, 6]]]},
        {"type": "GeometryCollection"},
    ],
)
def test_a_geometry_that_cannot_be_read_is_named_by_its_number(write, geometry: Any) -> None:
    with pytest.raises(InputError, match=r"slide\.geojson: object 2 cannot be read; got .*; expected a geometry whose"):
        read_geojson(write([feature(), feature(geometry)]))


def test_geojson_is_found_and_read_by_its_name_packed_or_not(write, tmp_path: Path) -> None:
    path = write([feature()])
    packed = tmp_path / "packed.geojson.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    plain = path.rename(tmp_path / "plain.json")
    for file in (packed, plain):
        found = find_annotation(tmp_path, file.name.partition(".")[0])
        assert found == file
        assert read_annotation(found).holds_tumour
