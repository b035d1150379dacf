"""Plain pyramidal TIFF of the channel of tumour, a page a level, for OpenSlide, ASAP and what is built on them."""

from pathlib import Path

import tifffile

from wsi_maxmin.exports._source import ExportSource
from wsi_maxmin.exports._tiff_pages import page_options, tiles

FILES = ("tumour.tif",)


def write(source: ExportSource, folder: Path) -> None:
    """Write ``tumour.tif``: the stored bytes; such readers see no levels in SubIFDs, and one channel only."""
    store = source.store
    channel = store.channels.index(store.main_channel)
    with tifffile.TiffWriter(folder / FILES[0], bigtiff=True) as file:
        for level in range(store.levels):
            array = store.level(level)
            file.write(
                tiles(array, range(channel, channel + 1)),
                shape=array.shape[-2:],
                subfiletype=int(level > 0),
                metadata=None,
                **page_options(store.georef.mpp * 2**level),
            )
