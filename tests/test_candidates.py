"""Candidates of a heatmap: the highest first, a radius apart, where the pixels are; and those of files."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import ProbNMS

from tests.test_regions import write_store
from wsi_maxmin.candidates import CandidateSettings, disk, find_candidates, find_peaks, level_for, read_candidates
from wsi_maxmin.errors import InputError

SIZE_PX = (8 * 1200, 8 * 800)


def greedy(values, threshold, radius):
    """Take the highest value, upper left first, until none is left: the definition."""
    values, found = values.astype(float), []
    rows, columns = np.indices(values.shape)
    while values.max() >= threshold:
        row, column = divmod(int(values.argmax()), values.shape[1])
        found.append((row, column))
        values[np.hypot(rows - row, columns - column) <= radius] = -1
    return found


@given(st.integers(0, 2**32 - 1), st.floats(0, 9))
def test_peaks_are_those_of_the_definition(seed, radius):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12, (rng.integers(1, 40), rng.integers(1, 40))) / 11
    rows, columns = find_peaks(values, threshold=0.3, around=disk(radius))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == greedy(values, 0.3, radius)


def test_peaks_with_squares_around_them_are_monai_s():
    values = np.random.default_rng(0).random((40, 50))
    rows, columns = find_peaks(values, threshold=0.6, around=np.ones((5, 5), bool))
    theirs = ProbNMS(spatial_dims=2, prob_threshold=0.6, box_size=5)(values)
    assert [(row, column) for _, row, column in theirs] == list(zip(rows, columns, strict=True))


def test_peaks_of_large_maps_go_on_behind_the_first_block():
    values = np.linspace(1, 0.5, 6400).reshape(80, 80)
    rows, columns = find_peaks(values, threshold=0.5, around=disk(12))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == greedy(values, 0.5, 12)


def test_peaks_are_as_many_as_asked_and_away_from_what_is_taken():
    values = np.arange(100.0).reshape(10, 10)
    assert [at.tolist() for at in find_peaks(values, threshold=0, around=disk(2), most=1)] == [[9], [9]]
    taken = [(9, 9)]
    assert [at.tolist() for at in find_peaks(values, threshold=0, around=disk(2), most=1, taken=taken)] == [[9], [6]]
    assert len(find_peaks(values, threshold=200, around=disk(2))[0]) == 0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a map of squares of 16 display px (32 µm), three bright and one dim, 255 to 51."""
    values = np.zeros((1, 800, 1200), np.uint8)
    for value, row, column in ((255, 96, 96), (204, 96, 480), (153, 480, 240), (51, 640, 960), (204, 96, 128)):
        values[0, row : row + 16, column : column + 16] = value
    return write_store(tmp_path_factory.mktemp("map") / "heatmap.ome.zarr", values, SIZE_PX)


def test_candidates_are_on_the_coarsest_level_of_at_most_8_um(store):
    assert (level_for(store, 8), store.georef.scale_um(2)) == (2, 8.0)
    assert level_for(store, 0.1) == 0


def test_candidates_lie_on_what_the_map_marks_in_order(store):
    found = find_candidates(store, CandidateSettings(threshold=0.5, smooth_um=0), 0.5)
    assert found.probability.tolist() == pytest.approx([1, 0.8, 0.6])
    # The first pixel of a square of equal ones, 32 level-0 px wide; the square 64 µm right of the first has none.
    assert list(zip(found.x.tolist(), found.y.tolist(), strict=True)) == [
        (96 * 8 + 16, 96 * 8 + 16),
        (480 * 8 + 16, 96 * 8 + 16),
        (240 * 8 + 16, 480 * 8 + 16),
    ]
    assert found.highest == 1


def test_a_smaller_radius_finds_the_neighbour(store):
    found = find_candidates(store, CandidateSettings(threshold=0.5, smooth_um=0, radius_um=50), 0.5)
    assert len(found) == 4


def test_a_radius_wider_than_the_map_leaves_the_highest_and_takes_no_more_memory(store):
    (highest,) = find_candidates(store, CandidateSettings(threshold=0.5, smooth_um=0, radius_um=1e9), 0.5).probability
    assert highest == find_candidates(store, CandidateSettings(threshold=0.5, smooth_um=0), 0.5).highest


@pytest.mark.parametrize("smooth_um", [-1, 1001, math.inf, math.nan])
def test_a_smoothing_that_is_none_is_an_error(smooth_um):
    with pytest.raises(InputError, match=r"no such smoothing of candidates; got .*; expected 0 to 1000 µm"):
        CandidateSettings(smooth_um=smooth_um)


def test_smoothing_moves_candidates_to_the_middle_and_never_onto_glass(store):
    found = find_candidates(store, CandidateSettings(radius_um=50), 0.1)
    middle = 480 * 8 + 64, 96 * 8 + 64
    assert min(np.hypot(found.x - middle[0], found.y - middle[1])) <= 32
    values = store.level()[0]
    assert (values[found.y // 8, found.x // 8] > 0).all()
    assert found.highest < 1


def test_by_default_candidates_begin_at_half_of_the_threshold(store):
    for threshold, count in ((0.5, 3), (0.41, 4), (0.39, 4), (1.9, 1)):
        found = find_candidates(store, CandidateSettings(smooth_um=0), threshold)
        assert len(found) == count - (threshold == 0.41), threshold


def test_a_map_without_tumour_has_no_candidates(tmp_path):
    store = write_store(tmp_path / "heatmap.ome.zarr", np.zeros((1, 40, 50), np.uint8), (400, 320))
    found = find_candidates(store, CandidateSettings(), 0)
    assert (len(found), found.highest) == (0, 0)


@pytest.mark.parametrize("header", ["", "probability,x,y\n"])
def test_a_file_of_candidates_is_read_highest_first(tmp_path, header):
    path = tmp_path / "s.csv"
    path.write_text(f"{header}0.25,3,4\n0.75,99,0\n")
    found = read_candidates(path, (100, 50))
    assert (found.probability.tolist(), found.x.tolist(), found.y.tolist()) == ([0.75, 0.25], [99, 3], [0, 4])
    assert found.highest == 0.75


def test_a_file_without_rows_is_a_slide_without_candidates(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("")
    assert len(read_candidates(path, (100, 50))) == 0


@pytest.mark.parametrize(
    ("row", "says"),
    [("0.5,1", "malformed row"), ("a,1,2", "malformed row"), ("1.5,1,2", "not a probability"),
     ("nan,1,2", "not a probability"), ("0.5,100,2", "not on the slide"), ("0.5,1,-1", "not on the slide"),
     ("0.5,nan,1", "not on the slide")],
)  # fmt: skip
def test_a_row_that_makes_no_sense_is_an_error(tmp_path, row, says):
    path = tmp_path / "s.csv"
    path.write_text(row)
    with pytest.raises(InputError, match=says):
        read_candidates(path, (100, 50))


@pytest.mark.parametrize("values", [{"threshold": 0}, {"threshold": 2}, {"radius_um": -1}, {"smooth_um": float("nan")}])
def test_settings_out_of_range_are_errors(values):
    with pytest.raises(InputError):
        CandidateSettings(**values)
