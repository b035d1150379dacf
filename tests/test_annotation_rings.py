"""Rings to pixels: against a ray through each centre, and with the index against without it."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsi_maxmin.annotations._index import RegionIndex
from wsi_maxmin.annotations._rings import Region, as_ring, draw, fill
from wsi_maxmin.annotations._shapes import has_area, to_geometry
from wsi_maxmin.geometry import Box

# A coarse lattice makes corners meet centres, edges and each other.
lattice = st.integers(-60, 160).map(lambda value: value / 2)
rings = st.lists(st.tuples(lattice, lattice), min_size=1, max_size=12).map(np.array)
regions = st.lists(st.lists(rings, min_size=1, max_size=3).map(tuple), max_size=3)


def inside(region: Region, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Count, for each centre, the edges above it that span its column; one that it lies on counts as above."""
    odd = np.zeros((len(y), len(x)), dtype=bool)
    for ring in region:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if x0 > x1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            for column in np.flatnonzero((x0 <= x) & (x < x1)):
                odd[:, column] ^= y >= y0 + (x[column] - x0) / (x1 - x0) * (y1 - y0)
    return odd


def vertices(found: list[Region]) -> int:
    return sum(len(ring) for region in found for ring in region)


@given(
    region=st.lists(rings, min_size=1, max_size=3).map(tuple), size=st.tuples(st.integers(1, 24), st.integers(1, 24))
)
@settings(max_examples=100)
def test_a_pixel_is_inside_where_a_ray_from_its_centre_crosses_an_odd_number_of_edges(
    region: Region, size: tuple[int, int]
) -> None:
    box, (width, height) = Box(x=-8, y=4, width=48, height=40), size
    x = box.x + (np.arange(width) + 0.5) * (box.width / width)
    y = box.y + (np.arange(height) + 0.5) * (box.height / height)
    np.testing.assert_array_equal(fill([region], box, width, height), inside(region, x, y))


@given(found=regions, cut=st.integers(1, 39), across=st.booleans(), step=st.sampled_from([1, 2, 4]))
def test_the_masks_of_neighbouring_boxes_join_to_the_mask_of_both(
    found: list[Region], cut: int, across: bool, step: int
) -> None:
    def mask(x: int, y: int, width: int, height: int) -> np.ndarray:
        return fill(found, Box(x=x - 9, y=y + 5, width=width * step, height=height * step), width, height)

    if across:
        parts = [mask(0, 0, cut, 40), mask(cut * step, 0, 40 - cut, 40)]
    else:
        parts = [mask(0, 0, 40, cut), mask(0, cut * step, 40, 40 - cut)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=int(across)), mask(0, 0, 40, 40))


@given(
    points=hnp.arrays(np.float64, (4, 2), elements=st.floats(0, 1).map(lambda value: round(40 * value, 2))),
    lattice_points=st.booleans(),
)
def test_triangles_that_share_an_edge_neither_overlap_nor_leave_a_gap(points: np.ndarray, lattice_points: bool) -> None:
    if lattice_points:
        points = np.round(points) + 0.5
    start, end, left, right = points
    direction = end - start
    sides = [direction[0] * (third - start)[1] - direction[1] * (third - start)[0] for third in (left, right)]
    if sides[0] * sides[1] >= 0:
        return
    box = Box(x=0, y=0, width=41, height=41)
    one, other = (fill([(ring,)], box, 41, 41) for ring in (points[[0, 1, 2]], points[[1, 0, 3]]))
    both = fill([(points[[0, 3, 1, 2]],)], box, 41, 41)
    assert not (one & other).any()
    np.testing.assert_array_equal(one | other, both)


def test_more_crossings_than_a_byte_counts_keep_their_parity() -> None:
    triangle = np.array([(1.0, 9.0), (5.0, 1.0), (9.0, 9.0)])
    box = Box(x=0, y=0, width=10, height=10)
    once = fill([(triangle,)], box, 10, 10)
    assert once.any()
    np.testing.assert_array_equal(fill([(np.tile(triangle, (257, 1)),)], box, 10, 10), once)
    assert not fill([(np.tile(triangle, (256, 1)),)], box, 10, 10).any()


def test_a_box_far_inside_a_ring_is_full_and_one_far_outside_is_empty() -> None:
    ring = np.array([(-1e6, -1e6), (1e6, -1e6), (1e6, 1e6), (-1e6, 1e6)])
    assert fill([(ring,)], Box(x=5, y=7, width=33, height=9), 33, 9).all()
    assert not fill([(ring,)], Box(x=2_000_000, y=7, width=33, height=9), 33, 9).any()
    assert fill([], Box(x=0, y=0, width=5, height=4), 5, 4).shape == (4, 5)


def test_a_drawn_ring_has_its_corners_and_a_drawn_hole_takes_its_own_away() -> None:
    square = np.array([(10.0, 10.0), (50.0, 10.0), (50.0, 40.0), (10.0, 40.0)])
    hole = np.array([(20.0, 20.0), (30.0, 20.0), (30.0, 30.0), (20.0, 30.0)])
    box = Box(x=0, y=0, width=64, height=64)
    assert draw([(square,)], box).sum() == 41 * 31
    assert draw([(square, hole)], box).sum() == 41 * 31 - 11 * 11
    assert draw([(square, hole), (square,)], box).sum() == 41 * 31


def walk(seed: int, points: int, spread: float, step: float) -> np.ndarray:
    """Return a ring that crosses itself everywhere: a walk on whole numbers that wraps within ±`spread`."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, step, (points, 2))
    # Far jumps, level stretches and repeated points are what a reduction could get wrong.
    steps[rng.random(points) < 0.02] *= 200
    steps[rng.random(points) < 0.2, 1] = 0
    steps[rng.random(points) < 0.05] = 0
    return np.round(np.abs((np.cumsum(steps, axis=0) + spread) % (4 * spread) - 2 * spread) - spread)


@given(
    seed=st.integers(0, 2**32),
    points=st.integers(3, 3000),
    spread=st.sampled_from([300, 3000, 30_000]),
    step=st.sampled_from([1, 8, 60]),
    corner=st.tuples(st.floats(-1.2, 1.1), st.floats(-1.2, 1.1)),
    size=st.tuples(st.integers(1, 700), st.integers(1, 200)),
)
@settings(max_examples=150)
def test_the_index_changes_no_pixel(
    seed: int, points: int, spread: int, step: float, corner: tuple[float, float], size: tuple[int, int]
) -> None:
    found = [(walk(seed, points, spread, step), walk(seed + 1, points // 3 + 1, spread, step))]
    box = Box(x=round(corner[0] * spread), y=round(corner[1] * spread), width=size[0], height=size[1])
    near = RegionIndex(found).near(box)
    assert vertices(near) <= vertices(found) + 8
    np.testing.assert_array_equal(draw(near, box), draw(found, box))
    for shift in (0.0, 0.3):
        moved = [tuple(ring + shift for ring in region) for region in found]
        near = RegionIndex(moved).near(box)
        np.testing.assert_array_equal(fill(near, box, *size), fill(moved, box, *size))


@given(found=regions, x=st.integers(-40, 80), y=st.integers(-40, 80))
@settings(max_examples=150)
def test_the_index_changes_no_pixel_where_corners_meet(found: list[Region], x: int, y: int) -> None:
    """The cells are far larger than these rings, so each ring gets a far end and the box lies at the border of one."""
    far = [
        tuple(np.vstack([np.round(ring), [(90_000, 70_000), (90_001, -50_000)]]) for ring in region) for region in found
    ]
    for moved in ((0, 0), (1024, 1024), (-1024, 512)):
        there = Box(x=x + moved[0], y=y + moved[1], width=16, height=16)
        placed = [tuple(ring + moved for ring in region) for region in far]
        near = RegionIndex(placed).near(there)
        np.testing.assert_array_equal(draw(near, there), draw(placed, there))
        np.testing.assert_array_equal(fill(near, there, 16, 16), fill(placed, there, 16, 16))


def wavy(points: int, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return (radius * (1 + 0.05 * np.sin(97 * angle)))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize("points", [100, 100_000])
def test_a_box_costs_the_points_near_it_whatever_the_outline_has(points: int) -> None:
    ring = wavy(points, 40_000)
    index = RegionIndex([(ring,)])
    for x, y in [*np.round(ring[:: points // 50]).astype(int).tolist(), (0, 0), (30_000, 0), (39_000, 30_000)]:
        assert vertices(index.near(Box(x=x - 256, y=y - 256, width=512, height=512))) < 1000


def test_a_box_deep_inside_an_outline_costs_a_few_points_and_one_outside_none() -> None:
    index = RegionIndex([(wavy(100_000, 40_000),)])
    assert 0 < vertices(index.near(Box(x=5, y=5, width=512, height=512))) < 16
    assert not index.near(Box(x=60_000, y=60_000, width=512, height=512))


def test_thousands_of_small_outlines_cost_a_box_those_near_it() -> None:
    corner = np.array([(0.0, 0.0), (90.0, 10.0), (40.0, 80.0)])
    index = RegionIndex([(corner + np.array((x, y)),) for x in range(0, 40_000, 400) for y in range(0, 40_000, 400)])
    assert len(index.near(Box(x=20_000, y=20_000, width=512, height=512))) <= 16


def test_a_region_keeps_its_outline_first_where_only_a_hole_is_near() -> None:
    far = np.array([(50_000.0, 50_000.0), (60_000.0, 50_000.0), (60_000.0, 60_000.0)])
    near = np.array([(10.0, 10.0), (40.0, 10.0), (40.0, 40.0)])
    box = Box(x=0, y=0, width=64, height=64)
    (region,) = RegionIndex([(far, near)]).near(box)
    assert [len(ring) for ring in region] == [0, 3]
    assert not draw([region], box).any()
    np.testing.assert_array_equal(fill([region], box, 64, 64), fill([(far, near)], box, 64, 64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e8])
def test_points_off_any_slide_make_no_ring(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite or beyond"):
        as_ring([[0.0, 0.0], [bad, 1.0]])
    assert as_ring([]).shape == (0, 2)


@given(region=st.lists(rings, min_size=1, max_size=3).map(tuple))
@settings(max_examples=100)
def test_the_geometry_of_a_region_is_valid_and_has_its_pixels(region: Region) -> None:
    geometry = to_geometry([region])
    assert geometry.is_valid
    assert all(part.geom_type == "Polygon" for part in getattr(geometry, "geoms", [geometry]))
    box = Box(x=-31, y=-31, width=113, height=113)
    # A shift off the lattice, so that few centres lie on an edge.
    mask = fill([tuple(ring + np.array((0.137, 0.071)) for ring in region)], box, 113, 113)
    centres = np.meshgrid(np.arange(113) - 30.5 - 0.137, np.arange(113) - 30.5 - 0.071)
    boundary = shapely.MultiLineString([[*ring, ring[0]] for ring in region if len(ring)]).buffer(1e-6)
    certain = ~shapely.contains_xy(boundary, *centres)
    np.testing.assert_array_equal(shapely.contains_xy(geometry, *centres)[certain], mask[certain])
    if any(has_area(ring) for ring in region) and len(region) == 1:
        assert geometry.area > 0
