"""What the page draws in a real Chromium: where, and in which colours."""

import base64
import itertools
from dataclasses import replace

import numpy as np
import pytest
from skimage import measure

from tests import viewing
from tests.browsing import (
    CENTRE,
    PLAIN,
    at,
    browser,
    camera_of,
    choose,
    colour,
    edges,
    result,
    serve,
    settle,
    show,
    stage,
    until,
    url,
    visit,
)
from tests.viewing import find_results
from wsi_maxmin.viewer._heatmap import StoredMap

__all__ = ["browser", "result", "serve", "url", "visit"]


def test_slide_and_map_are_drawn_each_in_its_colours(visit, url):
    page = visit(url)
    choose(page, **PLAIN, opacity=1)
    assert np.abs(at(page, *CENTRE) - viewing.TISSUE).max() <= 4
    assert np.abs(at(page, 20, 20) - viewing.GLASS).max() <= 4
    for x, y, side, value in viewing.SQUARES:
        expected = colour(page, round(255 * value))
        assert np.abs(at(page, x + side / 2, y + side / 2) - expected).max() <= 2
    choose(page, map=False)
    assert at(page, 1000, 600).max() <= viewing.BLACK + 4


def test_the_opacity_changes_a_pixel_by_the_amount_computed(visit, url):
    page = visit(url)
    choose(page, **PLAIN, map=False)
    under = at(page, 1000, 600)
    over = colour(page, round(0.9 * 255))
    choose(page, map=True)
    slider = page.locator("#opacity")
    for opacity in (0.25, 0.6, 0.85):
        slider.fill(str(opacity))
        settle(page)
        assert np.abs(at(page, 1000, 600) - (under * (1 - opacity) + over * opacity)).max() <= 2
        assert page.locator("#opacity-value").inner_text() == f"{opacity:.2f}"


def test_the_threshold_moves_what_is_coloured_the_contours_and_the_list(visit, url):
    page = visit(url)

    def pieces():
        return int(page.locator(".overlay").get_attribute("data-contours"))

    before = pieces()
    assert page.locator("#regions li").count() == 3
    page.locator("#threshold").fill("0.85")
    until(page, "document.querySelectorAll('#regions li').length === 2")
    settle(page)
    assert 0 < pieces() < before
    choose(page, **PLAIN, opacity=1)
    assert np.abs(at(page, 320, 320) - viewing.BLACK).max() <= 6  # 0.8: no colour any more
    assert np.abs(at(page, 1000, 600) - colour(page, 230)).max() <= 2
    page.locator("#threshold").fill("0.1")
    settle(page)
    assert np.abs(at(page, *CENTRE) - colour(page, 51)).max() <= 2
    page.locator("#threshold-reset").click()
    until(page, "document.querySelectorAll('#regions li').length === 3")
    assert page.locator("#threshold-value").inner_text() == "0.50"


def test_channel_and_colour_map_change_the_colours(visit, url):
    page = visit(url)
    choose(page, **PLAIN, opacity=1, fill="all")
    page.get_by_role("radio", name="uncertainty").check(force=True)
    page.locator("#colormap").select_option("cividis")
    settle(page)
    assert np.abs(at(page, 1000, 600) - colour(page, round(255 * 0.55), "cividis")).max() <= 2
    assert np.abs(at(page, *CENTRE) - colour(page, 51, "cividis")).max() <= 2


def test_colours_are_those_of_matplotlib(visit, url):
    import matplotlib

    page = visit(url)
    for name in ("viridis", "cividis", "magma", "inferno"):
        expected = np.rint(matplotlib.colormaps[name](np.arange(256))[:, :3] * 255)
        found = page.evaluate(f"import('./js/colormaps.js').then(m => m.colours('{name}').map(c => [...c]))")
        np.testing.assert_array_equal(found, expected)


def test_a_low_threshold_of_the_model_has_the_middle_colour_as_in_the_overview(visit, result, serve):
    from matplotlib import colormaps
    from matplotlib.colors import TwoSlopeNorm

    page = visit(serve(*(replace(shown, threshold=0.1) for shown in find_results(result / "run"))))
    found = page.evaluate("import('./js/colormaps.js').then(m => m.colours('viridis', 0.1).map(c => [...c]))")
    norm = TwoSlopeNorm(vcenter=0.1, vmin=0, vmax=1)
    steps = np.array([round(255 * float(norm(value / 255))) for value in range(256)])
    np.testing.assert_array_equal(found, np.rint(colormaps["viridis"](steps)[:, :3] * 255))
    choose(page, **PLAIN, opacity=1, fill="all")
    for threshold in ("0.10", "0.70"):  # the reader's, which changes no colour
        page.locator("#threshold").fill(threshold)
        settle(page)
        for x, y, side, value in viewing.SQUARES:
            assert np.abs(at(page, x + side / 2, y + side / 2) - found[round(255 * value)]).max() <= 2
    choose(page, channel="uncertainty")
    assert np.abs(at(page, 1000, 600) - colour(page, round(255 * 0.55))).max() <= 2


@pytest.mark.parametrize("ratio", [1, 2])
def test_the_edges_of_map_and_slide_lie_on_each_other_within_one_slide_pixel(visit, url, ratio):
    page = visit(url, viewport={"width": 900, "height": 600}, device_scale_factor=ratio)
    choose(page, **PLAIN, opacity=1)
    for x, y, side, value in viewing.SQUARES:
        show(page, x - side / 2, y - side / 2, 2 * side, 2 * side)
        paint = colour(page, round(255 * value))
        scale = camera_of(page).scale * ratio
        heatmap = edges(np.abs(stage(page) - paint).max(axis=2) <= 3)
        choose(page, map=False)
        slide = edges(stage(page).max(axis=2) < 100)
        choose(page, map=True)
        assert np.abs(slide - heatmap).max() / scale <= 1
        assert np.abs(heatmap[2:] - heatmap[:2] - side * scale).max() <= 1.5


def test_contours_are_those_of_scikit_image_at_every_level(visit, url, result):
    page = visit(url)
    stored = StoredMap(result / "run" / "squares" / "heatmap.ome.zarr")
    for level in range(len(stored.levels)):
        values, seen_there = stored.tile("tumour", level, 0, 0)
        shown = np.where(seen_there, values, 0)
        for cut in (60, 128, 220):
            lines = page.evaluate(
                """async ([values, width, height, cut]) => {
                    const { trace } = await import("./js/contours.js");
                    const bytes = Uint8Array.from(atob(values), (c) => c.charCodeAt(0)), lines = [];
                    trace(bytes, width, height, cut, (...line) => lines.push(line));
                    return lines;
                }""",
                [base64.b64encode(shown.tobytes()).decode(), shown.shape[1], shown.shape[0], cut],
            )
            expected = [
                (*(a[::-1] + 0.5), *(b[::-1] + 0.5))
                for ring in measure.find_contours(shown.astype(float), cut - 0.5)
                for a, b in itertools.pairwise(ring)
                if not np.allclose(a, b)
            ]
            assert sorted(map(undirected, lines)) == sorted(map(undirected, expected))


def undirected(line):
    """Return a piece of a contour whatever way it runs, rounded."""
    x1, y1, x2, y2 = (round(float(number), 4) for number in line)
    return min((x1, y1, x2, y2), (x2, y2, x1, y1))
