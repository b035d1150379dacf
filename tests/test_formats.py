"""Every format gives bytes that any reader of images takes, and says which it is."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from tests.test_tiff_reader import write_jpeg
from wsi_maxmin.formats import plugins
from wsi_maxmin.formats.jpeg import encode_jpeg
from wsi_maxmin.formats.png import encode_mask, encode_png
from wsi_maxmin.geometry import Box
from wsi_maxmin.readers import Reader, open_slide

SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def slide(tmp_path: Path) -> Reader:
    y, x = np.mgrid[:192, :256]
    pixels = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
    return open_slide(write_jpeg(tmp_path / "slide.tif", pixels))


@pytest.mark.parametrize("name", plugins.names())
def test_a_format_gives_the_patch_or_nothing(slide: Reader, name: str) -> None:
    encoded = plugins.load(name).encode(slide, Box(x=64, y=64, width=64, height=64), 64, quality=90)
    if name == "none":
        assert encoded is None
        return
    assert (encoded.name, encoded.suffix) == (name, ".png" if name == "png" else ".jpg")
    found = pixels_of(encoded.data).astype(int)
    expected = slide.read_level(0, 64, 64, 64, 64)
    assert np.abs(found - expected).max() <= (16 if name == "jpeg" else 0)


@given(SIZES.flatmap(lambda size: arrays(np.uint8, (*size, 3))))
def test_png_loses_nothing(pixels: np.ndarray) -> None:
    data = encode_png(pixels)
    np.testing.assert_array_equal(pixels_of(data), pixels)
    assert Image.open(io.BytesIO(data)).mode == "RGB"


@given(SIZES.flatmap(lambda size: arrays(np.bool_, size)))
def test_a_mask_is_a_png_of_one_bit(mask: np.ndarray) -> None:
    image = Image.open(io.BytesIO(encode_mask(mask)))
    assert image.mode == "1"
    np.testing.assert_array_equal(np.asarray(image), mask)


def test_pixels_that_are_a_view_are_encoded_like_their_copy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    view = pixels[::2, 10:50]
    np.testing.assert_array_equal(pixels_of(encode_png(view)), view)
    assert encode_jpeg(view, 90) == encode_jpeg(view.copy(), 90)


def test_jpeg_halves_its_colours_up_to_quality_90() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

    def sampling(quality: int) -> list[tuple[int, int]]:
        image = Image.open(io.BytesIO(encode_jpeg(pixels, quality)))
        return [layer[1:3] for layer in image.layer]

    assert sampling(90)[0] == (2, 2)
    assert sampling(95)[0] == (1, 1)


@pytest.mark.parametrize(
    "box",
    [
        Box(x=32, y=0, width=64, height=64),
        Box(x=0, y=0, width=128, height=128),
        Box(x=224, y=128, width=64, height=64),
        Box(x=0, y=0, width=63, height=63),
    ],
    ids=["off the grid", "reduced", "over the edge", "enlarged"],
)
def test_raw_jpeg_compresses_what_is_no_tile_at_quality_95(slide: Reader, box: Box) -> None:
    encoded = plugins.load("raw-jpeg").encode(slide, box, 64, quality=1)
    assert encoded.name == "jpeg"
    assert encoded.data == encode_jpeg(slide.read(box, 64, 64), 95)


def test_raw_jpeg_copies_tiles_of_coarser_levels_too(
    tmp_path: Path, make_pyramid: Callable[..., list[np.ndarray]]
) -> None:
    import imagecodecs
    import tifffile

    levels = make_pyramid(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8), 2)
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as tiff:
        for index, pixels in enumerate(levels):
            tiff.write(pixels, tile=(64, 64), compression="jpeg", photometric="rgb", subfiletype=int(index > 0))
    slide = open_slide(path, slide_mpp=0.25)
    encoded = plugins.load("raw-jpeg").encode(slide, Box(x=128, y=0, width=128, height=128), 64, quality=1)
    assert encoded.name == "raw-jpeg"
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(encoded.data), slide.read_level(1, 64, 0, 64, 64))
