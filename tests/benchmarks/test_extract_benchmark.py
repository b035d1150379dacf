"""The benchmark of extraction: its slide is one like Camelyon16's, and its tables say what was measured."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import openslide
import pytest
import tifffile

from wsi_maxmin.annotations import read_annotation
from wsi_maxmin.readers import open_slide
from wsi_maxmin.tissue import find_tissue

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SIDE, LEVELS, TILE = 2048, 3, 512


def load(name: str) -> ModuleType:
    """Import a script as it is imported when it runs: from its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    return load("_camelyon_like").write_slide(path, side_px=SIDE, levels=LEVELS, tile=TILE)


def test_openslide_reads_the_exact_pyramid_and_its_mpp(slide):
    with openslide.OpenSlide(slide) as opened:
        assert opened.level_dimensions == ((2048, 2048), (1024, 1024), (512, 512))
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.243)
        assert float(opened.properties["openslide.mpp-y"]) == pytest.approx(0.243)


def test_tiles_are_half_coloured_jpeg_that_share_one_set_of_tables(slide):
    with tifffile.TiffFile(slide) as tiff:
        assert tiff.is_bigtiff
        assert len(tiff.pages) == LEVELS
        assert len({page.jpegtables for page in tiff.pages}) == 1
        for page in tiff.pages:
            assert (page.tile, page.subsampling, page.compression) == ((TILE, TILE), (2, 2), tifffile.COMPRESSION.JPEG)
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                tiff.filehandle.seek(offset)
                stream = tiff.filehandle.read(count)
                assert stream[:4] == b"\xff\xd8\xff\xc0"
                assert b"\xff\xdb" not in stream
                assert b"\xff\xc4" not in stream


def test_both_libraries_decode_the_same_pixels_at_every_level(slide):
    with openslide.OpenSlide(slide) as opened, tifffile.TiffFile(slide) as tiff:
        for level, page in enumerate(tiff.pages):
            region = opened.read_region((0, 0), level, opened.level_dimensions[level]).convert("RGB")
            np.testing.assert_array_equal(np.asarray(region), page.asarray())


def test_each_level_is_the_mean_of_the_one_above(slide):
    with tifffile.TiffFile(slide) as tiff:
        above, below = (tiff.pages[level].asarray().astype(float) for level in (0, 1))
    halved = above.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - below).mean() < 3


def test_the_asked_share_of_the_slide_is_found_to_be_tissue(slide):
    with open_slide(slide) as opened:
        assert find_tissue(opened).mask.mean() == pytest.approx(0.3, abs=0.06)


def test_the_annotation_outlines_tumour_inside_the_slide(slide):
    truth = read_annotation(slide.with_suffix(".xml"), {})
    assert truth.holds_tumour


def test_the_same_seed_writes_the_same_bytes(slide, tmp_path):
    again = load("_camelyon_like").write_slide(tmp_path / "again.tif", side_px=SIDE, levels=LEVELS, tile=TILE)
    assert again.read_bytes() == slide.read_bytes()


def test_a_side_that_cannot_be_halved_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got a side of 2050 px"):
        load("_camelyon_like").write_slide(tmp_path / "odd.tif", side_px=2050, levels=LEVELS)


def test_a_table_gives_medians_spread_and_ratios():
    extract = load("extract")
    contenders = [
        extract.Contender(name="copy", kind="limit", command=(), rates=[900.0, 1000.0, 1100.0], tiles=10),
        extract.Contender(
            name="mine", kind="ours", command=(), against="copy", rates=[700.0, 500.0, 600.0], tiles=10, peak_mb=123.4
        ),
        extract.Contender(name="slow", kind="peer", command=(), rates=[4.0], tiles=9, what="PNG"),
        extract.Contender(name="quick", kind="peer", command=(), rates=[100.0, 120.0, 140.0], tiles=11),
        extract.Contender(name="absent", kind="peer", command=(), error="no such package"),
    ]
    rows = extract.table("Extraction", contenders).splitlines()[4:]
    assert rows == [
        "| copy | 1000 | 900–1100 | – | – | 10 | – |  |",
        "| **mine** | 600 | 500–700 | 0.60 | 5.00 | 10 | 123 |  |",
        "| slow | 4.0 | one run | – | 0.03 | 9 | – | PNG |",
        "| quick | 120 | 100–140 | – | 1.00 | 11 | – |  |",
        "| absent | – | – | – | – | – | – | no such package |",
    ]


def test_patches_off_the_grid_lie_in_the_block_with_most_tissue():
    """Tissue on 2 of 4×4 tiles: the 2×2 tiles that hold both are touched by the one patch between them."""
    patches, touched = load("extract").off_grid([[1024, 512], [512, 1024]], 4 * TILE, block=1)
    assert patches == [[768, 768]]
    assert touched == [[512, 512], [1024, 512], [512, 1024], [1024, 1024]]


def test_an_error_is_kept_by_its_last_line_without_the_home_folder():
    said = f"Traceback\n  File {Path.home()}/x.py\nValueError: {Path.home()}/x is odd\n\n"
    assert load("peers._venvs").last_line(said) == "ValueError: ~/x is odd"
