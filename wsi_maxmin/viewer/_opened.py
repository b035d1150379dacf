"""One slide of a result, opened, and what the page is told of it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import pyarrow.parquet as pq
from shapely.geometry.base import BaseGeometry

from wsi_maxmin.errors import InputError
from wsi_maxmin.readers import open_slide
from wsi_maxmin.viewer._heatmap import TILE_PX as MAP_TILE_PX
from wsi_maxmin.viewer._heatmap import StoredMap
from wsi_maxmin.viewer._regions import Regions
from wsi_maxmin.viewer._shown import Shown, run_facts
from wsi_maxmin.viewer._slide_tiles import TILE_PX, SlideTiles

_BOX = ("x", "y", "width", "height")
_DEFAULT_THRESHOLD = 0.5


class WrongSlideError(InputError):
    """A slide is not that of its heatmap; the message names no file, and may go to the page."""


class Opened:
    """A slide and its map; any number of threads may ask.

    Parameters
    ----------
    shown : Shown

    Raises
    ------
    InputError
        If the map is none.
    WrongSlideError
        If the map is not of this slide.
    SlideError
        If the slide cannot be opened.
    """

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        self.map = StoredMap(shown.store)
        self.regions = Regions(self.map)
        self.pixels = None if shown.source is None else SlideTiles(open_slide(shown.source, slide_id=shown.slide_id))
        if self.pixels is not None and not self.map.covers(self.pixels.size_px):
            raise WrongSlideError(
                f"this is not the slide of the heatmap of {shown.slide_id}",
                got="{} × {} px".format(*self.pixels.size_px),
                expected="about {} × {} px".format(*self.map.span_l0),
                remedy="give the slide that was run by --slide",
            )

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of level 0: the slide's, else as the result says, else the map's."""
        if self.pixels is not None:
            return self.pixels.size_px
        return self.shown.size_px or self.map.span_l0

    def threshold(self, channel: str) -> float:
        """Return where a channel is cut at first: the model's threshold, or one that keeps the highest 5 %."""
        if channel == self.map.main_channel:
            return _DEFAULT_THRESHOLD if self.shown.threshold is None else self.shown.threshold
        return self.regions.high_threshold(channel)

    def describe(self) -> dict[str, Any]:
        """Return what the page needs before it draws anything; no pixel is read."""
        shown, pixels = self.shown, self.pixels
        return {
            "id": shown.slide_id,
            "size": self.size_px,
            "mpp": self.map.mpp,
            "version": self._version,
            "slide": None if pixels is None else {"tile": TILE_PX, "levels": pixels.levels},
            "map": {
                "tile": MAP_TILE_PX,
                "channels": self.map.channels,
                "main": self.map.main_channel,
                "brightest": self.map.brightest,
                "levels": [
                    {"size": level.size_px, "origin": level.origin_l0, "step": level.step_l0}
                    for level in self.map.levels
                ],
            },
            "threshold": shown.threshold,
            "tiles": shown.tiles is not None,
            "annotation": shown.annotation is not None,
            "facts": run_facts(shown.facts),
        }

    @property
    def _version(self) -> str:
        """Text that changes when the heatmap is written again, so that no tile of the old one is shown."""
        return format(self.shown.store.stat().st_mtime_ns, "x")

    @cached_property
    def tiles(self) -> dict[str, list[float]]:
        """The table of tiles by column: box in level-0 px, posteriors, uncertainty, mean of the mask."""
        if self.shown.tiles is None:
            raise KeyError("tiles")
        table = pq.read_table(self.shown.tiles)
        kept = [name for name in table.column_names if name in _BOX or not name.startswith("logit_")]
        return {
            name: table[name].to_pylist() if name in _BOX else [round(value, 4) for value in table[name].to_pylist()]
            for name in kept
        }

    def find(self, channel: str, threshold: float | None) -> dict[str, Any]:
        """Return the regions of a channel, the threshold that was used, and whether anything was looked at."""
        if channel not in self.map.channels or not 0 <= (threshold or 0) <= 1:
            raise KeyError((channel, threshold))
        used = self.threshold(channel) if threshold is None else threshold
        found = self.regions.find(channel, used)
        return {
            "threshold": used,
            "seen": self.regions.seen(channel),
            "pixel_um": self.regions.pixel_um,
            "regions": [asdict(region) for region in found],
        }

    def summary(self) -> Mapping[str, Any]:
        """Return what the gallery says of the slide."""
        channel = self.map.main_channel
        threshold = self.threshold(channel)
        return {
            "channel": channel,
            "threshold": threshold,
            **asdict(self.regions.summary(channel, threshold)),
        }

    def outlines(self) -> list[list[list[float]]]:
        """Return the rings of the annotation, holes among them, each as (x, y) in level-0 px."""
        if self.shown.annotation is None:
            raise KeyError("annotation")
        return [
            [[round(x, 2), round(y, 2)] for x, y in ring.coords] for ring in _rings(self.shown.annotation.geometry())
        ]


def _rings(geometry: BaseGeometry) -> Iterator[Any]:
    for polygon in getattr(geometry, "geoms", [geometry]):
        if polygon.geom_type == "Polygon":
            yield from (polygon.exterior, *polygon.interiors)
