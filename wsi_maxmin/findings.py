"""What checks of a result find: what is good, what is wrong and what helps, what could not be looked at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from wsi_maxmin.errors import WsiMaxminError

STITCH_AGAIN = "`wsi-maxmin stitch` makes the heatmap again from the tile maps"

Part = Literal["whole", "valid", "registered"]


class Fault(Exception):
    """What a check found wrong, and what helps."""

    def __init__(self, why: str, remedy: str = STITCH_AGAIN) -> None:
        super().__init__(why)
        self.remedy = remedy


class NotCheckedError(Exception):
    """A check that could not be made, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    part : {"whole", "valid", "registered"}
    what : str
        What was looked at.
    status : {"ok", "FAILED", "not checked"}
    why : str
        What was found.
    remedy : str
        What helps; empty unless it failed.
    """

    part: Part
    what: str
    status: Literal["ok", "FAILED", "not checked"]
    why: str
    remedy: str = ""


def find(part: Part, what: str, check: Callable[[], str], remedy: str = STITCH_AGAIN) -> Finding:
    """Make a check, whatever it comes upon."""
    try:
        return Finding(part=part, what=what, status="ok", why=check())
    except NotCheckedError as missing:
        return Finding(part=part, what=what, status="not checked", why=str(missing))
    except Fault as fault:
        return Finding(part=part, what=what, status="FAILED", why=str(fault), remedy=fault.remedy)
    except Exception as error:  # a damaged file may make any library raise anything
        return Finding(part=part, what=what, status="FAILED", why=_in_words(error), remedy=remedy)


def _in_words(error: Exception) -> str:
    if isinstance(error, KeyError):  # which says no more than what was looked for
        said = f"there is no {error.args[0] if error.args else error}"
    else:
        said = str(error) if isinstance(error, WsiMaxminError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())
