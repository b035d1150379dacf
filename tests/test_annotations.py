"""Outlines as ASAP writes them, the odd ones included, and masks against shapely's point in polygon."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapely.geometry import Polygon

from wsi_maxmin.annotations import Annotation, find_annotation, read_asap_xml
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box

Point = tuple[object, object]
SQUARE: list[Point] = [(10, 10), (50, 10), (50, 40), (10, 40)]
INNER: list[Point] = [(20, 20), (30, 20), (30, 30), (20, 30)]
BOX = Box(x=0, y=0, width=64, height=64)

BILLION_LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<ASAP_Annotations><Annotations>&c;</Annotations></ASAP_Annotations>"""
OUTSIDE_FILE = """<?xml version="1.0"?>
<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><ASAP_Annotations>&e;</ASAP_Annotations>"""


def outline(points: list[Point], group: str = "Tumor", kind: str = "Polygon") -> str:
    coordinates = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(points))
    return (
        f'<Annotation Name="A" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{coordinates}</Coordinates></Annotation>"
    )


def asap(folder: Path, *outlines: str) -> Path:
    path = folder / "slide.xml"
    # ASAP lists its groups in the same file, with an attribute of the same name.
    groups = '<AnnotationGroups><Group Name="_0" PartOfGroup="None" Color="#00ff00"/></AnnotationGroups>'
    path.write_text(
        f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{"".join(outlines)}</Annotations>{groups}'
        "</ASAP_Annotations>"
    )
    return path


def by_points(geometry: shapely.Geometry, box: Box, width: int, height: int) -> np.ndarray:
    x = box.x + (np.arange(width) + 0.5) * box.width / width
    y = box.y + (np.arange(height) + 0.5) * box.height / height
    return shapely.contains_xy(geometry, *np.meshgrid(x, y))


def test_decimal_commas_read_as_points(tmp_path: Path) -> None:
    path = asap(tmp_path, outline([("0,5", "1,25"), ("10.5", "1e0"), ("10,5", "9")]))
    assert list(read_asap_xml(path).include[0].exterior.coords)[:3] == [(0.5, 1.25), (10.5, 1.0), (10.5, 9.0)]


def test_corners_are_taken_in_their_written_order_number(tmp_path: Path) -> None:
    twelve = [(float(np.cos(a)), float(np.sin(a))) for a in np.linspace(0, 6, 12)]
    path = asap(tmp_path, outline(twelve))
    text = path.read_text()
    coordinates = re.findall(r"<Coordinate .*?/>", text)
    path.write_text(text.replace("".join(coordinates), "".join(sorted(coordinates))))
    assert list(read_asap_xml(path).include[0].exterior.coords)[:12] == twelve


@pytest.mark.parametrize("group", ["Tumor", "_0", "_1"])
@pytest.mark.parametrize("hole", ["_2", "Exclusion"])
@pytest.mark.parametrize("kind", ["Polygon", "Spline", "Rectangle"])
def test_exclusions_are_cut_out_of_tumour_whatever_their_order(
    tmp_path: Path, group: str, hole: str, kind: str
) -> None:
    found = read_asap_xml(asap(tmp_path, outline(INNER, hole), outline(SQUARE, group, kind)))
    mask = found.mask(BOX, 64, 64)
    assert mask.sum() == 40 * 30 - 10 * 10
    assert mask[10, 10]
    assert not mask[25, 25]
    assert found.geometry().area == 40 * 30 - 10 * 10


def test_dots_are_counted_and_left_out_whatever_their_group(tmp_path: Path) -> None:
    path = asap(tmp_path, outline([(1, 1)], "cells", "Dot"), outline([(1, 1), (2, 2)], "None", "PointSet"))
    found = read_asap_xml(path)
    assert (found.include, found.exclude, found.without_area) == ((), (), 2)


def test_an_unknown_group_is_named_with_what_to_type(tmp_path: Path) -> None:
    path = asap(tmp_path, outline(SQUARE, "None"))
    with pytest.raises(
        InputError, match=r"slide\.xml: unknown .*group; got 'None'; expected one of Tumor, .*'None=tum"
    ):
        read_asap_xml(path)


@pytest.mark.parametrize(("role", "tumour_px"), [("tumour", 1200), ("exclude", 0), ("ignore", 0)])
def test_a_mapped_group_has_the_role_it_was_given(tmp_path: Path, role: str, tumour_px: int) -> None:
    found = read_asap_xml(asap(tmp_path, outline(SQUARE, "None")), {"None": role})  # type: ignore[dict-item]
    assert found.mask(BOX, 64, 64).sum() == tumour_px
    assert len(found.exclude) == (role == "exclude")


def test_a_mapping_may_overrule_a_known_group(tmp_path: Path) -> None:
    found = read_asap_xml(asap(tmp_path, outline(SQUARE), outline(INNER, "_2")), {"_2": "ignore"})
    assert found.mask(BOX, 64, 64).sum() == 1200


def test_a_ring_that_crosses_itself_becomes_its_two_lobes(tmp_path: Path) -> None:
    bow_tie: list[Point] = [(0, 0), (20, 20), (20, 0), (0, 20)]
    found = read_asap_xml(asap(tmp_path, outline(bow_tie)))
    assert all(polygon.is_valid for polygon in found.include)
    assert sum(polygon.area for polygon in found.include) == pytest.approx(200)
    mask = found.mask(BOX, 64, 64)
    assert mask[10, 2]
    assert mask[10, 17]
    assert not mask[2, 10]


@pytest.mark.parametrize("ring", [[], [(1, 1)], [(1, 1), (9, 9)], [(1, 1)] * 4, [(0, 0), (5, 5), (9, 9)]])
def test_a_ring_without_area_is_no_tumour(tmp_path: Path, ring: list[Point]) -> None:
    assert read_asap_xml(asap(tmp_path, outline(ring))).include == ()


def test_a_ring_reaches_off_the_slide_and_still_fills_what_lies_on_it(tmp_path: Path) -> None:
    found = read_asap_xml(asap(tmp_path, outline([(-1000, -1000), (20, -1000), (20, 30), (-1000, 30)])))
    mask = found.mask(BOX, 64, 64)
    assert mask[:30, :20].all()
    assert mask.sum() == 30 * 20
    far = Box(x=5000, y=5000, width=64, height=64)
    assert not found.mask(far, 64, 64).any()


def test_an_annotation_without_outlines_means_no_tumour(tmp_path: Path) -> None:
    found = read_asap_xml(asap(tmp_path))
    assert found.include == ()
    assert not found.mask(BOX, 64, 64).any()
    assert found.geometry().is_empty


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"slide\.xml is empty; got 0 bytes; expected an ASAP XML file; copy the file again"),
        ("no xml at all", r"slide\.xml cannot be read"),
        ("<ASAP_Annotations><Annotations>", r"slide\.xml cannot be read"),
        ("<html/>", r"slide\.xml is not an annotation; got <html>; expected <ASAP_Annotations>"),
        (BILLION_LAUGHS, r"slide\.xml cannot be read; got EntitiesForbidden"),
        (OUTSIDE_FILE, r"slide\.xml cannot be read; got EntitiesForbidden"),
    ],
)
def test_a_file_that_is_no_safe_annotation_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "slide.xml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_asap_xml(path)


def test_a_missing_annotation_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such annotation; got .*absent\.xml"):
        read_asap_xml(tmp_path / "absent.xml")


@pytest.mark.parametrize("bad", ["", "abc", "1,000,5", "nan", "inf", "1e999"])
def test_a_coordinate_that_is_no_number_is_refused(tmp_path: Path, bad: str) -> None:
    path = asap(tmp_path, outline([(0, 0), (9, bad), (9, 9)]))
    with pytest.raises(InputError, match=r"slide\.xml: a coordinate of 'A' cannot be read"):
        read_asap_xml(path)


def test_a_coordinate_without_y_is_refused(tmp_path: Path) -> None:
    path = asap(tmp_path, outline(SQUARE))
    path.write_text(path.read_text().replace('Y="40"', ""))
    with pytest.raises(InputError, match=r"coordinate of 'A' cannot be read; got KeyError\('Y'\)"):
        read_asap_xml(path)


def test_an_annotation_is_found_by_file_or_by_the_slides_name(tmp_path: Path) -> None:
    path = asap(tmp_path)
    assert find_annotation(path, "anything") == path
    assert find_annotation(tmp_path, "slide") == path
    assert find_annotation(tmp_path, "other") is None
    with pytest.raises(InputError, match=r"no such annotation; got .*nowhere; expected an ASAP XML file or a folder"):
        find_annotation(tmp_path / "nowhere", "slide")


coordinate = st.floats(-40, 140).map(lambda value: round(value, 3))
rings = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9)


@given(include=rings, exclude=rings, width=st.integers(1, 40), height=st.integers(1, 40))
@settings(max_examples=100)
def test_a_pixel_is_tumour_where_its_centre_is_in_an_outline_and_in_no_exclusion(
    include: list[tuple[float, float]], exclude: list[tuple[float, float]], width: int, height: int
) -> None:
    """Centres on an outline may go either way."""
    polygons = [
        tuple(part for part in shapely.get_parts(shapely.make_valid(Polygon(ring))) if isinstance(part, Polygon))
        for ring in (include, exclude)
    ]
    annotation = Annotation(include=polygons[0], exclude=polygons[1])
    box = Box(x=-7, y=3, width=90, height=60)
    expected = by_points(annotation.geometry(), box, width, height)
    edges = shapely.union_all([polygon.boundary for polygon in [*polygons[0], *polygons[1]]]).buffer(1e-6)
    certain = ~by_points(edges, box, width, height)
    np.testing.assert_array_equal(annotation.mask(box, width, height)[certain], expected[certain])


def test_holes_of_one_outline_do_not_cut_another(tmp_path: Path) -> None:
    ring = Polygon(SQUARE, [INNER])  # type: ignore[arg-type]
    patch = Polygon(INNER)  # type: ignore[arg-type]
    assert Annotation(include=(ring, patch), exclude=()).mask(BOX, 64, 64).sum() == 1200
    assert Annotation(include=(patch, ring), exclude=()).mask(BOX, 64, 64).sum() == 1200


def test_masks_of_neighbouring_boxes_join_to_the_mask_of_both(tmp_path: Path) -> None:
    found = read_asap_xml(asap(tmp_path, outline([(3, 5), (60, 12), (41, 58), (17, 33)])))
    whole = found.mask(BOX, 32, 32)
    halves = [found.mask(Box(x=x, y=0, width=32, height=64), 16, 32) for x in (0, 32)]
    np.testing.assert_array_equal(np.hstack(halves), whole)
    assert whole.any()


@pytest.mark.data
def test_genuine_decimal_commas_lie_on_their_slide(data_dir: Path) -> None:
    path = data_dir / "slides" / "diag_packer_example.xml"
    found = read_asap_xml(path, {"None": "tumour"})
    assert len(found.include) == 1
    assert found.include[0].bounds == pytest.approx((315, 335, 543, 626), abs=60)
    assert 0 < found.mask(Box(x=0, y=0, width=1472, height=690), 368, 172).mean() < 0.2


@pytest.mark.data
def test_camelyon16_annotations_read_without_help(data_dir: Path, tmp_path: Path) -> None:
    packed = sorted((data_dir / "camelyon16" / "annotations").glob("tumor_*.xml.gz"))
    assert len(packed) == 40
    exclusions = 0
    for source in packed[::4]:
        path = tmp_path / source.stem
        path.write_bytes(gzip.decompress(source.read_bytes()))
        found = read_asap_xml(path)
        assert found.include, source.name
        assert all(polygon.is_valid for polygon in (*found.include, *found.exclude))
        exclusions += len(found.exclude)
    assert exclusions > 20


@pytest.mark.data
def test_the_mask_of_a_published_patch_is_the_published_mask(data_dir: Path, tmp_path: Path) -> None:
    """PIL filled theirs with the outline, so pixels on the outline may differ, and no others."""
    path = tmp_path / "tumor_001.xml"
    packed = data_dir / "camelyon16" / "annotations" / "tumor_001.xml.gz"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    found = read_asap_xml(path)
    masks = sorted((data_dir / "camelyon16" / "patches512").glob("mask_*tumor_001*.png"))
    assert len(masks) == 4
    for file in masks:
        x, y = (int(re.search(rf"_{axis}_(\d+)_", file.name)[1]) for axis in "xy")  # type: ignore[index]
        box = Box(x=x, y=y, width=512, height=512)
        published = np.asarray(Image.open(file).convert("L")) > 0
        corners = box.x - 9, box.y - 9, box.right + 9, box.bottom + 9
        near = by_points(shapely.clip_by_rect(found.geometry(), *corners).boundary.buffer(1.5), box, 512, 512)
        different = found.mask(box, 512, 512) ^ published
        assert not different[~near].any()
        assert published.mean() == pytest.approx(float(re.search(r"metastatic_([\d.]+)_w", file.name)[1]))  # type: ignore[index]
