"""Pyramidal OME-TIFF: all channels and levels, with µm and names, for Bio-Formats, QuPath, Fiji and OMERO."""

import uuid
from pathlib import Path

import tifffile

from wsi_maxmin.exports._source import ExportSource
from wsi_maxmin.exports._tiff_pages import page_options, tiles

FILES = ("heatmap.ome.tif",)


def write(source: ExportSource, folder: Path) -> None:
    """Write ``heatmap.ome.tif``: the stored bytes, the smaller levels as SubIFDs of each channel."""
    store, count = source.store, len(source.store.channels)
    mpp = store.georef.mpp
    metadata = {
        "axes": "CYX",
        "Name": source.slide_id,
        "PhysicalSizeX": mpp,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": mpp,
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": list(store.channels)},
        # Else it is made from the time, and no two files are the same.
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"wsi-maxmin {source.slide_id}")),
    }
    with tifffile.TiffWriter(folder / FILES[0], bigtiff=True, ome=True) as file:
        for level in range(store.levels):
            array = store.level(level)
            file.write(
                tiles(array, range(count)),
                shape=array.shape,
                subifds=store.levels - 1 if level == 0 else None,
                subfiletype=int(level > 0),
                metadata=metadata if level == 0 else None,
                **page_options(mpp * 2**level),
            )
