"""What every export is made of: a slide's heatmap, its table of tiles, and what the user asked for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from wsi_maxmin.errors import InputError
from wsi_maxmin.heatmap_store import HeatmapStore
from wsi_maxmin.regions import TumourRegion, find_regions

TUMOR, OTHER = "Tumor", "Other"
COLORS = {
    TUMOR: (200, 0, 0),
    "Stroma": (150, 200, 150),
    "Immune cells": (160, 90, 160),
    "Necrosis": (50, 50, 50),
    OTHER: (255, 200, 0),
    "Positive": (250, 62, 62),
    "Negative": (112, 112, 225),
}
"""QuPath's own classes, and the colours that it gives them."""
_OWN_COLOR = (128, 128, 128)
_POSTERIOR = "posterior_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What an export shows.

    Attributes
    ----------
    threshold : float or None
        From which on the tumour channel is a region of tumour; by default the model's.
    min_area_um2 : float
        Smaller regions are left out.
    class_names : mapping
        What to call classes of the model; by default the positive one ``Tumor`` and, of two, the other ``Other``.
    """

    threshold: float | None = None
    min_area_um2: float = 0.0
    class_names: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise InputError if a value is out of range."""
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError("the threshold is out of range", got=self.threshold, expected="0 to 1")
        if not 0 <= self.min_area_um2 < math.inf:
            raise InputError("the least area is out of range", got=self.min_area_um2, expected="µm², at least 0")


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportSource:
    """One slide's result, opened.

    Attributes
    ----------
    slide_id : str
    store : HeatmapStore
    tiles : DataFrame or None
        ``tiles.parquet``; None where the heatmap was stitched again, apart from its tiles.
    positive_class : str
        Of the model.
    settings : ExportSettings
    target : Path
        Folder that the files will lie in when they are whole.
    """

    slide_id: str
    store: HeatmapStore
    tiles: pd.DataFrame | None
    positive_class: str
    settings: ExportSettings
    target: Path

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.settings.class_names) - {*self.classes}):
            raise InputError(
                "the model has no such class", got=", ".join(unknown), expected=f"one of {', '.join(self.classes)}"
            )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Classes of the model as far as the result says; at least the positive one."""
        columns = [] if self.tiles is None else list(map(str, self.tiles.columns))
        found = (name.removeprefix(_POSTERIOR) for name in columns if name.startswith(_POSTERIOR))
        return tuple(found) or (self.positive_class,)

    @cached_property
    def regions(self) -> list[TumourRegion]:
        """The regions of tumour; found once for all exports."""
        return find_regions(self.store, threshold=self.settings.threshold, min_area_um2=self.settings.min_area_um2)

    def class_name(self, name: str) -> str:
        """Return what a class of the model is called in exports."""
        usual = TUMOR if name == self.positive_class else OTHER if len(self.classes) == 2 else name
        return self.settings.class_names.get(name, usual)

    @property
    def tile_classes(self) -> list[str] | None:
        """What each tile is called by its highest posterior; None without tiles, or without classes."""
        columns = [f"{_POSTERIOR}{name}" for name in self.classes]
        if self.tiles is None or columns[0] not in self.tiles:
            return None
        best = np.argmax(self.tiles[columns].to_numpy(), axis=1)
        return [self.class_name(self.classes[index]) for index in best]


def color_of(class_name: str) -> tuple[int, int, int]:
    """Return the colour of a class, red, green and blue."""
    return COLORS.get(class_name, _OWN_COLOR)
