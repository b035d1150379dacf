"""What protocols share: the region that patches may come from, and what the P512 protocol fixes."""

from typing import TYPE_CHECKING

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box

if TYPE_CHECKING:
    from wsi_maxmin.extraction import ExtractSettings


def lies_in(box: Box, region: Box | None) -> bool:
    """Return whether a box lies in a region whole; no region holds every box."""
    if region is None:
        return True
    inside_x = region.x <= box.x and box.right <= region.right
    return inside_x and region.y <= box.y and box.bottom <= region.bottom


def refuse(settings: "ExtractSettings", fixed: dict[str, tuple[str, tuple[object, ...]]]) -> None:
    """Refuse settings that a protocol leaves no choice in.

    Parameters
    ----------
    settings : ExtractSettings
    fixed : dict
        Name of the setting to the option that gives it and the values that it may have.

    Raises
    ------
    InputError
        If one has another value.
    """
    for name, (option, allowed) in fixed.items():
        value = getattr(settings, name)
        if value not in allowed:
            raise InputError(
                f"the protocol {settings.protocol} does not take {option}",
                got=value,
                expected="level 0" if allowed == (None,) else allowed[-1],
                remedy=f"leave {option} out, or use --protocol grid",
            )
