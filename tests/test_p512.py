"""The P512 protocol against plain constructions, skimage, real patches and the published names."""

import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu

from wsi_maxmin.annotations import Annotation, read_annotation
from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.extraction import ExtractSettings, Plan, SlideJob
from wsi_maxmin.geometry import Box, SlideInfo
from wsi_maxmin.protocols import p512
from wsi_maxmin.protocols._p512_tissue import find_rule, find_tissue
from wsi_maxmin.protocols._p512_windows import Window, find_windows, search_boxes, strips
from wsi_maxmin.protocols.p512_list import ListedPatch, read_list
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.readers.memory import MemoryReader

SETTINGS = ExtractSettings(protocol="p512")
NORMAL = ExtractSettings(protocol="p512", without_annotation="normal")
LEAST = {"min_tissue": 0.1, "min_tumour": 0.2}
REGION_CORNER = (65280, 127488)
Stain = Callable[..., np.ndarray]


class Endless(Reader):
    """A slide without end, tissue in every second row."""

    def __init__(self, size_px: tuple[int, int] = (10**6, 10**6)) -> None:
        self._info = SlideInfo(
            slide_id="endless", path=Path("endless"), size_px=size_px, mpp=0.25, level_downsamples=(1.0,), reader=""
        )

    @property
    def info(self) -> SlideInfo:
        return self._info

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:  # noqa: ARG002
        pixels = np.full((height, width, 3), 245, dtype=np.uint8)
        pixels[::2] = (190, 110, 170)
        return pixels

    def close(self) -> None:
        pass


def outlines(*rings: list[tuple[float, float]]) -> Annotation:
    return Annotation(include=tuple((np.array(ring, dtype=float),) for ring in rings), exclude=())


def rectangle(x: int, y: int, right: int, bottom: int) -> list[tuple[float, float]]:
    return [(x, y), (right, y), (right, bottom), (x, bottom)]


def job(quota: int | None = None, slide_id: str = "slide") -> SlideJob:
    return SlideJob(slide_id=slide_id, path=Path("slide"), quota=quota)


def memory(pixels: np.ndarray) -> MemoryReader:
    return MemoryReader([pixels], mpp=0.25)


def positions(plan: Plan) -> set[tuple[int, int]]:
    assert len({(patch.x, patch.y) for patch in plan.patches}) == len(plan.patches)
    return {(patch.x, patch.y) for patch in plan.patches}


def plain_tissue(image: np.ndarray) -> np.ndarray:
    """The rule as it is written down."""
    if any(len(np.unique(image[..., channel])) == 1 for channel in range(3)):
        return np.zeros(image.shape[:2], dtype=bool)
    saturation = rgb2hsv(image)[..., 1]
    if saturation.min() == saturation.max():
        return np.zeros(image.shape[:2], dtype=bool)
    glass = np.logical_and.reduce([image[..., c] > threshold_otsu(image[..., c]) for c in range(3)])
    return ~glass & (saturation > threshold_otsu(saturation)) & (image > 0).all(axis=-1)


def plain_windows(pixels: np.ndarray, truth: Annotation) -> dict[tuple[int, int], tuple[float, float]]:
    """Every window of a slide with its fractions, by loops over whole arrays."""
    height, width = pixels.shape[:2]
    everywhere = truth.drawn_mask(Box(x=0, y=0, width=width, height=height))
    padded: list[tuple[int, int, int, int]] = []
    for (ring,) in truth.include:
        (x, y), (right, bottom) = np.floor(ring.min(axis=0)), np.ceil(ring.max(axis=0))
        sides = (int(x) - 512, int(y) - 256, int(max(right, x + 1)) + 512, int(max(bottom, y + 1)) + 512)
        if sides not in padded:
            padded.append(sides)
    windows: dict[tuple[int, int], tuple[float, float]] = {}
    for a in padded:
        if any(b[0] <= a[0] and a[2] <= b[2] and b[1] <= a[1] for b in padded if b is not a):
            continue
        left, top, right, bottom = max(a[0], 0), max(a[1], 0), min(a[2], width), min(a[3], height)
        y = top
        while y + 512 <= bottom and right - left >= 512:
            tissue = plain_tissue(pixels[y : y + 512, left:right])
            tumour = everywhere[y : y + 512, left:right]
            columns = [column for column in range(right - left) if tumour[:, column].any()]
            x, step = (max(columns[0] - 512, 0), 1) if columns else (right, 1)
            while x + 512 <= right - left:
                shares = tuple(np.count_nonzero(part[:, x : x + 512]) / 512**2 for part in (tissue, tumour))
                if shares[0] >= 0.1 and shares[1] >= 0.2:
                    windows.setdefault((left + x, y), shares)
                    step = 512
                x += step
            y += 512
    return windows


def windows_of(slide: Reader, truth: Annotation) -> Iterator[Window]:
    for box in search_boxes(truth.tumour_boxes(), slide.info.bounds):
        for strip in strips(box):
            yield from find_windows(slide, truth, strip, **LEAST)


@st.composite
def rings(draw: st.DrawFn) -> list[tuple[float, float]]:
    x, y = draw(st.integers(-300, 1500)), draw(st.integers(-300, 1300))
    corner = st.tuples(st.integers(0, 900), st.integers(0, 900))
    return [(x + across, y + down) for across, down in draw(st.lists(corner, min_size=3, max_size=6))]


@given(st.lists(rings(), min_size=1, max_size=3), st.integers(0, 2**16))
@settings(max_examples=20)
def test_windows_and_plan_are_those_of_a_plain_construction(
    stained: Stain, shapes: list[list[tuple[float, float]]], seed: int
) -> None:
    """Positions and fractions agree; every window with up to half tumour is taken, and nothing else but windows."""
    width, height = 1700, 1500
    corners = np.random.default_rng(seed).integers(0, 1000, (3, 2)).tolist()
    pixels = stained(width, height, *((x, y, 450, 350) for x, y in corners), seed=seed)
    slide, truth = memory(pixels), outlines(*shapes)
    expected = plain_windows(pixels, truth)
    assert {(w.x, w.y): (w.tissue, w.tumour) for w in windows_of(slide, truth)} == expected
    if truth.holds_tumour:
        plan = p512.plan(slide, truth, job(), SETTINGS)
        assert {where for where, (_, tumour) in expected.items() if tumour <= 0.5} <= positions(plan) <= expected.keys()
        assert all(patch.tissue_fraction == expected[patch.x, patch.y][0] for patch in plan.patches)


def test_a_box_is_dropped_for_one_that_covers_its_columns_and_begins_no_lower() -> None:
    """What is below such a box goes too, even far below; what begins above it stays."""
    bounds = Box(x=0, y=0, width=20000, height=20000)
    wide = Box(x=5000, y=5000, width=1000, height=1000)
    inside, below = Box(x=5100, y=5100, width=10, height=10), Box(x=5100, y=15000, width=10, height=10)
    above, beside = Box(x=5100, y=4000, width=10, height=10), Box(x=5995, y=5100, width=10, height=10)
    padded = Box(x=4488, y=4744, width=2024, height=1768)
    assert search_boxes([inside, wide, wide, below], bounds) == [padded]
    assert [box.x for box in search_boxes([wide, above, beside], bounds)] == [4488, 4588, 5483]


def test_boxes_are_cut_to_the_slide_and_strips_are_whole() -> None:
    bounds = Box(x=0, y=0, width=1000, height=1300)
    outside = Box(x=9000, y=0, width=10, height=10)
    (box,) = search_boxes([Box(x=100, y=100, width=300, height=400), outside], bounds)
    assert box == Box(x=0, y=0, width=912, height=1012)
    assert list(strips(box)) == [Box(x=0, y=0, width=912, height=512)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 255), st.integers(1, 12))
@settings(max_examples=60)
def test_thresholds_from_pieces_are_those_of_skimage_over_the_whole_image(seed: int, spread: int, parts: int) -> None:
    """However an image is cut, and with whatever range of values."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(0, 256, (2, 3))[rng.integers(0, 2, (80, 120))]
    image = np.clip(centre + rng.integers(-spread, spread + 1, (80, 120, 3)), 0, 255).astype(np.uint8)
    rule = find_rule(np.array_split(image, parts, axis=1))
    expected = plain_tissue(image)
    if rule is None:
        assert not expected.any()
        return
    assert rule.channels == tuple(int(threshold_otsu(image[..., channel])) for channel in range(3))
    saturation = rgb2hsv(image)[..., 1]
    high, low = image.max(axis=-1), image.min(axis=-1)
    assert np.array_equal(rule.saturated[high, low], saturation > threshold_otsu(saturation))
    assert np.array_equal(rule(image), expected)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_an_image_with_a_constant_channel_holds_no_tissue(stained: Stain, channel: int) -> None:
    image = stained(64, 64, (0, 0, 32, 64))
    assert find_tissue(image).any()
    image[..., channel] = 100
    assert not find_tissue(image).any()


def test_a_grey_image_and_black_pixels_are_no_tissue(stained: Stain) -> None:
    grey = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None] * 4, 64, axis=1).repeat(3, axis=2)
    assert not find_tissue(grey).any()
    image = stained(64, 64, (0, 0, 32, 64))
    image[:8, :8, 1] = 0
    assert not find_tissue(image)[:8, :8].any()


def test_half_tumour_is_always_taken_and_whole_tumour_seldom() -> None:
    """In every bin above half tumour as often as in the published lists, which are the expected shares here."""
    tumour = np.random.default_rng(0).uniform(0.2, 1, 40_000)
    taken = p512._draw([Window(i, 0, 1.0, share) for i, share in enumerate(tumour)], np.random.default_rng(1))
    is_taken = np.zeros(tumour.size, dtype=bool)
    is_taken[[window.x for window in taken]] = True
    assert is_taken[tumour <= 0.5].all()
    shares = [is_taken[(tumour > low) & (tumour < low + 0.05)].mean() for low in np.arange(0.5, 1, 0.05)]
    lower = [112 / 184, 126 / 185, 130 / 189, 151 / 221, 128 / 193]
    assert shares == pytest.approx([*lower, 151 / 201, 135 / 235, 124 / 257, 179 / 331, 180 / 9921], abs=0.03)
    assert [w.tumour for w in p512._draw([Window(0, 0, 1.0, 0.5)] * 50, np.random.default_rng(2))] == [0.5] * 50


def test_a_plan_depends_on_seed_and_slide_alone() -> None:
    truth = outlines(rectangle(1000, 1000, 6000, 6000))
    first = p512.plan(Endless(), truth, job(), SETTINGS)
    assert p512.plan(Endless(), pickle.loads(pickle.dumps(truth)), job(7), SETTINGS) == first
    assert p512.plan(Endless(), truth, job(slide_id="other"), SETTINGS).patches != first.patches
    assert p512.plan(Endless(), truth, job(), ExtractSettings(protocol="p512", seed=1)).patches != first.patches
    assert first.mpp == 0.25
    assert first.note.startswith(f"{len(first.patches)} patches of 512 px at level 0, 0.25 µm a pixel; ")


def test_a_region_leaves_the_patches_that_lie_in_it_whole() -> None:
    truth = outlines(rectangle(1000, 1000, 6000, 6000))
    region = Box(x=500, y=2000, width=4000, height=3000)
    everything = p512.plan(Endless(), truth, job(), SETTINGS).patches
    inside = tuple(p for p in everything if 500 <= p.x <= 3988 and 2000 <= p.y <= 4488)
    assert 0 < len(inside) < len(everything)
    assert p512.plan(Endless(), truth, job(), ExtractSettings(protocol="p512", region=region)).patches == inside


def test_normal_patches_are_grid_cells_with_tissue_at_both_levels(stained: Stain) -> None:
    """Without a quota all of them; a cell that is tissue as a whole has thresholds of its own."""
    pixels = stained(3000, 2200, (300, 200, 1000, 900), (2600, 1500, 400, 700))
    overview = plain_tissue(np.asarray(memory(pixels).overview(64)))
    expected = {}
    for y in range(0, 2200 - 511, 512):
        for x in range(0, 3000 - 511, 512):
            if overview[y // 64 : y // 64 + 8, x // 64 : x // 64 + 8].mean() >= 0.1:
                share = plain_tissue(pixels[y : y + 512, x : x + 512]).mean()
                expected |= {(x, y): share} if share >= 0.1 else {}
    plan = p512.plan(memory(pixels), None, job(), NORMAL)
    assert {(patch.x, patch.y): patch.tissue_fraction for patch in plan.patches} == expected
    assert p512.plan(memory(pixels), outlines(), job(), SETTINGS) == plan
    assert plan.tissue is not None
    assert np.array_equal(plan.tissue.mask, overview)


def test_a_quota_is_drawn_without_repetition(stained: Stain) -> None:
    """A smaller quota takes a part of what a larger one takes; what cannot be had is said."""
    slide = memory(stained(4096, 3072, (256, 256, 3500, 2500)))
    everything = positions(p512.plan(slide, None, job(), NORMAL))
    few, more = (p512.plan(slide, None, job(quota), NORMAL) for quota in (5, 9))
    assert (len(positions(few)), len(positions(more))) == (5, 9)
    assert positions(few) < positions(more) < everything
    assert positions(p512.plan(slide, None, job(5, "other"), NORMAL)) != positions(few)
    assert not p512.plan(slide, None, job(0), NORMAL).patches
    short = p512.plan(slide, None, job(1000), NORMAL)
    assert positions(short) == everything
    assert "1000 were wanted" in short.note
    region = ExtractSettings(
        protocol="p512", without_annotation="normal", region=Box(x=0, y=0, width=2100, height=2100)
    )
    assert len(p512.plan(slide, None, job(5), region).patches) == 5


def test_a_slide_without_tissue_or_too_small_gives_no_patch(stained: Stain) -> None:
    assert not p512.plan(memory(np.full((1100, 1100, 3), 245, dtype=np.uint8)), None, job(3), NORMAL).patches
    small = memory(stained(500, 700, (0, 0, 500, 400)))
    assert not p512.plan(small, None, job(), NORMAL).patches
    assert not p512.plan(small, outlines(rectangle(0, 0, 400, 400)), job(), SETTINGS).patches


def test_a_strip_of_100000_px_needs_less_than_300_mb() -> None:
    truth = outlines(rectangle(700, 700, 99000, 2000))
    tracemalloc.start()
    try:
        windows = find_windows(Endless(), truth, Box(x=0, y=1000, width=100_000, height=512), **LEAST)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(windows) == 193
    assert peak < 300e6


def test_the_mask_is_the_drawn_one() -> None:
    truth = outlines(rectangle(10, 20, 300, 400))
    box = Box(x=5, y=5, width=512, height=512)
    assert np.array_equal(p512.mask(truth, box, 512), truth.drawn_mask(box))


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ({"patch_px": 256}, "--patch-size"),
        ({"mpp": 0.5}, "--mpp"),
        ({"stride_px": 256}, "--stride"),
        ({"min_tumour": 0.6}, "--min-tumour"),
    ],
)
def test_what_the_protocol_fixes_is_refused_by_its_option(setting: dict[str, float], option: str) -> None:
    with pytest.raises(InputError, match=option):
        p512.plan(Endless(), outlines(rectangle(0, 0, 9, 9)), job(), ExtractSettings(protocol="p512", **setting))


def test_a_stride_of_one_patch_is_what_the_protocol_does() -> None:
    truth = outlines(rectangle(1000, 1000, 2000, 2000))
    same = ExtractSettings(protocol="p512", stride_px=512, min_tumour=0.5)
    assert p512.plan(Endless(), truth, job(), same).patches


def test_a_slide_of_unknown_kind_or_scale_is_an_error(stained: Stain) -> None:
    with pytest.raises(InputError, match="--no-annotation normal"):
        p512.plan(Endless(), None, job(), SETTINGS)
    with pytest.raises(SlideError, match="mpp"):
        p512.plan(MemoryReader([stained(600, 600)], mpp=None), None, job(), NORMAL)


def published(data_dir: Path) -> dict[str, list[ListedPatch]]:
    lists = [read_list(path) for path in sorted((data_dir / "camelyon16/lists").glob("*.csv.gz"))]
    return {slide: [*patches] for found in lists for slide, patches in found.items()}


def number_of(patch: ListedPatch, key: str) -> int:
    """Return what a name says behind ``_reg_`` or ``_row_``."""
    return int(patch.name.partition(f"_{key}_")[2].partition("_")[0])


@pytest.mark.data
def test_boxes_and_strips_explain_all_published_region_numbers(data_dir: Path) -> None:
    """All 3,994 names of tumor_001–040."""
    names = published(data_dir)
    explained = 0
    for path in sorted((data_dir / "camelyon16/annotations").glob("tumor_*.xml.gz")):
        boxes = search_boxes(read_annotation(path).tumour_boxes(), Endless().info.bounds)
        for patch in names[path.name.partition(".")[0]]:
            box = boxes[number_of(patch, "reg")]
            assert any(strip.y == patch.y and patch.x >= strip.x for strip in strips(box)), patch.name
            assert patch.x + 512 <= box.right, patch.name
            explained += 1
    assert explained == 3994


@pytest.mark.data
@pytest.mark.parametrize("slide_id", ["tumor_001", "tumor_005", "tumor_013", "tumor_037"])
def test_published_positions_follow_from_the_outlines(data_dir: Path, slide_id: str) -> None:
    """Where tissue moves no window: each name has its window, and with up to half tumour each window its name."""
    truth = read_annotation(data_dir / f"camelyon16/annotations/{slide_id}.xml.gz")
    found = {(window.x, window.y): window.tumour for window in windows_of(Endless(), truth)}
    names = {(patch.x, patch.y): patch.tumour_fraction for patch in published(data_dir)[slide_id]}
    assert {where: found[where] for where in names} == pytest.approx(names, abs=1e-5)
    assert {where for where, tumour in found.items() if tumour <= 0.5} <= names.keys()


def name_fact(path: Path, key: str) -> float:
    return float(path.stem.partition(f"_{key}_")[2].partition("_")[0])


@pytest.mark.data
def test_tissue_of_the_real_normal_patches_is_that_of_their_names(data_dir: Path) -> None:
    paths = sorted((data_dir / "camelyon16/patches512").glob("Patch_file_*-normal-*.png"))
    assert len(paths) == 4
    for path in paths:
        assert find_tissue(np.asarray(Image.open(path).convert("RGB"))).mean() == name_fact(path, "tissue")


@pytest.mark.data
def test_the_region_slide_gives_its_published_patches(data_dir: Path) -> None:
    """Nine of ten of tumor_001's first outline; the tenth lies on white that the whole slide does not have."""
    truth = read_annotation(data_dir / "slides/tumor_001_region.xml")
    published_here = {(p.x - REGION_CORNER[0], p.y - REGION_CORNER[1]) for p in published(data_dir)["tumor_001"]}
    with open_slide(data_dir / "slides/tumor_001_region.tif") as slide:
        bounds = slide.info.bounds
        published_here = {(x, y) for x, y in published_here if 0 <= x < bounds.right and 0 <= y < bounds.bottom}
        plan = p512.plan(slide, truth, job(slide_id="tumor_001"), SETTINGS)
        found = {(window.x, window.y): window for window in windows_of(slide, truth)}
        (box,) = search_boxes(truth.tumour_boxes(), bounds)
        for (x, y), window in found.items():
            tissue = plain_tissue(slide.read_level(0, box.x, y, box.width, 512))[:, x - box.x :][:, :512].mean()
            tumour = truth.drawn_mask(Box(x=x, y=y, width=512, height=512)).mean()
            assert (window.tissue, window.tumour) == (tissue, tumour)
            assert tissue >= 0.1
            assert tumour >= 0.2
    assert {where for where, window in found.items() if window.tumour <= 0.5} <= positions(plan) <= found.keys()
    assert published_here - found.keys() == {(5348, 6566)}
    assert len(published_here) == 10


@pytest.mark.data
def test_the_real_tumour_patches_lie_where_the_region_slide_has_them(data_dir: Path) -> None:
    """Same pixels but for a second JPEG compression; same tumour as in the name, and a window each."""
    truth = read_annotation(data_dir / "slides/tumor_001_region.xml")
    paths = sorted((data_dir / "camelyon16/patches512").glob("Patch_file_*-tumor-*.png"))
    assert len(paths) == 4
    with open_slide(data_dir / "slides/tumor_001_region.tif") as slide:
        found = {(window.x, window.y): window.tumour for window in windows_of(slide, truth)}
        for path in paths:
            x, y = (int(name_fact(path, key)) - corner for key, corner in zip("xy", REGION_CORNER, strict=True))
            cut = slide.read_level(0, x, y, 512, 512).astype(int)
            assert np.abs(cut - np.asarray(Image.open(path).convert("RGB"))).mean() < 3
            assert found[x, y] == pytest.approx(name_fact(path, "metastatic"), abs=1e-5)
