"""Where tumour is known to be on a slide: outlines drawn by a person, or a mask image of the slide's size.

One file a source. All of them end in a `Truth`, which gives the mask of any box in level-0 pixels.
"""

from collections.abc import Mapping
from pathlib import Path

from wsi_maxmin.annotations._annotation import Annotation, Truth
from wsi_maxmin.annotations._files import find_annotation, find_mask, kind_of, stray_annotations
from wsi_maxmin.annotations._groups import ASAP_GROUPS, Role
from wsi_maxmin.annotations.asap import read_asap_xml
from wsi_maxmin.annotations.geojson import read_geojson

__all__ = [
    "ASAP_GROUPS",
    "Annotation",
    "Role",
    "Truth",
    "find_annotation",
    "find_mask",
    "read_annotation",
    "read_asap_xml",
    "read_geojson",
    "stray_annotations",
]


def read_annotation(path: Path, groups: Mapping[str, Role] | None = None) -> Annotation:
    """Read the outlines of a slide, in the format that the file's name says.

    Parameters
    ----------
    path : Path
        ``.xml`` is ASAP's, ``.geojson`` and ``.json`` QuPath's; each may be packed as ``.gz``.
    groups : mapping, optional
        What to make of groups (ASAP) and classes (QuPath) of unknown meaning, by name.

    Raises
    ------
    InputError
        If the name ends otherwise, or for any reason of `read_asap_xml` or `read_geojson`.
    """
    return (read_asap_xml if kind_of(path) == ".xml" else read_geojson)(path, groups)
