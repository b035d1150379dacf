"""Where the lines, ticks and slices of a report's charts are."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.reports._charts import HEIGHT, WIDTH, Line, divide, draw, ticks

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def chart(x, y, **options):
    return draw("t", [Line(name="a", x=x, y=y)], x_name="epoch", y_name="loss", **options)


def points(line):
    return [tuple(map(float, point.split(","))) for point in line.points.split()]


@given(low=NUMBERS, length=st.floats(1e-3, 1e6))
def test_ticks_are_few_even_round_and_enclose_what_they_are_of(low, length):
    found = ticks(low, low + length)
    assert 2 <= len(found) <= 7
    assert found[0] <= low + 1e-6 * length
    assert found[-1] >= low + length - 1e-6 * length
    steps = {round((after - before) / (found[1] - found[0]), 3) for before, after in itertools.pairwise(found)}
    assert steps == {1.0}


@given(y=st.lists(NUMBERS, min_size=1, max_size=30))
def test_every_point_lies_in_the_frame(y):
    drawn = chart(range(len(y)), y)
    left, top, right, bottom = drawn.frame
    for x, down in points(drawn.lines[0]):
        assert left <= x <= right
        assert top - 0.1 <= down <= bottom + 0.1
    assert 0 < left < right < WIDTH
    assert 0 < top < bottom < HEIGHT


def test_a_chart_puts_what_is_known_where_it_belongs():
    drawn = chart([0, 1, 2], [0.0, 50.0, 100.0], x_range=(0, 2), y_range=(0, 100), marks=[(1, 50), (9, 1)], rule=2)
    left, top, right, bottom = drawn.frame
    assert points(drawn.lines[0]) == [(left, bottom), ((left + right) / 2, (top + bottom) / 2), (right, top)]
    assert drawn.marks == [((left + right) / 2, (top + bottom) / 2)]
    assert drawn.rule == right
    assert [tick.text for tick in drawn.y_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert "0 at first, 100 at last" in drawn.says


def test_what_is_no_number_is_left_out_and_nothing_is_no_chart():
    assert len(points(chart([0, 1, 2], [1.0, math.nan, 2.0]).lines[0])) == 2
    assert chart([0, 1], [math.nan, math.inf]) is None
    assert chart([], []) is None


def test_one_point_is_a_mark_and_what_is_counted_has_whole_ticks():
    drawn = chart([1], [0.5], x_range=(1, 2), whole=True)
    assert drawn.marks == points(drawn.lines[0])
    assert [tick.text for tick in drawn.x_ticks] == ["1", "2"]


def test_very_many_points_are_thinned_to_what_a_drawing_can_show():
    whole = chart(range(100_001), [0.0] * 100_001, y_range=(0, 1))
    drawn = points(whole.lines[0])
    assert 1000 < len(drawn) < 2100
    assert (drawn[0][0], drawn[-1][0]) == (whole.frame[0], whole.frame[2])


@pytest.mark.parametrize(
    ("y", "labels"),
    [
        ([1.0003, 1.0013], ["1.0002", "1.0004", "1.0006", "1.0008", "1.001", "1.0012", "1.0014"]),
        ([0.001, 0.001], ["0.0009", "0.00095", "0.001", "0.00105", "0.0011"]),
        ([2e-8, 9e-8], ["2e-08", "4e-08", "6e-08", "8e-08", "1e-07"]),
        ([1234567.0, 1234569.0], ["1234567", "1234567.5", "1234568", "1234568.5", "1234569"]),
    ],
)
def test_labels_have_all_their_digits(y, labels):
    assert [tick.text for tick in chart([1, 2], y).y_ticks] == labels


@given(middle=st.floats(-1e9, 1e9), exponent=st.integers(-9, 3))
def test_labels_have_room_and_are_told_apart(middle, exponent):
    drawn = chart([1, 1000], [middle, middle + 10.0**exponent], whole=True)
    left, _, right, _ = drawn.frame
    texts = [tick.text for tick in drawn.y_ticks]
    assert len(set(texts)) == len(texts) >= 2
    assert all(7.7 * len(text) <= left - 6 for text in texts)
    last = drawn.x_ticks[-1]
    assert last.at + 7.7 * len(last.text) / 2 <= WIDTH
    assert left < right


def test_what_differs_by_rounding_alone_is_a_flat_line():
    drawn = chart([1, 2, 3], [1.0, 1.0 + 2**-52, 1.0])
    assert len({y for _, y in points(drawn.lines[0])}) == 1
    assert chart([1, 2], [0.0, 5e-324]).y_ticks


@given(lengths=st.lists(st.floats(0, 1e4), min_size=1, max_size=12))
def test_slices_follow_each_other_and_fill_the_bar(lengths):
    bar = divide([(f"n{index}", length) for index, length in enumerate(lengths)], "s")
    if sum(lengths) <= 0:
        assert bar is None
        return
    ends = [part.start + part.length for part in bar.slices]
    assert [part.start for part in bar.slices[1:]] == pytest.approx(ends[:-1], abs=0.01)
    assert ends[-1] == pytest.approx(100, abs=0.05)


def test_the_smallest_slices_are_one():
    bar = divide([("open", 0.1), ("model", 99.0), ("table", 0.2)], "s")
    assert [part.text for part in bar.slices] == ["model 99.0 s (100 %)", "the rest 0.3 s (0 %)"]
