"""Charts as numbers: where lines, ticks and words are on a drawing of fixed size, which the page draws as SVG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 230
"""Of a chart, in its own units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 40
"""Margins; left and right are wider where labels ask for it."""
_CHARACTER, _GAP = 8, 6
"""Width of the widest digits at the page's 12 px, and what is between a label and the plane."""
_STEPS = (1, 2, 2.5, 5, 10)
_MOST_TICKS = 6
_MOST_POINTS = 2000
_LEAST_SHARE = 0.01
_LEAST_SPAN, _LEAST_SIZE = 1e-6, 1e-100


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A named curve; points that are not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A number on an axis, and where it is."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A curve on the drawing: its points as SVG has them."""

    name: str
    points: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart ready to be drawn.

    Attributes
    ----------
    title, x_name, y_name : str
    says : str
        The same in words, for those who do not see it.
    lines : sequence of Drawn
    x_ticks, y_ticks : sequence of Tick
    marks : sequence of (float, float)
        Points that stand out.
    rule : float or None
        Where a vertical line runs.
    frame : (float, float, float, float)
        Left, top, right and bottom of the plane.
    """

    title: str
    x_name: str
    y_name: str
    says: str
    lines: Sequence[Drawn]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[tuple[float, float]]
    rule: float | None
    frame: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of a bar: where it begins and how long it is, in per cent of the bar, and what it is in words."""

    name: str
    start: float
    length: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of slices, and what it is in words."""

    says: str
    slices: Sequence[Slice]


def draw(
    title: str,
    lines: Sequence[Line],
    *,
    x_name: str,
    y_name: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[tuple[float, float]] = (),
    rule: float | None = None,
    whole: bool = False,
) -> Chart | None:
    """Lay out a chart; None where no line has a point.

    Parameters
    ----------
    title : str
    lines : sequence of Line
    x_name, y_name : str
        Of the axes, with units.
    x_range, y_range : (float, float), optional
        What the axes span; by default what there is, extended to whole ticks on y.
    marks : sequence of (float, float)
        Points that stand out, (x, y).
    rule : float, optional
        Where on x a vertical line runs.
    whole : bool
        Whether x counts something, and has no ticks between whole numbers.
    """
    shown = [(line, points) for line in lines if (points := list(_thinned(list(_finite(line)))))]
    if not shown:
        return None
    every = [point for _, points in shown for point in points]
    alone = [points[0] for _, points in shown if len(points) == 1]
    low, high = x_range or _span([x for x, _ in every])
    y_steps = ticks(*(y_range or _span([y for _, y in every])))
    bottom, top = y_range or (y_steps[0], y_steps[-1])
    y_steps = [y for y in y_steps if bottom <= y <= top]
    x_steps = [x for x in ticks(low, high) if low <= x <= high and not (whole and x % 1)]
    left = max(_LEFT, _width(y_steps) + _GAP)
    right = WIDTH - max(_RIGHT, _width(x_steps[-1:]) / 2)
    upper, lower = _TOP, HEIGHT - _BOTTOM

    def across(x: float) -> float:
        return round(left + (x - low) / (high - low) * (right - left), 1)

    def down(y: float) -> float:
        return round(lower - (y - bottom) / (top - bottom) * (lower - upper), 1)

    return Chart(
        title=title,
        x_name=x_name,
        y_name=y_name,
        says=f"{y_name} against {x_name}. " + " ".join(_in_words(line, points) for line, points in shown),
        lines=[
            Drawn(name=line.name, points=" ".join(f"{across(x):g},{down(y):g}" for x, y in points))
            for line, points in shown
        ],
        x_ticks=[Tick(at=across(x), text=_label(x)) for x in x_steps],
        y_ticks=[Tick(at=down(y), text=_label(y)) for y in y_steps],
        # A line of one point would not be seen.
        marks=[(across(x), down(y)) for x, y in (*marks, *alone) if low <= x <= high and math.isfinite(y)],
        rule=None if rule is None else across(rule),
        frame=(left, upper, right, lower),
    )


def divide(parts: Sequence[tuple[str, float]], unit: str) -> Bar | None:
    """Lay out a bar of named lengths, the first at the left and the smallest as one; None where all are 0."""
    whole = sum(length for _, length in parts)
    if whole <= 0:
        return None
    small = [length for _, length in parts if length < _LEAST_SHARE * whole]
    shown = [(name, length) for name, length in parts if length >= _LEAST_SHARE * whole]
    slices, start = [], 0.0
    for name, length in [*shown, *([("the rest", sum(small))] if sum(small) > 0 else [])]:
        share = 100 * length / whole
        text = f"{name} {length:,.1f} {unit} ({share:.0f} %)"
        slices.append(Slice(name=name, start=round(start, 3), length=round(share, 3), text=text))
        start += share
    return Bar(says=", ".join(part.text for part in slices), slices=slices)


def ticks(low: float, high: float) -> list[float]:
    """Return at most seven round numbers, evenly spaced, the first not above `low` and the last not below `high`.

    >>> ticks(0.03, 0.9)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / (_MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _label(value: float) -> str:
    """Return a tick as text, with all its digits."""
    return f"{value:.12g}"


def _width(values: Sequence[float]) -> int:
    return _CHARACTER * max((len(_label(value)) for value in values), default=0)


def _finite(line: Line) -> Iterator[tuple[float, float]]:
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            yield x, y


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return some of very many points, the first and the last among them: the drawing has no more pixels."""
    every = -(-len(points) // _MOST_POINTS)
    return points if every <= 1 else [*points[:-1:every], points[-1]]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return what an axis spans; values that are the same but for rounding lie in the middle of a wider one."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if size < _LEAST_SIZE:
        return -1.0, 1.0
    if high - low > _LEAST_SPAN * size:
        return low, high
    return low - size / 10, high + size / 10


def _in_words(line: Line, points: Sequence[tuple[float, float]]) -> str:
    values = [y for _, y in points]
    return f"{line.name}: {values[0]:.6g} at first, {values[-1]:.6g} at last, {min(values):.6g} to {max(values):.6g}."
