"""GeoJSON: regions as annotations and tiles as tiles, for QuPath and whatever reads polygons in level-0 pixels."""

from pathlib import Path

from wsi_maxmin.exports._features import region_features, tile_features, write_collection
from wsi_maxmin.exports._source import ExportSource

FILES = ("regions.geojson", "tiles.geojson")


def write(source: ExportSource, folder: Path) -> None:
    """Write ``regions.geojson``, and ``tiles.geojson`` where there are tiles."""
    write_collection(region_features(source), folder / FILES[0])
    if source.tiles is not None:
        write_collection(tile_features(source), folder / FILES[1])
