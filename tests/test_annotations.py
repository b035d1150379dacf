"""Outlines as ASAP writes them, the odd ones included, and masks against shapely's point in polygon."""

import csv
import gzip
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsi_maxmin.annotations import (
    Annotation,
    find_annotation,
    find_mask,
    read_annotation,
    read_asap_xml,
    stray_annotations,
)
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


def corners(annotation: Annotation) -> list[list[float]]:
    (ring,) = annotation.include[0]
    return ring.tolist()


def by_points(geometry: shapely.Geometry, box: Box, width: int, height: int) -> np.ndarray:
    x = box.x + (np.arange(width) + 0.5) * box.width / width
    y = box.y + (np.arange(height) + 0.5) * box.height / height
    return shapely.contains_xy(geometry, *np.meshgrid(x, y))


def test_decimal_commas_read_as_points(tmp_path: Path) -> None:
    path = asap(tmp_path, outline([("0,5", "1,25"), ("10.5", "1e0"), ("10,5", "9")]))
    assert corners(read_asap_xml(path)) == [[0.5, 1.25], [10.5, 1.0], [10.5, 9.0]]


def test_corners_are_taken_in_their_written_order_number(tmp_path: Path) -> None:
    twelve = [(float(np.cos(a)), float(np.sin(a))) for a in np.linspace(0, 6, 12)]
    path = asap(tmp_path, outline(twelve))
    text = path.read_text()
    coordinates = re.findall(r"<Coordinate .*?/>", text)
    path.write_text(text.replace("".join(coordinates), "".join(sorted(coordinates))))
    np.testing.assert_array_equal(corners(read_asap_xml(path)), twelve)


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


def test_an_unknown_type_is_an_error_and_one_without_a_type_is_an_outline(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'A' is of an unknown type; got Ellipse; expected one of Polygon, Spline"):
        read_asap_xml(asap(tmp_path, outline(INNER, kind="Ellipse")))
    assert corners(read_asap_xml(asap(tmp_path, outline(INNER, kind="None")))) == [list(point) for point in INNER]


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
    assert found.geometry().is_valid
    assert found.geometry().area == pytest.approx(200)
    mask = found.mask(BOX, 64, 64)
    assert mask[10, 2]
    assert mask[10, 17]
    assert not mask[2, 10]


THERE_AND_BACK: list[Point] = [(0, 0), (9, 0), (9, 9), (9, 0)]
FLAT = [[], [(1, 1)], [(1, 1), (9, 9)], [(1, 1)] * 4, [(0, 0), (5, 5), (9, 9)], THERE_AND_BACK]


@pytest.mark.parametrize("ring", FLAT)
def test_a_ring_without_area_is_counted_and_is_no_tumour(tmp_path: Path, ring: list[Point]) -> None:
    found = read_asap_xml(asap(tmp_path, outline(ring)))
    assert (found.include, found.without_area, found.holds_tumour) == ((), 1, False)


@pytest.mark.parametrize("corners", [[(10, 40), (50, 10)], SQUARE])
def test_a_rectangle_is_given_by_two_or_by_four_of_its_corners(tmp_path: Path, corners: list[Point]) -> None:
    found = read_asap_xml(asap(tmp_path, outline(corners, kind="Rectangle")))
    assert found.mask(BOX, 64, 64).sum() == 40 * 30


def test_slides_hold_tumour_where_an_included_outline_has_area() -> None:
    square, line = np.array(SQUARE, dtype=float), np.array([(0.0, 0.0), (9.0, 9.0)])
    assert Annotation(include=((line,), (square,)), exclude=()).holds_tumour
    assert not Annotation(include=((line,),), exclude=((square,),)).holds_tumour


def test_the_boxes_of_the_outlines_hold_them_in_their_order(tmp_path: Path) -> None:
    found = read_asap_xml(asap(tmp_path, outline([(20.5, 3), (-2.5, 9), (7, 12.1)]), outline(SQUARE)))
    assert found.tumour_boxes() == [Box(x=-2, y=3, width=22, height=9), Box(x=10, y=10, width=40, height=30)]


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


@pytest.mark.parametrize("bad", ["", "abc", "1,000,5", "nan", "inf", "1e999", "1e9"])
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
    with pytest.raises(InputError, match=r"no such annotation; got .*nowhere; expected an ASAP XML or GeoJSON file"):
        find_annotation(tmp_path / "nowhere", "slide")


@pytest.mark.parametrize("ending", [".xml", ".xml.gz", ".geojson", ".geojson.gz", ".json"])
def test_an_annotation_is_found_whatever_its_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.b{ending}"
    path.touch()
    assert find_annotation(tmp_path, "a.b") == path


def test_annotations_of_no_slide_are_listed(tmp_path: Path) -> None:
    for name in ("a.xml", "b.xml.gz", "c.geojson", "notes.txt"):
        (tmp_path / name).write_text("")
    assert stray_annotations(tmp_path, {"a", "b.xml"}) == ["b.xml.gz", "c.geojson"]
    assert stray_annotations(tmp_path, {"a", "b", "c"}) == []


def test_two_annotations_of_a_slide_are_both_named(tmp_path: Path) -> None:
    for ending in (".json", ".xml.gz"):
        (tmp_path / f"slide{ending}").touch()
    with pytest.raises(InputError, match=r"several annotations of slide .*got slide\.xml\.gz and slide\.json"):
        find_annotation(tmp_path, "slide")


def test_the_mask_of_a_slide_is_found_beside_the_slide(tmp_path: Path) -> None:
    assert find_mask(tmp_path, "slide") is None
    for ending in (".tiff", ".tif", "_mask.tiff", "_mask.tif"):
        path = tmp_path / f"slide{ending}"
        path.touch()
        assert find_mask(tmp_path, "slide") == path
    assert find_mask(path, "anything") == path
    with pytest.raises(InputError, match=r"no such mask; got .*nowhere"):
        find_mask(tmp_path / "nowhere", "slide")


def test_a_file_is_read_by_the_ending_of_its_name(tmp_path: Path) -> None:
    path = asap(tmp_path, outline(SQUARE, "None"))
    packed = tmp_path / "slide.XML.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        assert read_annotation(file, {"None": "tumour"}).mask(BOX, 64, 64).sum() == 1200
    with pytest.raises(InputError, match=r"got a file that ends in '\.svg'; expected ASAP's \.xml or QuPath's"):
        read_annotation(tmp_path / "slide.svg")


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"<ASAP_Annotations/>", mtime=0)[:-9], b"\x1f\x8b\x08\0" * 9]
)
def test_a_packed_file_that_is_damaged_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "slide.xml.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"slide\.xml\.gz cannot be read; got .*; expected an ASAP XML file"):
        read_asap_xml(path)


coordinate = st.floats(-40, 140).map(lambda value: round(value, 3))
rings = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9)


@given(include=rings, exclude=rings, width=st.integers(1, 40), height=st.integers(1, 40))
@settings(max_examples=100)
def test_a_pixel_is_tumour_where_its_centre_is_in_an_outline_and_in_no_exclusion(
    include: list[tuple[float, float]], exclude: list[tuple[float, float]], width: int, height: int
) -> None:
    """Centres on an outline may go either way."""
    annotation = Annotation(include=((np.array(include),),), exclude=((np.array(exclude),),))
    box = Box(x=-7, y=3, width=90, height=60)
    expected = by_points(annotation.geometry(), box, width, height)
    edges = shapely.MultiLineString([[*ring, ring[0]] for ring in (include, exclude)]).buffer(1e-6)
    certain = ~by_points(edges, box, width, height)
    np.testing.assert_array_equal(annotation.mask(box, width, height)[certain], expected[certain])


def test_holes_of_one_outline_do_not_cut_another() -> None:
    ring, patch = (np.array(points, dtype=float) for points in (SQUARE, INNER))
    for include in (((ring, patch), (patch,)), ((patch,), (ring, patch))):
        found = Annotation(include=include, exclude=())
        assert found.mask(BOX, 64, 64).sum() == found.geometry().area == 1200


def test_a_drawn_mask_has_the_outlines_and_keeps_the_exclusions(tmp_path: Path) -> None:
    found = read_asap_xml(asap(tmp_path, outline(SQUARE), outline(INNER, "_2")))
    drawn = found.drawn_mask(Box(x=5, y=0, width=64, height=48))
    assert drawn.shape == (48, 64)
    assert drawn[10:41, 5:46].all()
    assert drawn.sum() == 41 * 31


def test_an_annotation_survives_pickling_without_its_cache() -> None:
    angle = np.linspace(0, 6, 50_000)
    ring = 30_000 * np.column_stack([np.cos(angle), np.sin(angle)])
    found = Annotation(include=((ring,),), exclude=(), without_area=3)
    box = Box(x=29_000, y=-5_000, width=512, height=512)
    size, mask = len(pickle.dumps(found)), found.mask(box, 512, 512)
    copy = pickle.loads(pickle.dumps(found))
    assert len(pickle.dumps(found)) == size < 1.1 * ring.nbytes
    assert copy.without_area == 3
    np.testing.assert_array_equal(copy.mask(box, 512, 512), mask)


def test_threads_share_an_annotation() -> None:
    angle = np.linspace(0, 40, 9_999)
    ring = (2_000 + 1_500 * np.cos(angle * 7.3))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    boxes = [Box(x=x, y=y, width=300, height=300) for x in range(-3000, 3000, 300) for y in (-900, 0, 900)]
    expected = [Annotation(include=((ring,),), exclude=()).mask(box, 100, 100) for box in boxes]
    shared = Annotation(include=((ring,),), exclude=())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda box: shared.mask(box, 100, 100), boxes))
    np.testing.assert_array_equal(found, expected)


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
    (box,) = found.tumour_boxes()
    assert (box.x, box.y, box.right, box.bottom) == pytest.approx((315, 335, 543, 626), abs=60)
    assert 0 < found.mask(Box(x=0, y=0, width=1472, height=690), 368, 172).mean() < 0.2


@pytest.fixture(scope="module")
def read_camelyon() -> Callable[[Path], dict[str, Annotation]]:
    """Return a function that reads the outlines of tumor_001 to tumor_040, once for all tests."""
    found: dict[str, Annotation] = {}

    def read(data_dir: Path) -> dict[str, Annotation]:
        if not found:
            for path in sorted((data_dir / "camelyon16" / "annotations").glob("tumor_*.xml.gz")):
                found[path.name.removesuffix(".xml.gz")] = read_annotation(path)
        return found

    return read


@pytest.mark.data
def test_camelyon16_annotations_read_without_help(
    data_dir: Path, read_camelyon: Callable[[Path], dict[str, Annotation]]
) -> None:
    found = read_camelyon(data_dir)
    assert len(found) == 40
    assert all(annotation.holds_tumour for annotation in found.values())
    assert sum(len(annotation.exclude) for annotation in found.values()) > 80
    assert all(annotation.geometry().is_valid for annotation in list(found.values())[::8])


@pytest.mark.data
def test_every_published_patch_has_the_tumour_that_its_name_says(
    data_dir: Path, read_camelyon: Callable[[Path], dict[str, Annotation]]
) -> None:
    """Two pixels of a patch are 8e-6 of it; most names agree to the last digit."""
    truths, differences = read_camelyon(data_dir), []
    for file in sorted((data_dir / "camelyon16" / "lists").glob("*.csv.gz")):
        with gzip.open(file, "rt", encoding="utf-8", newline="") as rows:
            names = [row[0] for row in csv.reader(rows)]
        for slide_id, x, y, fraction in re.findall(
            r"training-tumor-(tumor_\d+)\.tif\S*_x_(\d+)_y_(\d+)_\S*metastatic_(\S+)_w_512", "\n".join(names)
        ):
            if slide_id in truths:
                mask = truths[slide_id].drawn_mask(Box(x=int(x), y=int(y), width=512, height=512))
                differences.append(abs(mask.mean() - float(fraction)))
    assert len(differences) == 3994
    assert max(differences) < 8e-6
    assert np.mean(np.array(differences) == 0) > 0.99


@pytest.mark.data
def test_the_drawn_mask_of_a_published_patch_is_the_published_mask(
    data_dir: Path, read_camelyon: Callable[[Path], dict[str, Annotation]]
) -> None:
    """Pixels on the outline belong to the drawn mask and may belong to the other, and no others differ."""
    found = read_camelyon(data_dir)["tumor_001"]
    masks = sorted((data_dir / "camelyon16" / "patches512").glob("mask_*tumor_001*.png"))
    assert len(masks) == 4
    for file in masks:
        x, y = (int(re.search(rf"_{axis}_(\d+)_", file.name)[1]) for axis in "xy")  # type: ignore[index]
        box = Box(x=x, y=y, width=512, height=512)
        published = np.asarray(Image.open(file).convert("L")) > 0
        np.testing.assert_array_equal(found.drawn_mask(box), published)
        window = box.x - 9, box.y - 9, box.right + 9, box.bottom + 9
        near = by_points(shapely.clip_by_rect(found.geometry(), *window).boundary.buffer(1.5), box, 512, 512)
        assert not (found.mask(box, 512, 512) ^ published)[~near].any()
