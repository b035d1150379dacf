"""What dry runs share: what a slide and a run would give, the table that they print, and why a slide would fail."""

from dataclasses import dataclass
from typing import NamedTuple

from wsi_maxmin.errors import WsiMaxminError
from wsi_maxmin.slide_inputs import RunSlides


class Expected(NamedTuple):
    """What one slide would give, patches or tiles; `remark` says more of it, or why it would fail."""

    slide_id: str
    number: int
    disk_bytes: float
    seconds: float
    remark: str
    fails: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a run would give: `table` says it in words.

    Attributes
    ----------
    slides : tuple of Expected
    unit : str
        What is counted.
    where : str
        By what all of it would be done.
    at_once : int
        Slides at a time, among which the time is divided.
    """

    slides: tuple[Expected, ...]
    unit: str
    where: str
    at_once: int = 1

    @property
    def failed(self) -> bool:
        """Whether any slide would fail."""
        return any(slide.fails for slide in self.slides)

    def table(self) -> str:
        """Return a line a slide and their sum."""
        together = Expected(
            "together",
            sum(slide.number for slide in self.slides),
            sum(slide.disk_bytes for slide in self.slides),
            sum(slide.seconds for slide in self.slides) / self.at_once,
            self.where,
        )
        width = max(len(slide.slide_id) for slide in (*self.slides, together))
        lines = [f"{'slide':{width}}  {self.unit:>9}  {'disk':>9}  {'time':>8}"]
        for slide in (*self.slides, together):
            size = f"{slide.disk_bytes / 1e6:,.0f} MB"
            line = f"{slide.slide_id:{width}}  {slide.number:>9,}  {size:>9}  {slide.seconds:>6,.0f} s  {slide.remark}"
            lines.append(line.rstrip())
        return "\n".join(lines)


def why_it_fails(run: RunSlides, slide_id: str, error: Exception) -> str:
    """Say in one line, and without names that are to be hidden, why a slide would fail."""
    kind = "" if isinstance(error, WsiMaxminError) else f"{type(error).__name__}: "
    shown = run.without_names(error, slide_id) if run.hashed else error
    return f"fails: {kind}{' '.join(str(shown).split())}"
