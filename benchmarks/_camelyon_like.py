"""Write a slide like Camelyon16's, with the tissue of a real one: any size, strip by strip, in little memory.

A BigTIFF pyramid of JPEG tiles whose quantisation and Huffman tables are shared (tag 347), so that no tile is a JPEG
file of its own. Tissue lies in smooth outlines; each tile is another crop of the real slide, turned or mirrored.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from tifffile import TiffWriter

from wsi_maxmin.assets import DEMO_SLIDE
from wsi_maxmin.readers import open_slide
from wsi_maxmin.tissue import find_tissue

Pixels = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

MPP, CELL = 0.243, 64
_BLOCKS, _BLOCK_PX = 32, 640
_GLASS, _GLASS_NOISE = (243.0, 242.0, 244.0), 0.8
_TISSUE_TILE_BYTES = 38_000
_START, _TABLES, _SCAN, _JFIF = b"\xff\xd8", (0xDB, 0xC4), 0xDA, 0xE0


def write_slide(
    path: Path,
    side_px: int = 40960,
    levels: int = 8,
    tile: int = 512,
    quality: int = 80,
    tissue: float = 0.3,
    seed: int = 0,
    source: Path = DEMO_SLIDE,
) -> Path:
    """Write a slide and, beside it, an ASAP annotation with a few tumour outlines.

    Parameters
    ----------
    path : Path
        The ``.tif`` to write; the annotation is ``path.with_suffix(".xml")``.
    side_px : int
        Side of level 0, divisible by ``2 ** (levels - 1)``.
    levels, tile, quality : int
        Levels of the pyramid, each half of the last; side of a tile; JPEG quality.
    tissue : float
        Share of the slide that is tissue.
    seed : int
    source : Path
        Slide whose tissue is used.

    Raises
    ------
    ValueError
        If the levels cannot be exact halves of each other.
    """
    if side_px % 2 ** (levels - 1) or tile % CELL:
        raise ValueError(
            f"got a side of {side_px} px and tiles of {tile} px; expected multiples of halves and of {CELL}"
        )
    rng = np.random.default_rng(seed)
    field = tissue_field(side_px, tissue, rng)
    painter = _Painter(field, _textures(source, tile, quality, rng), tile, rng)
    with ThreadPoolExecutor() as pool, TiffWriter(path, bigtiff=True) as tiff:
        pyramid = _Pyramid(side_px, levels, tile, quality, pool)
        for level in range(levels):
            # Level 0 is made while it is written, and leaves the compressed tiles of all others behind.
            tiles = pyramid.level_0(painter) if level == 0 else iter(pyramid.tiles[level])
            tiff.write(
                tiles,
                shape=(side_px >> level, side_px >> level, 3),
                dtype="uint8",
                tile=(tile, tile),
                photometric="rgb",
                compression="jpeg",
                jpegtables=pyramid.tables,
                subfiletype=int(level > 0),
                resolution=(1e4 / MPP / 2**level, 1e4 / MPP / 2**level),
                resolutionunit="CENTIMETER",
                metadata=None,
                software="wsi-maxmin benchmark",
            )
    path.with_suffix(".xml").write_text(asap_xml(_outlines(field, rng)), encoding="utf-8")
    return path


def tissue_field(side_px: int, share: float, rng: np.random.Generator) -> Field:
    """Return a smooth field, a value a cell of `CELL` px, that is positive on `share` of the slide, off its border."""
    cells = -(-side_px // CELL)
    field = ndimage.gaussian_filter(rng.standard_normal((cells, cells)), cells / 16, mode="wrap")
    ramp = np.minimum(np.arange(cells), np.arange(cells)[::-1]) / (cells / 10)
    field = field / field.std() - 4 * np.maximum(1 - np.minimum.outer(ramp, ramp), 0)
    return (field - np.quantile(field, 1 - share)).astype(np.float32)


def split_tables(jpeg: bytes) -> tuple[bytes, bytes]:
    """Divide a JPEG file into its tables, as TIFF's tag 347 holds them, and the stream that is left."""
    tables, rest, place = [_START], [_START], 2
    while jpeg[place + 1] != _SCAN:
        marker, end = jpeg[place + 1], place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if marker != _JFIF:
            (tables if marker in _TABLES else rest).append(jpeg[place:end])
        place = end
    return b"".join([*tables, b"\xff\xd9"]), b"".join([*rest, jpeg[place:]])


def encode_tile(pixels: Pixels, quality: int) -> bytes:
    """Compress a tile as a JPEG file: YCbCr, colours at half resolution."""
    pixels, colours = np.ascontiguousarray(pixels), {"colorspace": "RGB", "outcolorspace": "YCBCR"}
    return bytes(imagecodecs.jpeg8_encode(pixels, level=quality, subsampling="420", **colours))


def asap_xml(outlines: Sequence[npt.NDArray[np.float64]]) -> str:
    """Return an ASAP annotation of tumour outlines, each (N, 2) of x, y in level-0 px."""
    lines = ['<?xml version="1.0"?>', "<ASAP_Annotations>", "\t<Annotations>"]
    for number, outline in enumerate(outlines):
        lines.append(f'\t\t<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup="_0" Color="#F4FA58">')
        lines.append("\t\t\t<Coordinates>")
        for order, (x, y) in enumerate(outline.round().astype(int)):
            lines.append(f'\t\t\t\t<Coordinate Order="{order}" X="{x}" Y="{y}" />')
        lines += ["\t\t\t</Coordinates>", "\t\t</Annotation>"]
    group = '\t\t<Group Name="_0" PartOfGroup="None" Color="#00ff00"><Attributes /></Group>'
    lines += ["\t</Annotations>", "\t<AnnotationGroups>", group, "\t</AnnotationGroups>", "</ASAP_Annotations>", ""]
    return "\n".join(lines)


class _Painter:
    """Draws strips of level 0, one row of tiles each, from the top down."""

    def __init__(self, field: Field, textures: Sequence[Pixels], tile: int, rng: np.random.Generator) -> None:
        self._field = np.pad(field, 1, mode="edge")
        self._textures, self._tile, self._rng = textures, tile, rng
        self._glass = rng.normal(_GLASS, _GLASS_NOISE, (2 * tile, 2 * tile, 3)).round().astype(np.uint8)
        # Bilinear interpolation between cell centres, as one matrix for both axes.
        position = (np.arange(tile) + 0.5) / CELL + 0.5
        self._weights = np.maximum(1 - np.abs(position[:, None] - np.arange(tile // CELL + 2)), 0).astype(np.float32)

    def strip(self, row: int, height: int, side_px: int) -> Pixels:
        """Return (height, side_px, 3) from row `row` of tiles on."""
        strip = np.empty((height, side_px, 3), dtype=np.uint8)
        for column in range(-(-side_px // self._tile)):
            part = strip[:, column * self._tile : (column + 1) * self._tile]
            part[:] = self._draw(row, column)[: part.shape[0], : part.shape[1]]
        return strip

    def _draw(self, row: int, column: int) -> Pixels:
        cells = self._tile // CELL
        near = self._field[row * cells : (row + 1) * cells + 2, column * cells : (column + 1) * cells + 2]
        near = np.pad(near, [(0, cells + 2 - size) for size in near.shape], mode="edge")
        if (near <= 0).all():
            return self._crop(self._glass)
        texture = self._crop(self._textures[self._rng.integers(len(self._textures))])
        texture = np.rot90(texture, self._rng.integers(4))
        texture = texture[:, ::-1] if self._rng.integers(2) else texture
        if (near > 0).all():
            return texture
        inside = self._weights @ near @ self._weights.T > 0
        return np.where(inside[..., None], texture, self._crop(self._glass))

    def _crop(self, block: Pixels) -> Pixels:
        y, x = self._rng.integers(0, block.shape[0] - self._tile + 1, 2)
        return block[y : y + self._tile, x : x + self._tile]


class _Pyramid:
    """Compresses level 0 as it is drawn, and all other levels on the way; those are small once compressed."""

    def __init__(self, side_px: int, levels: int, tile: int, quality: int, pool: ThreadPoolExecutor) -> None:
        self._side_px, self._levels, self._tile, self._quality, self._pool = side_px, levels, tile, quality, pool
        self.tables = split_tables(encode_tile(np.zeros((tile, tile, 3), np.uint8), quality))[0]
        self.tiles: list[list[bytes]] = [[] for _ in range(levels)]
        self._waiting: list[list[Pixels]] = [[] for _ in range(levels)]
        self._rows = [0] * levels

    def level_0(self, painter: _Painter) -> Iterator[bytes]:
        """Yield the compressed tiles of level 0."""
        for row, top in enumerate(range(0, self._side_px, self._tile)):
            strip = painter.strip(row, min(self._tile, self._side_px - top), self._side_px)
            # Before the yield: the writer does not come back after the last tile.
            self._add(1, strip)
            yield from self._encode(strip)

    def _add(self, level: int, above: Pixels) -> None:
        """Halve rows of the level above; compress a row of tiles once it is whole."""
        if level == self._levels:
            return
        self._waiting[level].append(_halve(above))
        self._rows[level] += above.shape[0] // 2
        if self._rows[level] % self._tile == 0 or self._rows[level] == self._side_px >> level:
            strip = np.concatenate(self._waiting[level])
            self._waiting[level].clear()
            self.tiles[level] += self._encode(strip)
            self._add(level + 1, strip)

    def _encode(self, strip: Pixels) -> list[bytes]:
        height, width = (-size % self._tile for size in strip.shape[:2])
        padded = np.pad(strip, ((0, height), (0, width), (0, 0)), mode="edge") if height or width else strip
        return list(self._pool.map(self._stream, np.split(padded, padded.shape[1] // self._tile, axis=1)))

    def _stream(self, pixels: Pixels) -> bytes:
        return split_tables(encode_tile(pixels, self._quality))[1]


def _halve(pixels: Pixels) -> Pixels:
    wide = pixels[0::2].astype(np.uint16) + pixels[1::2]
    return ((wide[:, 0::2] + wide[:, 1::2] + 2) >> 2).astype(np.uint8)


def _textures(source: Path, tile: int, quality: int, rng: np.random.Generator) -> list[Pixels]:
    """Return blocks of a slide that are all tissue, softened until a tile takes as many bytes as in Camelyon16."""
    side = max(_BLOCK_PX, tile)
    blocks: list[Pixels] = []
    with open_slide(source) as slide:
        tissue, (width, height) = find_tissue(slide), slide.info.size_px
        step = np.arange(16, side, 32)
        corners = rng.integers(0, (width - side, height - side), (20_000, 2))
        inside = (corner for corner in corners if tissue.at(corner[0] + step, corner[1] + step).mean() > 0.98)
        for _, (x, y) in zip(range(_BLOCKS), inside, strict=False):
            blocks.append(slide.read_level(0, int(x), int(y), side, side))
    if not blocks:
        raise ValueError(f"got {source} without tissue of {side}×{side} px; expected a slide with some")
    some = [block[:tile, :tile] for block in blocks[:12]]
    for sigma in np.arange(0, 4, 0.1):
        soft = [ndimage.gaussian_filter(block, (sigma, sigma, 0)) for block in some]
        if np.mean([len(encode_tile(block, quality)) for block in soft]) <= _TISSUE_TILE_BYTES:
            break
    return [ndimage.gaussian_filter(block, (sigma, sigma, 0)) for block in blocks]


def _outlines(
    field: Field, rng: np.random.Generator, count: int = 4, corners: int = 72
) -> list[npt.NDArray[np.float64]]:
    """Return wavy outlines around the places that lie deepest in tissue, level-0 px."""
    depth = ndimage.distance_transform_edt(field > 0)
    angles, outlines = np.linspace(0, 2 * np.pi, corners, endpoint=False), []
    rows, columns = np.indices(depth.shape)
    for _ in range(count):
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        radius = 0.7 * depth[row, column]
        waves = [0.1 * np.sin(n * angles + rng.uniform(0, 6.3)) for n in (2, 3, 7)]
        reach = radius * (1 + np.sum(waves, axis=0))
        centre = np.array([column + 0.5, row + 0.5])
        outlines.append(CELL * (centre + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)))
        depth[np.hypot(rows - row, columns - column) < 4 * radius] = 0
    return outlines
