"""What differs between OME-Zarr 0.4 (Zarr v2) and 0.5 (Zarr v3): where metadata lie, and how arrays are stored.

The compressor is named because zarr-python's own default, zstd, is unknown to the Java readers.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numcodecs
import zarr
from zarr.codecs import BloscCodec

from wsi_maxmin.errors import InputError
from wsi_maxmin.grids import CHUNK_PX

Ngff = Literal["0.4", "0.5"]
VERSIONS: tuple[Ngff, ...] = get_args(Ngff)


def check_version(version: str) -> None:
    """Raise InputError if this version of OME-Zarr is not written here."""
    if version not in VERSIONS:
        raise InputError("no such version of OME-Zarr", got=version, expected=" or ".join(VERSIONS))


def least_byte(threshold: float) -> int:
    """Return the lowest stored value of ``tumour`` that reaches a threshold; 0 never does."""
    return max(math.ceil(255 * threshold), 1)


def open_new(path: Path, version: Ngff) -> zarr.Group:
    """Make an empty group."""
    return zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)


def add_array(group: zarr.Group, name: str, shape: Sequence[int], axes: Sequence[str]) -> zarr.Array:
    """Make an array of bytes in whole chunks, a channel each; chunks of zeros are not stored."""
    common: dict[str, Any] = {
        "shape": tuple(shape),
        "chunks": (*(1 for _ in shape[:-2]), CHUNK_PX, CHUNK_PX),
        "dtype": "uint8",
        "fill_value": 0,
    }
    if group.metadata.zarr_format == 3:
        codec = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=1)
        return group.create_array(name, **common, compressors=codec, dimension_names=axes)
    blosc = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE)
    return group.create_array(name, **common, compressors=blosc, chunk_key_encoding={"name": "v2", "separator": "/"})


def describe_image(group: zarr.Group, multiscales: Mapping[str, Any], omero: Mapping[str, Any]) -> None:
    """Write the metadata of the heatmap itself."""
    if group.metadata.zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [dict(multiscales)], "omero": dict(omero)}
    else:
        group.attrs.update({"multiscales": [{"version": "0.4", **multiscales}], "omero": {"version": "0.4", **omero}})


def list_labels(group: zarr.Group, names: Sequence[str]) -> None:
    """Write which label images there are; in 0.5 twice, since vizarr looks for them outside of ``ome``."""
    group.attrs["labels"] = list(names)
    if group.metadata.zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "labels": list(names)}


def describe_labels(group: zarr.Group, multiscales: Mapping[str, Any], image_label: Mapping[str, Any]) -> None:
    """Write the metadata of a label image."""
    if group.metadata.zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [dict(multiscales)], "image-label": dict(image_label)}
    else:
        group.attrs.update(
            {"multiscales": [{"version": "0.4", **multiscales}], "image-label": {"version": "0.4", **image_label}}
        )


def ome_metadata(group: zarr.Group) -> dict[str, Any]:
    """Return ``multiscales``, ``omero`` and the rest of a group of either version."""
    attributes: dict[str, Any] = dict(group.attrs)
    inner: dict[str, Any] = attributes.get("ome", attributes)
    return inner
