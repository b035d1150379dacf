"""Every protocol of the folder plans what its form promises; the grid against boxes laid by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wsi_maxmin.annotations import Annotation
from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.extraction import ExtractSettings, Plan, Planned, SlideJob
from wsi_maxmin.geometry import Box, TissueMask
from wsi_maxmin.protocols import plugins
from wsi_maxmin.protocols._rules import lies_in
from wsi_maxmin.readers.memory import MemoryReader
from wsi_maxmin.tissue import find_tissue

Paint = Callable[..., np.ndarray]
LISTED = (Planned(100, 200, 512, 512, 0.5), Planned(700, 200, 512, 512, float("nan")))
JOB = SlideJob(slide_id="slide", path=Path("slide.tif"), listed=LISTED, quota=3)


@pytest.fixture(scope="module")
def slide(stained: Paint) -> MemoryReader:
    return MemoryReader([stained(2600, 2100, (300, 200, 2000, 1500))], mpp=0.25, slide_id="slide")


def outlined(*rings: list[tuple[float, float]], exclude: tuple[list[tuple[float, float]], ...] = ()) -> Annotation:
    def regions(rings: tuple[list[tuple[float, float]], ...]) -> tuple[tuple[np.ndarray, ...], ...]:
        return tuple((np.array(ring, dtype=np.float64),) for ring in rings)

    return Annotation(include=regions(rings), exclude=regions(exclude))


TUMOUR = outlined([(800, 500), (2100, 600), (1900, 1500), (900, 1400)])
NO_TUMOUR = outlined()


def planned(protocol: ModuleType, slide: MemoryReader, truth: Annotation | None, **settings: object) -> Plan:
    plan: Plan = protocol.plan(slide, truth, JOB, ExtractSettings(protocol="any", **settings))  # type: ignore[arg-type]
    return plan


@pytest.mark.parametrize("name", plugins.names())
@pytest.mark.parametrize("truth", [TUMOUR, NO_TUMOUR], ids=["tumour", "no tumour"])
def test_a_plan_has_each_position_once_and_is_the_same_again(slide: MemoryReader, name: str, truth: Annotation) -> None:
    protocol = plugins.load(name)
    plan = planned(protocol, slide, truth)
    assert plan.patches
    assert len({patch[:2] for patch in plan.patches}) == len(plan.patches)
    assert repr(planned(protocol, slide, truth)) == repr(plan)
    assert plan.mpp == 0.25
    assert f"{len(plan.patches)} " in plan.note


@pytest.mark.parametrize("name", plugins.names())
def test_a_mask_has_the_side_of_its_patch_and_says_what_is_tumour(name: str) -> None:
    mask = plugins.load(name).mask(TUMOUR, Box(x=600, y=700, width=512, height=512), 512)
    assert (mask.shape, mask.dtype) == ((512, 512), np.bool_)
    assert mask[256, 511]
    assert not mask[256, 0]


@pytest.mark.parametrize("name", plugins.names())
def test_every_protocol_says_whether_it_needs_a_quota(name: str) -> None:
    assert plugins.load(name).NEEDS_QUOTA is (name == "p512")


@pytest.mark.parametrize("name", plugins.names())
@pytest.mark.parametrize("truth", [TUMOUR, NO_TUMOUR], ids=["tumour", "no tumour"])
def test_a_region_keeps_the_patches_that_lie_in_it_whole(slide: MemoryReader, name: str, truth: Annotation) -> None:
    region = Box(x=0, y=0, width=1600, height=1536)
    patches = planned(plugins.load(name), slide, truth, region=region).patches
    assert patches
    assert all(lies_in(patch.box, region) for patch in patches)


@pytest.mark.parametrize("name", plugins.names())
def test_a_slide_without_mpp_is_refused_with_the_option_that_helps(stained: Paint, name: str) -> None:
    slide = MemoryReader([stained(1024, 1024, (0, 0, 1024, 1024))], mpp=None)
    with pytest.raises(SlideError, match="--slide-mpp"):
        planned(plugins.load(name), slide, NO_TUMOUR)


@pytest.mark.parametrize("name", plugins.names())
def test_a_note_warns_of_an_mpp_that_the_user_overruled(slide: MemoryReader, name: str) -> None:
    slide = MemoryReader(slide._levels, mpp=0.25)
    slide._info = replace(slide.info, file_mpp=0.5)
    assert "WARNING: the file says 0.5" in planned(plugins.load(name), slide, NO_TUMOUR).note


def counted(tissue: TissueMask, x: int, y: int, side: int) -> float:
    """Return the tissue of a square by counting the mask's pixels between its edges, rounded to whole ones."""
    left, right, top, bottom = (
        round(min(edge / downsample, limit))
        for edges, downsample, limit in (
            ((x, x + side), tissue.downsample[0], tissue.mask.shape[1]),
            ((y, y + side), tissue.downsample[1], tissue.mask.shape[0]),
        )
        for edge in edges
    )
    pixel = tissue.downsample[0] * tissue.downsample[1]
    return min(tissue.mask[top:bottom, left:right].sum() * pixel / side**2, 1.0)


@pytest.mark.parametrize(
    ("mpp", "patch_px", "stride_px", "side"), [(None, 512, None, 512), (0.5, 128, 64, 256), (0.4, 100, None, 160)]
)
def test_the_grid_holds_every_tile_with_enough_tissue_and_its_fraction(
    slide: MemoryReader, mpp: float | None, patch_px: int, stride_px: int | None, side: int
) -> None:
    tissue = find_tissue(slide)
    step = side * (stride_px or patch_px) // patch_px
    expected = {}
    for y in range(0, 2100, step):
        for x in range(0, 2600, step):
            fraction = counted(tissue, x, y, side)
            if fraction >= 0.3:
                expected[x, y] = fraction
    plan = planned(plugins.load("grid"), slide, None, mpp=mpp, patch_px=patch_px, stride_px=stride_px, min_tissue=0.3)
    found = {(patch.x, patch.y): patch.tissue_fraction for patch in plan.patches}
    # The last column of a stride below the patch only repeats what the tiles before it cover.
    expected = {place: fraction for place, fraction in expected.items() if place in found or stride_px is None}
    assert found == pytest.approx(expected)
    assert {(patch.width, patch.height) for patch in plan.patches} == {(side, side)}
    assert plan.mpp == (mpp or 0.25)
    assert plan.tissue is not None
    assert (plan.tissue.mask == tissue.mask).all()


def test_the_masks_of_the_grid_leave_exclusions_out_and_have_the_side_asked_for() -> None:
    whole = [(0.0, 0.0), (100.0, 0.0), (100.0, 100.0), (0.0, 100.0)]
    hole = [(20.0, 20.0), (60.0, 20.0), (60.0, 60.0), (20.0, 60.0)]
    mask = plugins.load("grid").mask(outlined(whole, exclude=(hole,)), Box(x=0, y=0, width=100, height=100), 50)
    assert mask.shape == (50, 50)
    assert mask.sum() == 50 * 50 - 20 * 20
    assert plugins.load("p512").mask(outlined(whole, exclude=(hole,)), Box(x=0, y=0, width=99, height=99), 99).all()


def test_the_grid_takes_a_given_tissue_mask_for_the_slides_tissue(slide: MemoryReader, tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((525, 650), dtype=np.uint8)
    pixels[128:256, 256:384] = 1
    Image.fromarray(pixels).save(tmp_path / "tissue.png")
    job = replace(JOB, tissue_mask=tmp_path / "tissue.png")
    plan = plugins.load("grid").plan(slide, None, job, ExtractSettings(min_tissue=0.9))
    assert plan.patches == (Planned(1024, 512, 512, 512, 1.0),)


def test_a_region_without_tissue_gives_a_plan_without_patches(slide: MemoryReader) -> None:
    plan = planned(plugins.load("grid"), slide, None, region=Box(x=0, y=1900, width=200, height=100))
    assert plan.patches == ()


def test_an_unknown_protocol_is_named_with_its_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown protocol; got 'p521'.*grid, p512, p512-list.*did you mean p512"):
        plugins.load("p521")
