"""The tiles of a slide that a page gets."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from wsi_maxmin.assets import DEMO_SLIDE
from wsi_maxmin.readers import open_slide
from wsi_maxmin.readers.memory import MemoryReader
from wsi_maxmin.viewer._slide_tiles import TILE_PX, SlideTiles, level_count


def pixels_of(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture
def slide():
    """Return a smooth slide of odd sizes, which JPEG keeps well."""
    y, x = np.mgrid[:1301, :1799]
    return np.stack([x // 8, y // 8, (x + y) // 16], axis=2).astype(np.uint8)


def test_tiles_of_a_level_are_the_slide_reduced(slide, make_pyramid):
    tiles = SlideTiles(MemoryReader(make_pyramid(slide, 2), mpp=0.25))
    assert tiles.levels == 3
    for level, step in enumerate((1, 2, 4)):
        width, height = (math.ceil(side / step) for side in tiles.size_px)
        for row in range(-(-height // TILE_PX)):
            for column in range(-(-width // TILE_PX)):
                part = pixels_of(tiles.jpeg(level, column, row))
                x, y = column * TILE_PX * step, row * TILE_PX * step
                assert part.shape == (min(TILE_PX, height - row * TILE_PX), min(TILE_PX, width - column * TILE_PX), 3)
                middle = slide[y + step // 2 :: step, x + step // 2 :: step].astype(int)[
                    : part.shape[0], : part.shape[1]
                ]
                assert np.abs(part[: middle.shape[0], : middle.shape[1]] - middle).mean() < 3


def test_the_slides_own_compressed_tiles_are_handed_on():
    with open_slide(DEMO_SLIDE) as slide:
        tiles = SlideTiles(slide)
        for level in (0, 1, 2):
            assert tiles.jpeg(level, 2, 2) == slide.jpeg(level, 1024, 1024, TILE_PX, TILE_PX)


def test_a_tile_is_made_once(slide):
    class Counting(MemoryReader):
        reads = 0

        def read_level(self, *place):
            self.reads += 1
            return super().read_level(*place)

    reader = Counting([slide], mpp=None)
    tiles = SlideTiles(reader)
    assert tiles.jpeg(1, 1, 0) == tiles.jpeg(1, 1, 0)
    assert reader.reads == 1


@pytest.mark.parametrize("wrong", [(3, 0, 0), (-1, 0, 0), (0, 4, 0), (0, 0, 3), (0, -1, 0)])
def test_what_is_not_there_is_a_key_error(slide, wrong):
    with pytest.raises(KeyError):
        SlideTiles(MemoryReader([slide], mpp=None)).jpeg(*wrong)


def test_a_thumbnail_shows_all_of_the_slide(slide):
    thumbnail = pixels_of(SlideTiles(MemoryReader([slide], mpp=None)).thumbnail(180))
    assert thumbnail.shape == (130, 180, 3)
    assert np.abs(thumbnail[-1, -1] - slide[-1, -1]).max() < 8


@pytest.mark.parametrize(("side", "levels"), [(1, 1), (512, 1), (513, 2), (1024, 2), (1025, 3), (100_000, 9)])
def test_the_coarsest_level_is_one_tile(side, levels):
    assert level_count((side, 3)) == levels
