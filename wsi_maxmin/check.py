"""Is a heatmap on disk what it should be: its metadata, its arrays, its pyramid, its labels, its place on the slide."""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from wsi_maxmin.findings import Fault, Finding, NotCheckedError, find
from wsi_maxmin.grids import CHUNK_PX, Georef, TileGrid
from wsi_maxmin.heatmap_store import main_channel
from wsi_maxmin.sinks._ngff import least_byte, ome_metadata
from wsi_maxmin.sinks._pyramid import Reduce, halve_mean, halve_nearest
from wsi_maxmin.sinks.omezarr import TISSUE, TUMOUR, level_count

LABELS = "labels/tumour"
_BAND_PX = 2 * CHUNK_PX
_AGREEMENT = 1e-9


def store_findings(path: Path, georef: Georef, threshold: float | None, grid: TileGrid | None) -> list[Finding]:
    """Check a store by itself and against its slide's grid.

    Parameters
    ----------
    path : Path
        Such as ``heatmap.ome.zarr``.
    georef : Georef
        The display grid that it should have.
    threshold : float or None
        Of ``labels/tumour``; None where it is not known.
    grid : TileGrid or None
        The tiles; None where they are not known.
    """

    def opened(check: Callable[[zarr.Group], str]) -> Callable[[], str]:
        return lambda: check(zarr.open_group(path, mode="r"))

    def labelled(check: Callable[[zarr.Group], str]) -> Callable[[], str]:
        def checked(group: zarr.Group) -> str:
            if LABELS not in group:
                raise NotCheckedError("there are no labels")
            return check(group)

        return opened(checked)

    return [
        find("valid", "metadata", labelled(check_metadata)),
        find("valid", "validator", labelled(lambda _group: _validate(path))),
        find("valid", "arrays", labelled(lambda group: check_arrays(group, georef))),
        find("valid", "pyramid", labelled(check_pyramid)),
        find("valid", "labels", opened(lambda group: check_labels(group, threshold))),
        find("registered", "scale", labelled(lambda group: check_scale(group, georef))),
        find("registered", "canvas", labelled(lambda group: check_canvas(group, georef))),
        find("registered", "coverage", opened(lambda group: check_coverage(group, georef, grid))),
    ]


def check_metadata(group: zarr.Group) -> str:
    """Check axes, units and what viewers need to know of channels and labels."""
    metadata = ome_metadata(group)
    for holder, names in ((group, ("c", "y", "x")), (group[LABELS], ("y", "x"))):
        axes = ome_metadata(holder)["multiscales"][0]["axes"]
        if tuple(axis["name"] for axis in axes) != names:
            raise Fault(f"axes {[axis['name'] for axis in axes]}, expected {list(names)}")
        if wrong := [axis["name"] for axis in axes if axis["name"] != "c" and axis.get("unit") != "micrometer"]:
            raise Fault(f"axis {wrong[0]} is not in micrometer")
    channels = metadata["omero"]["channels"]
    if len(channels) != group["0"].shape[0]:
        raise Fault(f"{len(channels)} channels are described, {group['0'].shape[0]} are stored")
    for channel in channels:
        missing = {"label", "color", "active", "window"} - set(channel)
        missing |= {"min", "max", "start", "end"} - set(channel.get("window", ()))
        if missing:
            raise Fault(f"channel {channel.get('label')} lacks {', '.join(sorted(missing))}")
    return ", ".join(channel["label"] for channel in channels)


def check_arrays(group: zarr.Group, georef: Georef) -> str:
    """Check type, chunks, compressor and number of levels, and that each is half of the one before."""
    levels = level_count(georef.shape)
    for image in (group, group[LABELS]):
        described = ome_metadata(image)["multiscales"][0]["datasets"]
        if [entry["path"] for entry in described] != [str(level) for level in range(levels)]:
            raise Fault(f"{len(described)} levels, expected {levels}")
        for level in range(levels):
            array = image[str(level)]
            lead = array.shape[:-2]
            shape = (*lead, *(-(-side // 2**level) for side in image["0"].shape[-2:]))
            chunks = (*(1 for _ in lead), CHUNK_PX, CHUNK_PX)
            for name, got, expected in (
                ("size", array.shape, shape),
                ("chunks", array.chunks, chunks),
                ("type", str(array.dtype), "uint8"),
                ("fill value", int(array.fill_value), 0),
                ("shards", getattr(array, "shards", None), None),
            ):
                if got != expected:
                    raise Fault(f"{array.path}: {name} {got}, expected {expected}")
            if not all("blosc" in str(codec).lower() for codec in array.compressors):
                raise Fault(f"{array.path}: compressed by {array.compressors}, expected Blosc")
    return f"{levels} levels of uint8"


def check_pyramid(group: zarr.Group) -> str:
    """Check that every chunk can be read, and every level is the half of the one before: else chunks are missing."""
    rules: tuple[tuple[zarr.Group, Reduce], ...] = ((group, halve_mean), (group[LABELS], halve_nearest))
    for image, reduce in rules:
        for level in range(len(ome_metadata(image)["multiscales"][0]["datasets"]) - 1):
            finer, coarser = image[str(level)], image[str(level + 1)]
            for top in range(0, coarser.shape[-2], _BAND_PX):
                bottom = min(top + _BAND_PX, coarser.shape[-2])
                made = reduce(np.asarray(finer[..., 2 * top : 2 * bottom, :]))
                if not np.array_equal(made, np.asarray(coarser[..., top:bottom, :])):
                    raise Fault(f"{coarser.path} is not the half of {finer.path}: a chunk is missing or damaged")
    return "every level is the half of the one before"


def check_labels(group: zarr.Group, threshold: float | None) -> str:
    """Check the values of the labels, that they are described, and that they are the map at its threshold."""
    if LABELS not in group:
        raise Fault(f"the labels are missing: there is no {LABELS}")
    labels = group[LABELS]
    described = ome_metadata(labels)["image-label"]
    values = [{entry["label-value"] for entry in described[name]} for name in ("colors", "properties")]
    if values != [{TISSUE, TUMOUR}] * 2:
        raise Fault(f"colours of {sorted(values[0])} and properties of {sorted(values[1])}, expected 1 and 2 in both")
    names = _names(group)
    main = main_channel(names)
    for top, band in _bands(labels["0"]):
        if wrong := sorted(set(np.unique(band).tolist()) - {0, TISSUE, TUMOUR}):
            raise Fault(f"label {wrong[0]}, expected 0, {TISSUE} or {TUMOUR}")
        if threshold is not None:
            above = np.asarray(group["0"][names.index(main), top : top + len(band)]) >= least_byte(threshold)
            if differ := int(((band == TUMOUR) != (above & (band > 0))).sum()):
                raise Fault(f"{differ} pixels are not the {main} channel at its threshold {threshold:g}")
    return f"the {main} channel at its threshold" if threshold is not None else "values 0, 1 and 2"


def check_scale(group: zarr.Group, georef: Georef) -> str:
    """Check scale and translation of every level against the slide's µm per pixel."""
    if georef.downsample & (georef.downsample - 1):
        raise Fault(f"{georef.downsample} level-0 pixels a pixel, expected a power of two")
    for image in (group, group[LABELS]):
        for level, entry in enumerate(ome_metadata(image)["multiscales"][0]["datasets"]):
            steps = {step["type"]: step[step["type"]][-2:] for step in entry["coordinateTransformations"]}
            for name, expected in (("scale", georef.scale_um(level)), ("translation", georef.translation_um(level))):
                got = steps.get(name)
                if got is None or not np.allclose(got, expected, rtol=_AGREEMENT, atol=_AGREEMENT):
                    raise Fault(f"level {level}: {name} {got}, expected {expected:.6g} µm in y and x")
    return f"{georef.mpp:.4g} µm a pixel, {georef.downsample} times {georef.slide_mpp:.4g} µm"


def check_canvas(group: zarr.Group, georef: Georef) -> str:
    """Check that the canvas covers the whole slide, and no more."""
    for array in (group["0"], group[f"{LABELS}/0"]):
        if array.shape[-2:] != georef.shape:
            raise Fault(f"{array.path} is {array.shape[-2:]}, expected {georef.shape} for the whole slide")
    return f"{georef.shape[1]} × {georef.shape[0]} pixels from the slide's (0, 0)"


def check_coverage(group: zarr.Group, georef: Georef, grid: TileGrid | None) -> str:
    """Check that there are values where there were tiles, within one heatmap pixel, and nowhere else."""
    names = _names(group)
    if grid is None:
        raise NotCheckedError("no tile maps beside it")
    if "coverage" not in names:
        raise NotCheckedError("there is no such channel")
    rows, columns = np.zeros(georef.shape[0], dtype=np.bool_), np.zeros(georef.shape[1], dtype=np.bool_)
    image = group["0"]
    for top, band in _bands(image, names.index("coverage")):
        rows[top : top + len(band)] |= band.any(axis=1)
        columns |= band.any(axis=0)
        if np.asarray(image[: names.index("coverage"), top : top + len(band)])[:, band == 0].any():
            raise Fault("there are values where no tile was")
    if not len(grid):
        if rows.any():
            raise Fault("there are values, but no tiles")
        return "nothing is covered: it has no tiles"
    if not rows.any():
        raise Fault("nothing is covered")
    (top, bottom), (left, right) = (np.flatnonzero(side)[[0, -1]] + [0, 1] for side in (rows, columns))
    found = np.array([left, top, right, bottom]) * georef.downsample
    covered = grid.kept_box()
    expected = np.array([covered.x, covered.y, covered.right, covered.bottom])
    if np.abs(found - expected).max() > georef.downsample:
        raise Fault(f"covered from {found[:2]} to {found[2:]}, tiles from {expected[:2]} to {expected[2:]} level-0 px")
    return "covered where the tiles are"


def _names(group: zarr.Group) -> list[str]:
    return [channel["label"] for channel in ome_metadata(group)["omero"]["channels"]]


def _bands(array: zarr.Array, *channel: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    for top in range(0, array.shape[-2], _BAND_PX):
        yield top, np.asarray(array[(*channel, slice(top, top + _BAND_PX))])


def _validate(path: Path) -> str:
    if find_spec("ome_zarr_models") is None:
        raise NotCheckedError("ome-zarr-models is not installed")
    open_ome_zarr: Any = import_module("ome_zarr_models").open_ome_zarr
    for place in (path, path / "labels" / "tumour"):
        open_ome_zarr(zarr.open_group(place, mode="r"))
    return "ome-zarr-models accepts it"
