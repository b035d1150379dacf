"""Masks as images, in the forms that tools write them, against the array they were written from."""

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wsi_maxmin.annotations import Truth, _mask_level, mask_tiff
from wsi_maxmin.annotations.mask_tiff import open_mask
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box

WIDTH, HEIGHT = 300, 200
WHOLE = Box(x=0, y=0, width=WIDTH, height=HEIGHT)


def blobs() -> np.ndarray:
    """Return two discs of tumour, the smaller one with a hole."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    small = np.hypot(x - 240, y - 150)
    return (np.hypot(x - 90, y - 70) < 50) | ((small < 30) & (small > 9))


def pyramid(truth: np.ndarray, levels: int, pad: int = 1) -> list[np.ndarray]:
    """Take every 2nd, 4th, … pixel, and pad each level to whole tiles of `pad`."""
    parts = [truth[2**level // 2 :: 2**level, 2**level // 2 :: 2**level] for level in range(levels)]
    return [np.pad(part, [(0, -side % pad) for side in part.shape]) for part in parts]


def write(path: Path, levels: Sequence[np.ndarray], *, high: int = 255, **options: Any) -> Path:
    options = {"photometric": "minisblack", "compression": "deflate", "tile": (64, 64), **options}
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            pixels = level if level.dtype == bool and high == 0 else np.where(level, high, 0).astype(np.uint8)
            tiff.write(pixels, subfiletype=int(index > 0), metadata=None, **options)
    return path


@pytest.fixture
def mask_path(tmp_path: Path) -> Path:
    return write(tmp_path / "slide_mask.tif", pyramid(blobs(), 4))


@pytest.mark.parametrize(
    "options",
    [
        {"high": 1},
        {"high": 255},
        {"high": 255, "compression": "lzw", "predictor": True},
        {"high": 255, "compression": "jpeg"},
        {"high": 255, "compression": None},
        {"high": 255, "compression": "packbits", "tile": None, "rowsperstrip": 17},
        {"high": 255, "tile": None, "rowsperstrip": 200},
        {"high": 0, "compression": None},
        {"high": 0, "compression": None, "tile": None, "rowsperstrip": 8},
        {"high": 3, "photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)},
        {"high": 255, "bigtiff": True},
    ],
)
def test_level_0_reads_as_it_was_written_in_every_form(tmp_path: Path, options: dict[str, Any]) -> None:
    big = options.pop("bigtiff", False)
    truth, path = blobs(), tmp_path / "m.tif"
    write(path, [truth], **options)
    if big:
        tifffile.imwrite(path, truth.astype(np.uint8), bigtiff=True, tile=(64, 64))
    mask = open_mask(path)
    assert mask.size_px == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(mask.mask(WHOLE, WIDTH, HEIGHT), truth)
    part = Box(x=50, y=61, width=101, height=90)
    np.testing.assert_array_equal(mask.drawn_mask(part), truth[61:151, 50:151])
    assert mask.holds_tumour


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_any_colour_is_tumour_and_opacity_is_not(tmp_path: Path, planar: str) -> None:
    truth = blobs()
    pixels = np.zeros((4, HEIGHT, WIDTH), np.uint8)
    pixels[0][truth], pixels[2][50, 7], pixels[3] = 200, 1, 255
    stored = pixels if planar == "separate" else np.moveaxis(pixels, 0, 2)
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, extrasamples=["unassalpha"], tile=(64, 64))
    truth[50, 7] = True
    np.testing.assert_array_equal(open_mask(path).drawn_mask(WHOLE), truth)


def test_outside_the_slide_is_no_tumour(tmp_path: Path) -> None:
    mask = open_mask(write(tmp_path / "m.tif", [np.ones((HEIGHT, WIDTH), bool)]))
    found = mask.drawn_mask(Box(x=-10, y=-20, width=WIDTH + 30, height=HEIGHT + 50))
    assert found.sum() == WIDTH * HEIGHT
    assert found[20 : 20 + HEIGHT, 10 : 10 + WIDTH].all()
    assert not mask.drawn_mask(Box(x=5000, y=0, width=9, height=9)).any()


@pytest.mark.parametrize("pad", [1, 16])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_coarse_mask_comes_from_the_level_of_its_downsample_padded_or_not(
    tmp_path: Path, level: int, pad: int
) -> None:
    levels = pyramid(blobs(), 4, pad)
    levels[0] = levels[0][:HEIGHT, :WIDTH]
    # Each level has a pattern of its own, so that it is told from the others.
    levels = [part ^ (np.indices(part.shape).sum(axis=0) % (5 + index) == 0) for index, part in enumerate(levels)]
    mask = open_mask(write(tmp_path / "m.tif", levels, tile=(16, 16)))
    height, width = HEIGHT >> level, WIDTH >> level
    box = Box(x=0, y=0, width=width << level, height=height << level)
    np.testing.assert_array_equal(mask.mask(box, width, height), levels[level][:height, :width])
    finer = max(level - 1, 0)
    columns = ((np.arange(width + 1) + 0.5) * box.width / (width + 1)).astype(int) >> finer
    rows = ((np.arange(height + 1) + 0.5) * box.height / (height + 1)).astype(int) >> finer
    np.testing.assert_array_equal(mask.mask(box, width + 1, height + 1), levels[finer][np.ix_(rows, columns)])


def test_padding_is_not_tumour_whatever_it_holds(tmp_path: Path) -> None:
    levels = pyramid(np.zeros((HEIGHT, WIDTH), bool), 3, 64)
    for coarse in levels[1:]:
        coarse[-1], coarse[:, -1] = True, True
    mask = open_mask(write(tmp_path / "m.tif", [levels[0][:HEIGHT, :WIDTH], *levels[1:]]))
    assert not mask.holds_tumour
    assert mask.tumour_boxes() == []
    assert not mask.mask(Box(x=0, y=0, width=512, height=512), 128, 128).any()


@given(
    x=st.integers(-50, 320),
    y=st.integers(-50, 220),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
@example(x=0, y=22, size=(124, 36), shape=(51, 3))  # a centre on the border of two pixels
@settings(max_examples=60)
def test_each_pixel_is_the_masks_at_its_centre(
    tmp_path_factory: pytest.TempPathFactory, x: int, y: int, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flat_mask.tif"
    mask = open_mask(folder if folder.exists() else write(folder, [blobs()]))
    (width, height), truth = shape, np.pad(blobs(), 300)
    columns = np.floor(x + (np.arange(width) + 0.5) * size[0] / width).astype(int)
    rows = np.floor(y + (np.arange(height) + 0.5) * size[1] / height).astype(int)
    found = mask.mask(Box(x=x, y=y, width=size[0], height=size[1]), width, height)
    np.testing.assert_array_equal(found, truth[np.ix_(rows + 300, columns + 300)])


def test_levels_in_sub_images_count_and_pictures_of_another_shape_do_not(tmp_path: Path) -> None:
    path, levels = tmp_path / "m.tif", pyramid(blobs(), 3)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(levels[0].astype(np.uint8), subifds=2, tile=(64, 64), metadata=None)
        for level in levels[1:]:
            tiff.write(level.astype(np.uint8), subfiletype=1, tile=(64, 64), metadata=None)
        tiff.write(np.ones((80, 90), np.uint8), metadata=None)
    mask = open_mask(path)
    assert [level.downsample for level in mask._levels] == [1, 2, 4]
    np.testing.assert_array_equal(mask.mask(WHOLE, 75, 50), levels[2])


def test_a_mask_takes_any_reader_of_truth_and_survives_pickling(mask_path: Path) -> None:
    truth: Truth = open_mask(mask_path)
    before = truth.mask(WHOLE, 150, 100)
    copy: Truth = pickle.loads(pickle.dumps(truth))
    np.testing.assert_array_equal(copy.mask(WHOLE, 150, 100), before)
    assert len(pickle.dumps(truth)) < 500


def test_threads_share_a_mask_and_a_small_cache(mask_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mask_level, "_CACHE_BYTES", 5 * 64 * 64)
    truth, mask = blobs(), open_mask(mask_path)
    boxes = [Box(x=x, y=y, width=40, height=40) for x in range(0, 260, 20) for y in range(0, 160, 20)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(mask.drawn_mask, boxes))
    for box, part in zip(boxes, found, strict=True):
        np.testing.assert_array_equal(part, truth[box.y : box.bottom, box.x : box.right])


def test_only_the_tiles_that_are_needed_are_read_and_empty_ones_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.zeros((1024, 1024), bool)
    truth[500:530, 500:530] = True
    mask = open_mask(write(tmp_path / "m.tif", [truth]))
    (level,) = mask._levels
    decode, decoded = level._decode, []
    monkeypatch.setattr(
        level, "_decode", lambda data, index, **_options: (decoded.append(index), decode(data, index))[1]
    )
    assert mask.drawn_mask(Box(x=510, y=510, width=10, height=10)).all()
    assert decoded == [7 * 16 + 7, 7 * 16 + 8, 8 * 16 + 7, 8 * 16 + 8]
    assert not mask.drawn_mask(Box(x=0, y=0, width=400, height=400)).any()
    assert len(decoded) == 5


def test_a_tile_that_was_never_written_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tif", [np.ones((128, 128), bool)])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        lengths = tiff.pages.first.tags["TileByteCounts"]
        lengths.overwrite([0, lengths.value[1], 0, 0])
    found = open_mask(path).drawn_mask(Box(x=0, y=0, width=128, height=128))
    assert found[:64, 64:].all()
    assert found.sum() == 64 * 64


def test_a_lesion_that_the_coarse_levels_lost_is_found(tmp_path: Path) -> None:
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[100, 202] = True
    levels = pyramid(truth, 4)
    assert not any(level.any() for level in levels[1:])
    mask = open_mask(write(tmp_path / "m.tif", levels))
    assert mask.holds_tumour
    assert mask.tumour_boxes() == [Box(x=201, y=99, width=3, height=3)]
    assert mask.geometry().bounds == (202, 100, 203, 101)


def test_a_mask_of_zeros_means_no_tumour(tmp_path: Path) -> None:
    mask = open_mask(write(tmp_path / "m.tif", pyramid(np.zeros((HEIGHT, WIDTH), bool), 3)))
    assert not mask.holds_tumour
    assert mask.tumour_boxes() == []
    assert mask.geometry().is_empty


def test_the_geometry_of_a_small_mask_is_its_pixels(mask_path: Path) -> None:
    geometry, truth = open_mask(mask_path).geometry(), blobs()
    assert geometry.is_valid
    assert geometry.area == truth.sum()
    np.testing.assert_array_equal(
        shapely.contains_xy(geometry, *np.meshgrid(np.arange(300) + 0.5, np.arange(200) + 0.5)), truth
    )
    assert sorted(len(part.interiors) for part in geometry.geoms) == [0, 1]


@pytest.mark.parametrize("levels", [1, 4])
def test_the_boxes_of_a_large_mask_come_from_an_overview_and_hold_every_lesion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    monkeypatch.setattr(mask_tiff, "_BOXES_PX", 75)
    monkeypatch.setattr(mask_tiff, "_PICTURE_PX", 75)
    mask = open_mask(write(tmp_path / "m.tif", pyramid(blobs(), levels)))
    first, second = mask.tumour_boxes()
    for box, (left, top, right, bottom) in ((first, (40, 20, 140, 120)), (second, (210, 120, 270, 180))):
        assert box.x <= left <= box.x + 8
        assert box.y <= top <= box.y + 8
        assert right <= box.right <= right + 8
        assert bottom <= box.bottom <= bottom + 8
    assert mask.geometry().area == pytest.approx(blobs().sum(), rel=0.15)


def test_pieces_that_meet_at_a_corner_share_a_box(tmp_path: Path) -> None:
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[10:20, 10:20] = truth[20:30, 20:30] = truth[0:5, 295:] = True
    mask = open_mask(write(tmp_path / "m.tif", [truth]))
    assert mask.tumour_boxes() == [Box(x=294, y=0, width=6, height=6), Box(x=9, y=9, width=22, height=22)]


def test_what_is_no_mask_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such mask; got .*absent\.tif; expected a TIFF of the slide's size"):
        open_mask(tmp_path / "absent.tif")
    for content in (b"", b"no tiff", b"II*\0" + bytes(4), b"MM\0*\0\0\0\x09"):
        path = tmp_path / "m.tif"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"m\.tif is not a mask that can be read; got "):
            open_mask(path)
    tifffile.imwrite(path, np.ones((9, 9), np.uint8), photometric="miniswhite")
    with pytest.raises(InputError, match=r"m\.tif: it is not clear whether 0 or white .*save the mask with 0 as black"):
        open_mask(path)


def test_a_damaged_mask_is_named_when_it_is_read(mask_path: Path) -> None:
    mask = open_mask(mask_path)
    content = bytearray(mask_path.read_bytes())
    offset, length = mask._levels[0]._places[0]
    content[offset : offset + length] = bytes(length)
    mask_path.write_bytes(content)
    with pytest.raises(InputError, match=r"slide_mask\.tif cannot be read; got .*; copy the file again"):
        mask.drawn_mask(WHOLE)
    mask_path.unlink()
    with pytest.raises(InputError, match=r"slide_mask\.tif cannot be read"):
        mask.drawn_mask(WHOLE)
