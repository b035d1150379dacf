"""The layers that napari gets; what draws them runs where napari and a display are."""

import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from tests import viewing
from tests.viewing import find_results
from wsi_maxmin.errors import InputError
from wsi_maxmin.viewer._napari import Lazy, add_layers, show
from wsi_maxmin.viewer._opened import Opened


@pytest.fixture(scope="module")
def opened(tmp_path_factory, make_pyramid, write_pyramid):
    folder = tmp_path_factory.mktemp("result")
    (folder / "squares.xml").write_text(viewing.XML)
    run = viewing.make_result(folder / "run", folder, write_pyramid, make_pyramid(viewing.painted(), 3))
    (shown,) = find_results(run, annotations=folder / "squares.xml")
    return Opened(shown)


@pytest.fixture
def model(opened):
    components = pytest.importorskip("napari.components", reason="napari is an extra: pip install 'wsi-maxmin[napari]'")
    model = components.ViewerModel()
    add_layers(model, opened)
    return model


@given(data=st.data(), shape=st.sampled_from([(7, 5), (4, 6, 3)]))
def test_a_lazy_array_is_indexed_like_the_array_that_it_stands_for(data, shape):
    whole = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    lazy = Lazy(shape, lambda rows, columns: whole[rows, columns])
    index = data.draw(basic_indices(shape, allow_newaxis=False))
    np.testing.assert_array_equal(lazy[index], whole[index])
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    assert (lazy.shape, lazy.ndim, lazy.size, lazy.dtype) == (whole.shape, whole.ndim, whole.size, whole.dtype)


def test_a_lazy_array_reads_no_more_than_the_rectangle_that_is_wanted():
    asked = []

    def read(rows, columns):
        asked.append((rows, columns))
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)

    Lazy((10_000, 10_000), read)[500:510, 20:40:2]
    assert asked == [(slice(500, 510), slice(20, 39))]


def test_napari_shows_one_slide_at_a_time(opened):
    with pytest.raises(InputError, match="napari shows one slide; got 2"):
        show([opened.shown, opened.shown])


def test_every_layer_is_there_and_the_tumour_is_the_one_shown(model):
    names = [layer.name for layer in model.layers]
    assert names == ["slide", "coverage", "uncertainty", "tumour", "labels", "annotation"]
    assert [layer.name for layer in model.layers if layer.visible] == ["slide", "tumour", "annotation"]
    assert all(layer.multiscale for layer in model.layers if layer.name != "annotation")


def test_layers_lie_on_the_slide_in_micrometres(model):
    slide = model.layers["slide"]
    for x, y, side, value in viewing.SQUARES:
        for inside, (across, down) in (
            (True, (0, 0)),
            (True, (side - 1, side - 1)),
            (False, (-1, 0)),
            (False, (0, side)),
        ):
            pixel = y + down, x + across  # its centre, in the slide's own data coordinates
            world = slide.data_to_world(pixel)
            assert world == pytest.approx(np.array(pixel) * viewing.MPP)
            row, column = np.rint(model.layers["tumour"].world_to_data(world)).astype(int)
            expected = value if inside else viewing.LOW
            assert model.layers["tumour"].data[0][row, column] == round(255 * expected)
            dark = slide.data[0][pixel[0], pixel[1]].max() < 100
            assert dark == inside


def test_values_below_the_threshold_are_transparent(model):
    colors = model.layers["tumour"].colormap.map(np.array([0.49, 0.51]))
    assert colors[0, 3] == 0
    assert colors[1, 3] == 1


def test_the_outline_lies_on_the_square_that_it_surrounds(model):
    (outline,) = model.layers["annotation"].data
    world = np.array([model.layers["annotation"].data_to_world(point) for point in outline])
    # Corner (900, 480) is half a pixel from the centre of pixel (900, 480).
    assert world.min(axis=0) == pytest.approx([(480 - 0.5) * viewing.MPP, (900 - 0.5) * viewing.MPP])


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="no display; xvfb-run gives one")
@pytest.mark.filterwarnings("ignore")
def test_in_napari_the_edges_of_map_and_slide_lie_on_each_other_within_one_slide_pixel(opened):
    napari = pytest.importorskip("napari")
    from qtpy.QtWidgets import QApplication

    def drawn():
        for _ in range(30):
            QApplication.processEvents()
            time.sleep(0.03)
        return viewer.screenshot(flash=False)[..., :3].astype(int)

    viewer = napari.Viewer(show=True)
    add_layers(viewer, opened)
    viewer.canvas.overlays.scale_bar.visible = False
    viewer.layers["annotation"].visible = False
    tumour, slide = viewer.layers["tumour"], viewer.layers["slide"]
    tumour.opacity = 1
    off = []
    for x, y, side, _ in viewing.SQUARES:
        viewer.camera.center = (y + side / 2) * viewing.MPP, (x + side / 2) * viewing.MPP
        viewer.camera.zoom = 300 / (side * viewing.MPP)
        tumour.visible, slide.visible = False, True
        dark = np.nonzero(drawn().max(axis=2) < 100)
        tumour.visible, slide.visible = True, False
        bright = np.nonzero(drawn().max(axis=2) > 60)
        for one, other in zip(dark, bright, strict=True):
            assert one.max() - one.min() == pytest.approx(300, abs=4)
            off += [abs(one.min() - other.min()) * side / 300, abs(one.max() - other.max()) * side / 300]
    viewer.close()
    assert max(off) <= 1
