"""Every reader of the folder against the arrays that its slide was written from."""

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.geometry import Box
from wsi_maxmin.readers import Reader, open_slide, plugins
from wsi_maxmin.readers.memory import MemoryReader

Levels = list[np.ndarray]
WritePyramid = Callable[..., Path]


def write_npz(path: Path, levels: Levels, mpp: float | None = 0.25) -> Path:
    path = path.with_suffix(".npz")
    values = {} if mpp is None else {"mpp": np.float64(mpp)}
    np.savez(path, **values, **{f"level_{index}": pixels for index, pixels in enumerate(levels)})
    return path


@pytest.fixture(params=plugins.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def write(name: str, write_pyramid: WritePyramid) -> WritePyramid:
    """Write a slide that the reader can read; one not named here reads a tiled TIFF."""
    return {"memory": write_npz}.get(name, write_pyramid)


@pytest.fixture(scope="module")
def levels() -> Levels:
    """Noise at every level, unrelated between levels, so that the level that was read shows."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (384 // d, 512 // d, 3), dtype=np.uint8) for d in (1, 2, 4)]


@pytest.fixture
def slide(name: str, write: WritePyramid, levels: Levels, tmp_path: Path) -> Reader:
    return open_slide(write(tmp_path / "noise.tif", levels), reader=name)


def test_a_reader_reports_what_the_file_says(slide: Reader, name: str) -> None:
    info = slide.info
    assert (info.slide_id, info.size_px, info.reader) == ("noise", (512, 384), name)
    assert info.mpp == pytest.approx(0.25)
    assert info.level_downsamples == (1.0, 2.0, 4.0)


def test_the_given_name_and_mpp_win(name: str, write: WritePyramid, levels: Levels, tmp_path: Path) -> None:
    path = write(tmp_path / "noise.tif", levels)
    info = open_slide(path, reader=name, slide_id="a_noise", slide_mpp=0.31).info
    assert (info.slide_id, info.mpp) == ("a_noise", 0.31)


def test_a_slide_without_mpp_says_none_until_it_is_asked(
    name: str, write: WritePyramid, levels: Levels, tmp_path: Path
) -> None:
    info = open_slide(write(tmp_path / "noise.tif", levels, None), reader=name).info
    assert info.mpp is None
    with pytest.raises(SlideError, match=r"noise.*missing.*--slide-mpp"):
        info.require_mpp()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_each_level_has_the_pixels_that_were_written(slide: Reader, levels: Levels, level: int) -> None:
    region = slide.read_level(level, 13, 7, 65, 50)
    assert region.dtype == np.uint8
    np.testing.assert_array_equal(region, levels[level][7:57, 13:78])


@pytest.mark.parametrize("level", [0, 1, 2])
def test_outside_the_slide_is_white(slide: Reader, levels: Levels, level: int) -> None:
    height, width = levels[level].shape[:2]
    expected = np.pad(levels[level], ((9, 11), (5, 21), (0, 0)), constant_values=255)
    np.testing.assert_array_equal(slide.read_level(level, -5, -9, width + 26, height + 20), expected)
    assert (slide.read_level(level, width + 3, -40, 8, 8) == 255).all()


@pytest.mark.parametrize("downsample", [0.5, 1, 1.31, 1.999, 2, 2.058, 3.5, 4, 7])
@pytest.mark.parametrize("corner", [(0, 0), (37, 21), (-30, -50), (400, 300)])
def test_a_box_at_any_downsample_equals_the_memory_reader(
    slide: Reader, levels: Levels, downsample: float, corner: tuple[int, int]
) -> None:
    side = round(32 * downsample)
    box = Box(x=corner[0], y=corner[1], width=side, height=side)
    expected = MemoryReader(levels, mpp=0.25).read(box, 32, 32)
    assert expected.shape == (32, 32, 3)
    np.testing.assert_array_equal(slide.read(box, 32, 32), expected)


def test_frames_agree_where_levels_are_not_exact_halves(
    name: str, write: WritePyramid, make_pyramid: Callable[..., Levels], tmp_path: Path
) -> None:
    """At 509 px OpenSlide itself believes in a downsample of 1.995, and its corners round to level-0 pixels."""
    across, down = np.meshgrid(np.linspace(0, 250, 509), np.linspace(0, 250, 381))
    levels = make_pyramid(np.stack([across, down, across], axis=2).astype(np.uint8), 3)
    slide = open_slide(write(tmp_path / "odd.tif", levels), reader=name)
    assert slide.info.level_downsamples == (1.0, 2.0, 4.0)
    for box in [Box(x=400, y=300, width=100, height=72), Box(x=11, y=9, width=100, height=100)]:
        for side in (50, 25):
            found = slide.read(box, side, side).astype(int)
            expected = MemoryReader(levels, mpp=0.25).read(box, side, side).astype(int)
            assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("downsample", [0.6, 1, 1.7, 2.058, 3.3, 5.1])
@pytest.mark.parametrize("corner", [(0, 0), (37, 21), (133, 90)])
def test_pixels_show_the_middle_of_the_area_that_they_cover(downsample: float, corner: tuple[int, int]) -> None:
    """On a ramp of 0.49 a pixel: one by one within half a pixel of the level read, together without any shift."""
    centres = [(np.arange(512 // d) + 0.5) * d - 0.5 for d in (1, 2, 4)]
    ramps = [np.stack(np.meshgrid(at * 0.49, at * 0.49), axis=2)[..., [0, 1, 0]] for at in centres]
    slide = MemoryReader([ramp.round().astype(np.uint8) for ramp in ramps], mpp=0.25)
    negative = MemoryReader([(255 - ramp).round().astype(np.uint8) for ramp in ramps], mpp=0.25)
    count = round(240 / downsample)
    side = round(count * downsample)
    box = Box(x=corner[0], y=corner[1], width=side, height=side)
    # Halves are rounded up: over a ramp and its negative that cancels.
    found = (slide.read(box, count, count) + 255.0 - negative.read(box, count, count)) / 2
    middle = (np.arange(count) + 0.5) * side / count - 0.5
    level_px = slide.info.level_downsamples[slide.level_for(downsample)]
    for values, start in [(found[5, :, 0], corner[0]), (found[:, 5, 1], corner[1])]:
        error = (values - (start + middle) * 0.49)[1:-1]
        assert np.abs(error).max() < 0.5 * level_px * 0.49 + 1
        assert abs(error.mean()) < 0.1


def test_reduced_pixels_are_means_and_not_picks(levels: Levels) -> None:
    found = MemoryReader(levels[:1], mpp=0.25).read(Box(x=30, y=60, width=96, height=48), 32, 16)
    blocks = levels[0][60:108, 30:126].reshape(16, 3, 32, 3, 3).mean(axis=(1, 3))
    assert np.abs(found - blocks).max() <= 1


def test_enlarged_pixels_are_interpolated_between_their_neighbours() -> None:
    step = np.zeros((4, 4, 3), dtype=np.uint8)
    step[:, 2:] = 200
    found = MemoryReader([step], mpp=0.5).read(Box(x=1, y=0, width=2, height=4), 4, 8)
    assert (found == np.array([0, 50, 150, 200])[:, None]).all()


def test_a_reader_survives_pickling_before_and_after_it_has_read(slide: Reader, levels: Levels) -> None:
    for _ in range(2):
        copy = pickle.loads(pickle.dumps(slide))
        assert copy.info == slide.info
        np.testing.assert_array_equal(copy.read_level(0, 5, 6, 7, 8), levels[0][6:14, 5:12])
        slide.read_level(0, 0, 0, 8, 8)


def test_many_threads_may_read_one_slide(slide: Reader, levels: Levels) -> None:
    corners = [(x, y) for y in range(0, 384, 32) for x in range(0, 512, 32)]
    with ThreadPoolExecutor(4) as pool:
        regions = list(pool.map(lambda corner: slide.read_level(0, *corner, 32, 32), corners))
    for (x, y), region in zip(corners, regions, strict=True):
        np.testing.assert_array_equal(region, levels[0][y : y + 32, x : x + 32])


def test_a_slide_opened_here_can_be_read_in_another_process(slide: Reader, levels: Levels) -> None:
    slide.read_level(0, 0, 0, 8, 8)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        region = pool.submit(slide.read, Box(x=64, y=32, width=16, height=8), 16, 8).result()
    np.testing.assert_array_equal(region, levels[0][32:40, 64:80])


def test_a_closed_slide_opens_again(slide: Reader, levels: Levels) -> None:
    with slide:
        slide.read_level(0, 0, 0, 8, 8)
    np.testing.assert_array_equal(slide.read_level(0, 0, 0, 8, 8), levels[0][:8, :8])


def test_the_overview_is_the_whole_slide_at_the_downsample_asked_for(slide: Reader, levels: Levels) -> None:
    np.testing.assert_array_equal(slide.overview(4), levels[2])
    assert slide.overview(5.12).shape == (75, 100, 3)
    np.testing.assert_array_equal(slide.overview(1), levels[0])


def test_an_overview_read_in_bands_is_the_same(slide: Reader, levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_maxmin.readers._base._BAND_PX", 1000)
    np.testing.assert_array_equal(slide.overview(4), levels[2])
    np.testing.assert_array_equal(slide.overview(1), levels[0])


def test_the_level_read_is_the_coarsest_that_is_fine_enough(slide: Reader) -> None:
    asked = [0.5, 1, 1.99, 2, 2.01, 3.99, 4, 100]
    assert [slide.level_for(downsample) for downsample in asked] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_the_fingerprint_tells_files_apart(name: str, write: WritePyramid, levels: Levels, tmp_path: Path) -> None:
    one, same, other = (
        open_slide(write(tmp_path / f"{stem}.tif", part), reader=name).fingerprint()
        for stem, part in [("a", levels), ("a", levels), ("a", levels[:2])]
    )
    assert one == same != other
    assert one["size_px"] == [512, 384]


def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"no such slide; got .*absent\.svs; check the path"):
        open_slide(tmp_path / "absent.svs", reader=name)


def test_a_text_file_called_a_slide_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.svs"
    path.write_text("not a slide")
    with pytest.raises(SlideError, match=r"notes\.svs is not a readable slide"):
        _ = open_slide(path, reader=name).info


def test_an_unknown_reader_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    with pytest.raises(InputError, match=r"unknown reader; got 'opnslide'.*did you mean openslide"):
        open_slide(tmp_path / "a.tif", reader="opnslide")


@pytest.mark.parametrize("levels", [[], [np.zeros((4, 4), np.uint8)], [np.zeros((4, 4, 3), np.float32)]])
def test_the_memory_reader_wants_rgb_bytes(levels: Levels) -> None:
    with pytest.raises(SlideError, match="holds no pyramid"):
        MemoryReader(levels, mpp=None)


def test_pixels_that_are_not_square_are_refused_unless_mpp_is_given(
    write_pyramid: WritePyramid, levels: Levels, tmp_path: Path
) -> None:
    path = write_pyramid(tmp_path / "flat.tif", levels, (0.25, 0.26))
    with pytest.raises(SlideError, match=r"flat\.tif: its pixels are not square; got 0\.25 × 0\.26 µm"):
        _ = open_slide(path).info
    assert open_slide(path, slide_mpp=0.25).info.mpp == 0.25
    nearly = write_pyramid(tmp_path / "nearly.tif", levels, (0.25, 0.252))
    assert open_slide(nearly).info.mpp == pytest.approx(0.251)


def test_an_aperio_file_of_0_um_asks_for_the_mpp(levels: Levels, tmp_path: Path) -> None:
    path = tmp_path / "zero.svs"
    text = "Aperio Image Library v11.2.1 \r\n512x384 (64x64) |AppMag = 20|MPP = 0"
    tifffile.imwrite(path, levels[0], photometric="rgb", tile=(64, 64), description=text, metadata=None)
    with pytest.raises(SlideError, match=r"zero\.svs.*not believable; got 0\.0.*--slide-mpp"):
        open_slide(path).info.require_mpp()


@pytest.mark.parametrize("reader", ["openslide", "tiff"])
def test_a_damaged_tile_fails_alone_and_by_name_whatever_other_threads_do(
    reader: str, write_pyramid: WritePyramid, levels: Levels, tmp_path: Path
) -> None:
    """OpenSlide spoils a handle that has failed once, and other threads may be inside it at that moment."""
    path = write_pyramid(tmp_path / "damaged.tif", levels[:1])
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[3 * 8 + 2]
    content = bytearray(path.read_bytes())
    content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)
    slide = open_slide(path, reader=reader)

    def attempt(index: int) -> str:
        try:
            slide.read_level(0, index % 8 * 64, index // 8 % 6 * 64, 64, 64)
        except SlideError as error:
            return str(error)
        return "read"

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(48 * 20)))
    assert "read" in outcomes
    assert all(outcome.startswith("damaged.tif cannot be read; got") for outcome in outcomes if outcome != "read")
    assert "level 0, 128,192 64×64" in attempt(3 * 8 + 2)
    np.testing.assert_array_equal(slide.read_level(0, 0, 0, 64, 64), levels[0][:64, :64])


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "size_px", "mpp", "levels"),
    [
        ("tumor_001_region.tif", (12288, 12288), 0.243, 6),
        ("CMU-1-Small-Region.svs", (2220, 2967), 0.499, 1),
        ("TCGA-CR-7395-01A-01-TS1.svs", (4443, 3567), None, 2),
        ("diag_packer_example.tif", (1472, 690), pytest.approx(0.987, abs=1e-3), 3),
    ],
)
def test_real_slides_open_with_exact_downsamples(
    data_dir: Path, file: str, size_px: tuple[int, int], mpp: float | None, levels: int
) -> None:
    with open_slide(data_dir / "slides" / file) as slide:
        assert (slide.info.size_px, slide.info.mpp) == (size_px, mpp)
        assert slide.info.level_downsamples == tuple(2.0**level for level in range(levels))


@pytest.mark.data
def test_a_published_patch_lies_where_its_name_says(data_dir: Path) -> None:
    """The piece of tumor_001 was compressed once more than the patch: a shift by one pixel is five times worse."""
    pattern = "Patch_file_training-tumor-tumor_001.tif_*_x_71640_y_132006_*.png"
    path = next((data_dir / "camelyon16" / "patches512").glob(pattern))
    patch = np.asarray(Image.open(path).convert("RGB")).astype(int)
    slide = open_slide(data_dir / "slides" / "tumor_001_region.tif")
    x, y = 71640 - 65280, 132006 - 127488
    right, wrong = (np.abs(slide.read_level(0, x + by, y, 512, 512) - patch).mean() for by in (0, 1))
    assert right < 2.5 < wrong / 2
