"""The truth of a slide, and the kind of it that people draw."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from wsi_maxmin.annotations._index import RegionIndex
from wsi_maxmin.annotations._rings import Region, draw, fill
from wsi_maxmin.annotations._shapes import has_area, to_geometry
from wsi_maxmin.geometry import Box


class Truth(Protocol):
    """Where the tumour of one slide is.

    Several threads may ask at once, and a process may be handed one by pickle.
    """

    @property
    def holds_tumour(self) -> bool:
        """Whether there is any tumour on the slide."""

    def mask(self, box: Box, width: int, height: int) -> npt.NDArray[np.bool_]:
        """Return the tumour inside a box, (height, width) bool: each pixel is what the slide has at its centre."""

    def drawn_mask(self, box: Box) -> npt.NDArray[np.bool_]:
        """Return the tumour of level 0 as the P512 survey drew it, (box.height, box.width) bool."""

    def tumour_boxes(self) -> list[Box]:
        """Return a box around each connected piece or outline of tumour; they may overlap and leave the slide."""

    def geometry(self) -> BaseGeometry:
        """Return the tumour as one valid geometry of polygons in level-0 pixels, for pictures."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotation:
    """The tumour of one slide: outlines minus exclusions.

    Attributes
    ----------
    include, exclude : tuple of Region
        A region is a tuple of rings, each (N, 2) float64 of level-0 (x, y), filled together by the even–odd rule.
    without_area : int
        Objects that were left out because they have no area, such as dots and point sets.
    """

    include: tuple[Region, ...]
    exclude: tuple[Region, ...]
    without_area: int = 0
    _included: RegionIndex = field(init=False, repr=False)
    _excluded: RegionIndex = field(init=False, repr=False)
    _rounded: RegionIndex = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rounded = [tuple(np.rint(ring) for ring in region) for region in self.include]
        for name, regions in (("_included", self.include), ("_excluded", self.exclude), ("_rounded", rounded)):
            object.__setattr__(self, name, RegionIndex(regions))

    def __reduce__(self) -> tuple[Any, ...]:
        # The indices stay behind: another process fills its own.
        return _rebuild, (self.include, self.exclude, self.without_area)

    @property
    def holds_tumour(self) -> bool:
        """Whether an included outline encloses anything."""
        return any(has_area(ring) for region in self.include for ring in region)

    def mask(self, box: Box, width: int, height: int) -> npt.NDArray[np.bool_]:
        """Rasterise the tumour inside a box.

        A pixel is tumour where its centre lies inside an included outline and inside no excluded one.

        Parameters
        ----------
        box : Box
        width, height : int
            Size of the result.

        Returns
        -------
        (height, width) bool
        """
        tumour = fill(self._included.near(box), box, width, height)
        if self.exclude and tumour.any():
            tumour &= ~fill(self._excluded.near(box), box, width, height)
        return tumour

    def drawn_mask(self, box: Box) -> npt.NDArray[np.bool_]:
        """Rasterise the outlines in level 0 as the P512 survey did.

        Points are rounded to whole pixels and Pillow paints inside and outline. Exclusions are not subtracted; holes
        of an outline are.

        Parameters
        ----------
        box : Box

        Returns
        -------
        (box.height, box.width) bool
        """
        return draw(self._rounded.near(box), box)

    def tumour_boxes(self) -> list[Box]:
        """Return the bounding box of each included outline as `drawn_mask` draws it, in their order."""
        boxes = []
        for region in self._rounded.regions:
            points = np.concatenate(region)
            x, y = (int(low) for low in points.min(axis=0))
            right, bottom = (int(high) for high in points.max(axis=0))
            boxes.append(Box(x=x, y=y, width=max(right - x, 1), height=max(bottom - y, 1)))
        return boxes

    def geometry(self) -> BaseGeometry:
        """Return the tumour as one valid geometry of polygons in level-0 pixels."""
        return to_geometry(self.include).difference(to_geometry(self.exclude))


def _rebuild(include: tuple[Region, ...], exclude: tuple[Region, ...], without_area: int) -> Annotation:
    return Annotation(include=include, exclude=exclude, without_area=without_area)
