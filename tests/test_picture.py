import dask.array as da
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from shapely.geometry import box as rectangle

from wsi_maxmin.geometry import Box
from wsi_maxmin.grids import Georef
from wsi_maxmin.readers.memory import MemoryReader
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.sinks.picture import scale_bar_um, write
from wsi_maxmin.stitching import Heatmap


@pytest.fixture
def drawn(tmp_path):
    """Draw a grey slide whose map is 1 on its right half, and return a function that draws it with options."""
    slide = MemoryReader([np.full((512, 1024, 3), 200, np.uint8)], mpp=0.25)
    georef = Georef(slide_size_px=(1024, 512), slide_mpp=0.25, downsample=8)
    values = np.zeros((1, *georef.shape), dtype=np.float32)
    values[:, :, georef.shape[1] // 2 :] = 1
    heatmap = Heatmap(data=da.from_array(values), georef=georef, channels=("tumour",))
    omezarr.write(heatmap, tmp_path / "h.ome.zarr", threshold=0.5)

    def draw(**options):
        path = tmp_path / "picture.png"
        options = {"box": Box(x=0, y=0, width=1024, height=512), **options}
        write(slide, tmp_path / "h.ome.zarr", path, georef=georef, threshold=0.5, **{"title": "slide", **options})
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB")).astype(int)

    return draw


def test_a_title_in_letters_that_the_font_lacks_is_drawn_without_a_warning(drawn):
    # A warning would be an error here.
    assert drawn(title="日本語").shape == drawn().shape


def test_the_map_colours_the_slide_only_where_it_has_values(drawn):
    pixels = drawn()
    height, width = pixels.shape[:2]
    grey = np.abs(pixels - 200).max(axis=2) < 3
    yellow = (pixels[..., 0] > 180) & (pixels[..., 2] < 150)
    assert grey[:, : width // 3].mean() > 0.3
    assert yellow[height // 2, width // 2 :].mean() > 0.2
    assert not yellow[:, : width // 2].any()


def test_of_a_box_the_map_lies_where_it_lies_on_the_slide(drawn):
    """The box begins inside a map pixel, and the map turns to 1 in its middle, at x = 512."""
    pixels = drawn(box=Box(x=387, y=131, width=250, height=250))
    middle = pixels[pixels.shape[0] // 2]
    yellow = (middle[:, 0] > 180) & (middle[:, 2] < 150)
    first, last = np.flatnonzero(yellow)[[0, -1]]
    share = yellow[first : last + 1].mean()
    panel = (np.abs(middle - 200).max(axis=1) < 3) | yellow
    right_panel = np.flatnonzero(panel)[np.flatnonzero(panel) > pixels.shape[1] // 2]
    turn = (first - right_panel[0]) / (right_panel[-1] - right_panel[0])
    assert share > 0.9
    assert 0.4 < turn < 0.6


def test_an_annotation_is_outlined_on_both_panels(drawn):
    def blue(pixels):
        return np.abs(pixels - (0, 87, 184)).max(axis=2) < 30

    outlined = blue(drawn(outline=rectangle(200, 100, 800, 400)))
    middle = outlined.shape[1] // 2
    assert outlined[:, :middle].sum() > 500
    assert outlined[:, middle:].sum() > 500
    assert blue(drawn()).sum() < 50


@pytest.mark.parametrize("value", [0.6, 1.0])
def test_a_contour_is_closed_where_the_map_ends(tmp_path, value):
    """All that was looked at is tumour: 512 × 256 px in the middle."""
    slide = MemoryReader([np.full((512, 1024, 3), 200, np.uint8)], mpp=0.25)
    georef = Georef(slide_size_px=(1024, 512), slide_mpp=0.25, downsample=8)
    values = np.full((2, *georef.shape), np.nan, dtype=np.float32)
    values[:, 16:48, 32:96] = np.array([value, 1])[:, None, None]
    heatmap = Heatmap(data=da.from_array(values), georef=georef, channels=("tumour", "coverage"))
    omezarr.write(heatmap, tmp_path / "h.ome.zarr", threshold=0.5)
    box = Box(x=0, y=0, width=1024, height=512)
    write(slide, tmp_path / "h.ome.zarr", tmp_path / "p.png", georef=georef, threshold=0.5, title="slide", box=box)
    with Image.open(tmp_path / "p.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    panels = np.flatnonzero((np.abs(pixels - 200).max(axis=2) < 3).any(axis=0))
    right = slice(pixels.shape[1] // 2, panels[-1])  # without the colour bar
    dark = pixels[:, right].max(axis=2) < 110
    enclosed = ndimage.binary_fill_holes(dark) & ~dark
    width = panels[-1] - panels[panels > pixels.shape[1] // 2][0]
    assert enclosed.sum() == pytest.approx(width * width / 2 / 4, rel=0.05)


def test_a_slide_on_which_nothing_was_looked_at_is_said_to_be_one(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda _, text, **__: said.append(text))
    slide = MemoryReader([np.full((64, 64, 3), 255, np.uint8)], mpp=0.25)
    georef = Georef(slide_size_px=(64, 64), slide_mpp=0.25, downsample=8)
    nothing = np.full((2, *georef.shape), np.nan, dtype=np.float32)
    heatmap = Heatmap(data=da.from_array(nothing), georef=georef, channels=("tumour", "coverage"))
    omezarr.write(heatmap, tmp_path / "h.ome.zarr", threshold=0.5)
    box = Box(x=0, y=0, width=64, height=64)
    write(slide, tmp_path / "h.ome.zarr", tmp_path / "p.png", georef=georef, threshold=0.5, title="slide", box=box)
    assert said == ["slide", "tumour map, nothing was looked at"]


@pytest.mark.parametrize(("longest", "expected"), [(1, 1), (4.9, 2), (99, 50), (100, 100), (2600, 2000), (0.3, 0.2)])
def test_a_scale_bar_has_a_round_length_that_fits(longest, expected):
    assert scale_bar_um(longest) == pytest.approx(expected)
