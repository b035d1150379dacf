"""The outlines of what a heatmap calls tumour, block by block, as valid polygons in level-0 pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely
from contourpy import FillType, contour_generator
from scipy import ndimage
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from wsi_maxmin.heatmap_store import HeatmapStore
from wsi_maxmin.sinks._ngff import least_byte
from wsi_maxmin.sinks.omezarr import TUMOUR

AREA_TOLERANCE = 0.02
BLOCK_PX = 2048

_Bool = npt.NDArray[np.bool_]
_Float = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TumourRegion:
    """Tumour pixels of the heatmap that share edges.

    Attributes
    ----------
    polygon : Polygon or MultiPolygon
        Level-0 px, x first; simplified within one heatmap pixel and `AREA_TOLERANCE` of the area.
    area_um2 : float
        Of its pixels, as far as they lie on the slide.
    means, maxima : dict of str to float
        Of each channel over its pixels, 0 to 1.
    """

    polygon: BaseGeometry
    area_um2: float
    means: dict[str, float]
    maxima: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Piece:
    """The part of a region in one block: on the display grid, with its pixels' number, sums and maxima a channel."""

    polygon: BaseGeometry
    pixels: int
    sums: _Float
    maxima: _Float
    at_border: bool


def find_regions(
    store: HeatmapStore, *, threshold: float | None = None, min_area_um2: float = 0, block_px: int = BLOCK_PX
) -> list[TumourRegion]:
    """Return the regions of a heatmap from top to bottom.

    Parameters
    ----------
    store : HeatmapStore
    threshold : float, optional
        Of the main channel, over tissue; by default ``labels/tumour``, which is that at the model's threshold.
    min_area_um2 : float
        Regions smaller than this are left out.
    block_px : int
        Side of the blocks that are in memory, one at a time; the result does not depend on it.
    """
    pieces = list(_pieces(store, threshold, block_px))
    if not pieces:
        return []
    # Only what touches the edge of a block can go on in the next one.
    whole = [piece.polygon for piece in pieces if not piece.at_border]
    joined = shapely.get_parts(shapely.union_all([piece.polygon for piece in pieces if piece.at_border]))
    polygons = np.array([*whole, *joined], dtype=object)
    points = shapely.point_on_surface([piece.polygon for piece in pieces])
    owner, part = shapely.STRtree(points).query(polygons, predicate="contains")
    pixels, sums, maxima = (np.zeros((len(polygons), width)) for width in (1, len(store.valued), len(store.valued)))
    np.add.at(pixels, owner, np.array([[piece.pixels] for piece in pieces])[part])
    np.add.at(sums, owner, np.array([piece.sums for piece in pieces])[part])
    np.maximum.at(maxima, owner, np.array([piece.maxima for piece in pieces])[part])
    outlines = _on_slide(polygons, store)
    areas = shapely.area(outlines) * store.georef.slide_mpp**2
    bounds = shapely.bounds(outlines)
    return [
        TumourRegion(
            polygon=_simplified(outlines[index], store.georef.downsample),
            area_um2=float(areas[index]),
            means=dict(zip(store.valued, (sums[index] / pixels[index] / 255).tolist(), strict=True)),
            maxima=dict(zip(store.valued, (maxima[index] / 255).tolist(), strict=True)),
        )
        for index in np.lexsort((areas, bounds[:, 0], bounds[:, 1]))
        if areas[index] >= min_area_um2
    ]


def _pieces(store: HeatmapStore, threshold: float | None, side: int) -> Iterator[_Piece]:
    labels, level, channels = store.labels(), store.level(), [store.channels.index(name) for name in store.valued]
    height, width = labels.shape
    for top in range(0, height, side):
        for left in range(0, width, side):
            where = slice(top, min(top + side, height)), slice(left, min(left + side, width))
            block = np.asarray(labels[where])
            if not block.any():
                continue
            if threshold is None:
                mask = block == TUMOUR
            else:
                tumour = np.asarray(level[store.channels.index(store.main_channel), *where])
                mask = (block > 0) & (tumour >= least_byte(threshold))
            if mask.any():
                values = [np.asarray(level[channel, *where]) for channel in channels]
                yield from _pieces_of(mask, values, (top, left), (height, width))


def _pieces_of(
    mask: _Bool, values: list[npt.NDArray[np.uint8]], origin: tuple[int, int], shape: tuple[int, int]
) -> Iterator[_Piece]:
    polygons = outline(mask)
    labelled, count = ndimage.label(mask, output=np.int32)
    x, y = shapely.get_coordinates(shapely.point_on_surface(polygons)).T.astype(np.int64)
    numbers, inside = labelled[y, x], labelled[mask]
    pixels = np.bincount(inside, minlength=count + 1)
    sums, maxima = np.zeros((2, count + 1, len(values)))
    for column, channel in enumerate(channel[mask] for channel in values):
        sums[:, column] = np.bincount(inside, weights=channel, minlength=count + 1)
        np.maximum.at(maxima[:, column], inside, channel)
    top, left = origin
    bottom, right = top + mask.shape[0], left + mask.shape[1]
    moved = shapely.transform(polygons, lambda points: points + np.array([left, top]))
    for number, polygon in zip(numbers, moved, strict=True):
        x0, y0, x1, y1 = polygon.bounds
        yield _Piece(
            polygon=polygon,
            pixels=int(pixels[number]),
            sums=sums[number],
            maxima=maxima[number],
            at_border=bool(
                (x0 == left > 0) or (y0 == top > 0) or (x1 == right < shape[1]) or (y1 == bottom < shape[0])
            ),
        )


def outline(mask: _Bool) -> list[BaseGeometry]:
    """Return the pixels of a mask as valid polygons along the edges of pixels, one for each 4-connected component.

    Pixel (row, column) spans column to column + 1 in x and row to row + 1 in y, so areas are numbers of pixels.
    """
    # A contour halfway between the centres of pixels crosses each pixel edge of the outline in its middle.
    contours = contour_generator(z=np.pad(mask, 1).astype(np.float64), fill_type=FillType.OuterOffset).filled(0.5, 2)
    polygons: list[BaseGeometry] = []
    for points, offsets in zip(*contours, strict=True):
        shell, *holes = (_corners(points[i:j]) for i, j in pairwise(offsets))
        polygon = Polygon(shell, holes)
        # Where pixels touch at a corner only, a ring touches itself.
        polygons.append(polygon if polygon.is_valid else shapely.make_valid(polygon))
    return polygons


def _corners(middles: _Float) -> _Float:
    """Turn a closed ring of middles of pixel edges, (N, 2), into the ring of the pixel corners between them."""
    here, following = middles[:-1], middles[1:]
    # Of the two coordinates of a middle, the one halfway between pixels is that of its edge.
    halfway_here, halfway_following = here % 1 != 0, following % 1 != 0
    corners = np.where(halfway_here, here, np.where(halfway_following, following, (here + following) / 2)) - 0.5
    moved = corners != np.roll(corners, 1, axis=0)
    turns = (moved != np.roll(moved, -1, axis=0)).any(axis=1)
    ring: _Float = corners[turns]
    return ring


def _on_slide(polygons: npt.NDArray[np.object_], store: HeatmapStore) -> npt.NDArray[np.object_]:
    """Scale polygons to level 0, and end them where the slide ends: the last display pixels reach beyond it.

    Rings begin at a corner and have no points between corners, so that nothing is left of where blocks met.
    """
    size = np.array(store.georef.slide_size_px)
    scaled: npt.NDArray[np.object_] = shapely.transform(
        polygons, lambda points: np.minimum(points * store.georef.downsample, size)
    )
    plain: npt.NDArray[np.object_] = shapely.normalize(shapely.simplify(shapely.normalize(scaled), 0))
    return plain


def _simplified(polygon: BaseGeometry, pixel_l0: float) -> BaseGeometry:
    """Simplify within one heatmap pixel, or less, or not at all, so that area and validity are kept."""
    corners = shapely.points(shapely.get_coordinates(polygon))
    for tolerance in (pixel_l0, pixel_l0 * 0.75, pixel_l0 / 2):
        simpler = polygon.simplify(tolerance)
        if not simpler.is_valid or abs(simpler.area / polygon.area - 1) > AREA_TOLERANCE:
            continue
        line = simpler.boundary
        shapely.prepare(line)
        # Where a ring begins GEOS may move it by more than the tolerance.
        if shapely.dwithin(line, corners, pixel_l0).all():
            return simpler
    return polygon
