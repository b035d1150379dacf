"""What the groups that people sort their outlines into mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from wsi_maxmin.errors import InputError

Role = Literal["tumour", "exclude", "ignore"]

ASAP_GROUPS: dict[str, Role] = {
    "Tumor": "tumour",
    "_0": "tumour",
    "_1": "tumour",
    "_2": "exclude",
    "Exclusion": "exclude",
}
QUPATH_CLASSES: dict[str, Role] = {**ASAP_GROUPS, "Tumour": "tumour", "Metastasis": "tumour"}
UNCLASSIFIED = "Unclassified"


def role_of(group: str, roles: Mapping[str, Role], path: Path) -> Role:
    """Return what a group means.

    Raises
    ------
    InputError
        If `roles` does not say; the message names the option that does.
    """
    role = roles.get(group)
    if role is None:
        raise InputError(
            f"{path.name}: unknown annotation group",
            got=repr(group),
            expected=f"one of {', '.join(roles)}",
            remedy=f"say what it means with --group '{group}=tumour' (or =exclude, =ignore)",
        )
    return role
