"""The picture of a slide: tissue, patches and tumour, each in its colour and place."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_extract_patches import SMALL, TISSUE, TUMOUR, outline
from wsi_maxmin.cutting import plan_slide, release
from wsi_maxmin.extraction import ExtractSettings, Plan, Planned, SlideJob
from wsi_maxmin.sinks import preview

BLUE, GREEN, ORANGE = (0, 114, 178), (0, 158, 115), (230, 159, 0)


def draw(job: SlideJob, out: Path, plan: Plan | None = None, settings: ExtractSettings = SMALL) -> np.ndarray:
    out.mkdir(exist_ok=True)
    preview.write(job, settings, plan or plan_slide(job, settings), out)
    release()
    assert [path.name for path in (out / "previews").iterdir()] == [f"{job.slide_id}.png"]
    return np.asarray(Image.open(out / "previews" / f"{job.slide_id}.png"))


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the pixels of a colour."""
    rows, columns = np.nonzero((picture == colour).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.fixture
def job(make_slide: Callable[..., Path], tmp_path: Path) -> SlideJob:
    """Return the job of a slide of 512×384 px with tissue and tumour."""
    truth = outline(tmp_path / "one.xml", *TUMOUR)
    return SlideJob(slide_id="one", path=make_slide("one", TISSUE), truth=truth)


def test_a_small_slide_is_shown_at_its_own_size(job: SlideJob, tmp_path: Path) -> None:
    assert draw(job, tmp_path / "out").shape == (384, 512, 3)


def test_tumour_is_outlined_where_it_is(job: SlideJob, tmp_path: Path) -> None:
    x, y, width, height = TUMOUR
    picture = draw(job, tmp_path / "out")
    # The line is three pixels wide.
    np.testing.assert_allclose(where(picture, ORANGE), (x, y, x + width, y + height), atol=2)
    middle = picture[y + 8 : y + height - 8, x + 8 : x + width - 8]
    assert not (middle == ORANGE).all(axis=2).any()


def test_tissue_is_outlined_where_it_is(job: SlideJob, tmp_path: Path) -> None:
    x, y, width, height = TISSUE
    picture = draw(job, tmp_path / "out")
    # Tissue is found at some 4 px of the slide a pixel.
    np.testing.assert_allclose(where(picture, BLUE), (x, y, x + width, y + height), atol=8)


def test_each_patch_is_framed_and_nothing_else_is_green(job: SlideJob, tmp_path: Path) -> None:
    plan = Plan(mpp=2.0, patches=(Planned(64, 0, 64, 64, 1.0), Planned(320, 256, 64, 64, 1.0)))
    green = (draw(replace(job, truth=None), tmp_path / "out", plan) == GREEN).all(axis=2)
    expected = np.zeros_like(green)
    for patch in plan.patches:
        expected[patch.y : patch.y + 64, patch.x : patch.x + 64] = True
        expected[patch.y + 1 : patch.y + 63, patch.x + 1 : patch.x + 63] = False
    np.testing.assert_array_equal(green, expected)


def test_without_tumour_and_tissue_neither_is_drawn(job: SlideJob, tmp_path: Path) -> None:
    picture = draw(replace(job, truth=None), tmp_path / "out", Plan(mpp=2.0, patches=()))
    for colour in (BLUE, GREEN, ORANGE):
        assert not (picture == colour).all(axis=2).any()


def test_a_large_slide_is_reduced_with_all_that_is_drawn_and_small_patches_are_dots(
    tmp_path: Path, stained: Callable[..., np.ndarray], write_pyramid: Callable[..., Path]
) -> None:
    path = write_pyramid(tmp_path / "wide.tif", [stained(4800, 600, (1200, 120, 2400, 360))], 2.0, tile=256)
    job = SlideJob(slide_id="wide", path=path, truth=outline(tmp_path / "wide.xml", 1800, 240, 600, 120))
    plan = plan_slide(job, replace(SMALL, patch_px=120))
    picture = draw(job, tmp_path / "out", plan)
    assert picture.shape == (256, 2048, 3)
    np.testing.assert_allclose(where(picture, ORANGE), (768, 102, 1024, 154), atol=2)
    np.testing.assert_allclose(where(picture, BLUE), (512, 51, 1536, 205), atol=4)
    np.testing.assert_allclose(where(picture, GREEN), (512, 51, 1536, 205), atol=3)
    dots = Plan(mpp=2.0, patches=tuple(Planned(x, 300, 9, 9, 1.0) for x in range(0, 900, 9)))
    green = (draw(replace(job, truth=None), tmp_path / "dots", dots) == GREEN).all(axis=2)
    assert green.sum() == 100
    assert green.any(axis=1).sum() == 1
