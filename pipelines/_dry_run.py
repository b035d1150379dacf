"""What dry runs share: the table that they print, and why a slide would fail."""

from collections.abc import Sequence

from wsi_maxmin.errors import WsiMaxminError
from wsi_maxmin.slide_inputs import RunSlides

# slide_id, how many, bytes, seconds, remark, whether it fails
Line = tuple[str, int, float, float, str, bool]


def lines_and_sum(slides: Sequence[Line], unit: str, remark: str, *, at_once: int = 1) -> str:
    """Return a table with a line a slide and their sum, of which the time is divided among slides at once."""
    count, disk_bytes, seconds = (sum(slide[column] for slide in slides) for column in (1, 2, 3))  # type: ignore[misc]
    together: Line = ("together", count, disk_bytes, seconds / at_once, remark, False)
    width = max(len(slide[0]) for slide in (*slides, together))
    lines = [f"{'slide':{width}}  {unit:>9}  {'disk':>9}  {'time':>8}"]
    for slide_id, number, size, time, why, _ in (*slides, together):
        line = f"{slide_id:{width}}  {number:>9,}  {f'{size / 1e6:,.0f} MB':>9}  {time:>6,.0f} s  {why}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def why_it_fails(run: RunSlides, slide_id: str, error: Exception) -> str:
    """Say in one line, and without names that are to be hidden, why a slide would fail."""
    kind = "" if isinstance(error, WsiMaxminError) else f"{type(error).__name__}: "
    shown = run.without_names(error, slide_id) if run.hashed else error
    return f"fails: {kind}{' '.join(str(shown).split())}"
