"""The fast reader: OpenSlide's pixels, only the bytes that it needs, from anywhere."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from upath import UPath

from wsi_maxmin.errors import SlideError
from wsi_maxmin.readers import open_slide
from wsi_maxmin.readers._choice import choose_reader
from wsi_maxmin.readers.tiff import TiffReader

WritePyramid = Callable[..., Path]

REAL = {
    "CMU-1-Small-Region.svs": "tiff",
    "TCGA-CR-7395-01A-01-TS1.svs": "tiff",
    "diag_packer_example.tif": "tiff",
    "normal_001_region.tif": "tiff",
    "openslide_boxes.tiff": "tiff",
    "openslide_small.svs": "tiff",
    "tumor_001_region.tif": "tiff",
}


def write_jpeg(path: Path, pixels: np.ndarray, *, photometric: str = "ycbcr", tile: int = 64, **options: Any) -> Path:
    """Write JPEG tiles in the named colours; without Adobe's or JFIF's marker, as scanners do."""
    columns, rows = -(-pixels.shape[1] // tile), -(-pixels.shape[0] // tile)
    padded = np.pad(pixels, ((0, rows * tile - pixels.shape[0]), (0, columns * tile - pixels.shape[1]), (0, 0)), "edge")
    colours = {"colorspace": "rgb", "outcolorspace": "rgb" if photometric == "rgb" else "ycbcr"}
    tiles = (
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(padded[y : y + tile, x : x + tile]), level=95, subsampling="444", **colours
        )
        for y in range(0, rows * tile, tile)
        for x in range(0, columns * tile, tile)
    )
    bare = (re.sub(rb"\xff\xee\x00\x0eAdobe.{7}|\xff\xe0\x00\x10JFIF.{10}", b"", data, flags=re.S) for data in tiles)
    tifffile.imwrite(
        path,
        bare,
        shape=pixels.shape,
        dtype=np.uint8,
        photometric=photometric,
        tile=(tile, tile),
        compression="jpeg",
        resolution=(4e4, 4e4),
        resolutionunit="CENTIMETER",
        metadata=None,
        **options,
    )
    return path


@pytest.fixture
def smooth() -> np.ndarray:
    """Return 200×150 px of colour that JPEG hardly changes."""
    y, x = np.mgrid[:150, :200]
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """Serve a folder over HTTP with ranges; give its address, and the bytes of each answer."""
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            data = (tmp_path / self.path[1:]).read_bytes()
            knows_ranges = not self.path.startswith("/whole")
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if knows_ranges else None
            part = data[int(found[1]) : int(found[2]) + 1] if found else data
            self.send_response(206 if found else 200)
            self.send_header("Content-Length", str(len(part)))
            if knows_ranges:
                self.send_header("Accept-Ranges", "bytes")
            if found:
                self.send_header("Content-Range", f"bytes {found[1]}-{found[2]}/{len(data)}")
            self.end_headers()
            if body:
                sent.append(len(part))
                self.wfile.write(part)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.data
@pytest.mark.parametrize("file", sorted(REAL))
def test_every_real_slide_has_openslides_pixels_at_every_level(data_dir: Path, file: str) -> None:
    """Corners that OpenSlide reads without interpolating: whole level-0 px that its own downsample maps to whole px."""
    path = data_dir / "slides" / file
    ours, theirs = open_slide(path, reader="tiff"), open_slide(path, reader="openslide")
    assert ours.info.size_px == theirs.info.size_px
    assert ours.info.mpp == pytest.approx(theirs.info.mpp) if theirs.info.mpp else ours.info.mpp is None
    assert ours.info.level_downsamples == theirs.info.level_downsamples
    handle = openslide.OpenSlide(path)
    for level, (width, height) in enumerate(handle.level_dimensions):
        exact = handle.level_downsamples[level] == ours.info.level_downsamples[level]
        for x, y in [(0, 0), *([(-7, -5), (width // 3, height // 2)] if exact else [])]:
            place = (level, x, y, min(width, 3000) + 20, min(height, 3000) + 20)
            np.testing.assert_array_equal(ours.read_level(*place), theirs.read_level(*place))


@pytest.mark.data
@pytest.mark.parametrize("file", sorted(REAL))
def test_auto_takes_the_fast_reader_where_the_rule_says_so(data_dir: Path, file: str) -> None:
    assert choose_reader(data_dir / "slides" / file) == REAL[file]
    assert open_slide(data_dir / "slides" / file).info.reader == REAL[file]


def test_auto_leaves_jpeg_2000_in_ycbcr_and_other_codecs_to_openslide(smooth: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "zstd.tif"
    tifffile.imwrite(path, smooth, photometric="rgb", tile=(64, 64), compression="zstd")
    assert choose_reader(path) == "openslide"


def test_auto_leaves_an_aperio_slide_with_unscanned_tiles_to_openslide(smooth: np.ndarray, tmp_path: Path) -> None:
    text = "Aperio Image Library v11.2.1 \r\n200x150 (64x64) |AppMag = 20|MPP = 0.5"
    path = write_jpeg(tmp_path / "whole.svs", smooth, description=text)
    assert choose_reader(path) == "tiff"
    empty_tile(path)
    assert choose_reader(path) == "openslide"


def test_a_file_that_openslide_does_not_know_is_tried_with_the_fast_reader(smooth: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "notes.tif"
    path.write_text("not a slide")
    assert choose_reader(path) == "openslide"


def empty_tile(path: Path) -> None:
    """Make the first tile one that was never written."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        counts = tiff.pages[0].tags["TileByteCounts"]
        counts.overwrite([0, *counts.value[1:]])


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_a_tile_that_was_never_written_is_white(smooth: np.ndarray, tmp_path: Path, reader: str) -> None:
    path = write_jpeg(tmp_path / "sparse.tif", smooth)
    empty_tile(path)
    region = open_slide(path, reader=reader).read_level(0, 32, 0, 64, 64)
    assert (region[:, :32] == 255).all()
    assert (region[:, 32:] != 255).any()


@pytest.mark.parametrize("photometric", ["ycbcr", "rgb"])
def test_jpeg_tiles_keep_their_colours(smooth: np.ndarray, tmp_path: Path, photometric: str) -> None:
    slide = open_slide(write_jpeg(tmp_path / "colours.tif", smooth, photometric=photometric), reader="tiff")
    assert np.abs(slide.read_level(0, 0, 0, 200, 150).astype(int) - smooth).max() <= 6


@pytest.mark.parametrize("photometric", ["ycbcr", "rgb"])
def test_a_copied_tile_is_a_jpeg_file_of_the_same_pixels(smooth: np.ndarray, tmp_path: Path, photometric: str) -> None:
    slide = open_slide(write_jpeg(tmp_path / "colours.tif", smooth, photometric=photometric), reader="tiff")
    data = slide.jpeg(0, 64, 64, 64, 64)
    assert data is not None
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), slide.read_level(0, 64, 64, 64, 64))


@pytest.mark.data
def test_tiles_with_shared_tables_are_copied_with_them(data_dir: Path) -> None:
    """The packer's example and Aperio's slides keep the tables once a level, Camelyon16's as well."""
    for file, side in [("diag_packer_example.tif", 512), ("CMU-1-Small-Region.svs", 240)]:
        slide = open_slide(data_dir / "slides" / file)
        data = slide.jpeg(0, side, 0, side, side)
        assert data is not None
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(data))), slide.read_level(0, side, 0, side, side)
        )


def test_only_a_whole_jpeg_tile_inside_the_slide_is_copied(
    smooth: np.ndarray, tmp_path: Path, write_pyramid: WritePyramid
) -> None:
    slide = open_slide(write_jpeg(tmp_path / "a.tif", smooth), reader="tiff")
    assert slide.jpeg(0, 0, 0, 64, 64) is not None
    for place in [(1, 0, 64, 64), (0, 0, 128, 64), (0, 0, 32, 32), (192, 0, 64, 64), (-64, 0, 64, 64)]:
        assert slide.jpeg(0, *place) is None
    assert open_slide(write_pyramid(tmp_path / "b.tif", [smooth]), reader="tiff").jpeg(0, 0, 0, 64, 64) is None
    assert open_slide(tmp_path / "a.tif", reader="openslide").jpeg(0, 0, 0, 64, 64) is None


def test_a_slide_in_memory_is_read_through_its_url(smooth: np.ndarray, tmp_path: Path) -> None:
    path = write_jpeg(tmp_path / "a.tif", smooth)
    fsspec.filesystem("memory").pipe("/bucket/a.tif", path.read_bytes())
    slide = open_slide("memory://bucket/a.tif")
    assert (slide.info.slide_id, slide.info.reader, slide.info.mpp) == ("a", "tiff", pytest.approx(0.25))
    expected = open_slide(path).read_level(0, 10, 20, 150, 100)
    np.testing.assert_array_equal(slide.read_level(0, 10, 20, 150, 100), expected)
    assert slide.fingerprint()["bytes"] == path.stat().st_size


def test_over_http_only_ranges_travel(tmp_path: Path, served: tuple[str, list[int]]) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra 'cloud'")
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.tif"
    tifffile.imwrite(path, rng.integers(0, 256, (1024, 1024, 3), np.uint8), photometric="rgb", tile=(256, 256))
    address, sent = served
    slide = open_slide(f"{address}/noise.tif", slide_mpp=0.5)
    assert slide.info.size_px == (1024, 1024)
    header = sum(sent)
    region = slide.read_level(0, 256, 256, 256, 512)
    np.testing.assert_array_equal(region, open_slide(path).read_level(0, 256, 256, 256, 512))
    assert sum(sent) - header == 2 * 256 * 256 * 3
    assert header < path.stat().st_size / 2


@pytest.mark.data
def test_a_server_that_is_down_or_knows_no_ranges_is_no_damaged_slide(
    tmp_path: Path, served: tuple[str, list[int]], data_dir: Path
) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra 'cloud'")
    (tmp_path / "whole.svs").write_bytes((data_dir / "slides" / "CMU-1-Small-Region.svs").read_bytes())
    with pytest.raises(SlideError, match="does not say that it answers range requests"):
        _ = open_slide(f"{served[0]}/whole.svs").info
    with pytest.raises(SlideError, match=r"the server of http://127\.0\.0\.1:9/x\.tif cannot be reached"):
        _ = open_slide("http://127.0.0.1:9/x.tif").info


def test_an_absent_url_is_named() -> None:
    with pytest.raises(SlideError, match=r"no such slide; got memory://.*absent\.tif"):
        _ = open_slide("memory://bucket/absent.tif").info


def test_neighbouring_reads_off_the_grid_decode_each_tile_once(
    smooth: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = open_slide(write_jpeg(tmp_path / "a.tif", np.tile(smooth, (3, 3, 1))), reader="tiff")
    decoded: list[int] = []
    plain = imagecodecs.jpeg8_decode
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", lambda *args, **how: decoded.append(1) or plain(*args, **how))
    whole = slide.read_level(0, 0, 0, 600, 450)
    tiles = len(decoded)
    assert tiles == 10 * 8
    for y in range(32, 386, 64):
        for x in range(32, 536, 64):
            np.testing.assert_array_equal(slide.read_level(0, x, y, 64, 64), whole[y : y + 64, x : x + 64])
    assert len(decoded) == tiles


def test_the_cache_keeps_to_its_bytes(smooth: np.ndarray, tmp_path: Path) -> None:
    path = write_jpeg(tmp_path / "a.tif", np.tile(smooth, (3, 3, 1)))
    tile_bytes = 64 * 64 * 3
    slide = TiffReader(path, slide_mpp=None, slide_id="a", cache_bytes=5 * tile_bytes)
    for x in range(0, 500, 30):
        slide.read_level(0, x, 40, 64, 64)
        assert slide._cache._bytes <= 5 * tile_bytes
        assert slide._cache._bytes == sum(pixels.nbytes for pixels in slide._cache._tiles.values())


def test_what_a_caller_does_to_a_tile_stays_with_the_caller(smooth: np.ndarray, tmp_path: Path) -> None:
    slide = open_slide(write_jpeg(tmp_path / "a.tif", smooth), reader="tiff")
    slide.read_level(0, 32, 0, 64, 64)
    before = slide.read_level(0, 0, 0, 64, 64)
    expected = before.copy()
    before[:] = 0
    np.testing.assert_array_equal(slide.read_level(0, 0, 0, 64, 64), expected)


def test_a_striped_tiff_is_no_slide(smooth: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "strips.tif", smooth, photometric="rgb")
    with pytest.raises(SlideError, match=r"strips\.tif is not a readable slide; got no tiled level"):
        _ = open_slide(tmp_path / "strips.tif", reader="tiff").info


def test_colours_in_separate_planes_are_refused(smooth: np.ndarray, tmp_path: Path) -> None:
    planes = np.moveaxis(smooth, 2, 0)
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate", tile=(64, 64))
    with pytest.raises(SlideError, match="separate planes"):
        _ = open_slide(tmp_path / "p.tif", reader="tiff").info


def test_a_reader_of_a_url_can_be_sent_to_another_process(smooth: np.ndarray, tmp_path: Path) -> None:
    import pickle

    fsspec.filesystem("memory").pipe("/bucket/b.tif", write_jpeg(tmp_path / "b.tif", smooth).read_bytes())
    slide = pickle.loads(pickle.dumps(open_slide(UPath("memory://bucket/b.tif"))))
    assert slide.read_level(0, 0, 0, 10, 10).shape == (10, 10, 3)
