"""What a user does with the page in a real Chromium: lists, keys, pointer, pictures, gallery."""

import json
import re
import shutil
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

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
    seen,
    serve,
    settle,
    show,
    until,
    url,
    visit,
)
from tests.viewing import find_results
from wsi_maxmin.viewer._answers import Answers
from wsi_maxmin.viewer._server import Server

__all__ = ["browser", "result", "serve", "url", "visit"]


def test_a_click_on_a_region_flies_there_and_keys_step_on(visit, url):
    page = visit(url)

    def middle():
        box = page.evaluate("wsiMaxmin.camera.visible()")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    places = [(x + side / 2, y + side / 2) for x, y, side, _ in sorted(viewing.SQUARES, key=lambda square: -square[3])]
    page.locator("#regions button").nth(1).click()
    settle(page)
    assert middle() == pytest.approx(places[1], abs=3)
    assert "Region 2 of 3: highest 0.90" in page.locator("#live").inner_text()
    for key, place in (("n", 2), ("n", 0), ("p", 2), ("p", 1)):
        page.keyboard.press(key)
        settle(page)
        assert middle() == pytest.approx(places[place], abs=3)
        assert page.locator("#regions [aria-current]").get_attribute("aria-label").startswith(f"Region {place + 1}:")
    page.locator("#slide").click()  # the keys go on when the slide has the focus
    page.keyboard.press("n")
    settle(page)
    assert middle() == pytest.approx(places[2], abs=3)
    page.keyboard.press("u")
    until(page, "document.querySelector('#regions-note').textContent.startsWith('uncertainty')")
    assert page.get_by_role("radio", name="uncertainty").is_checked()


def test_the_page_of_no_slide_says_so_and_leads_back(browser, url):
    page = browser.new_page()
    page.goto(f"{url}slide.html?id=nosuch")
    until(page, "!document.querySelector('#warning').hidden")
    assert page.locator("#warning").inner_text() == "There is no slide “nosuch” in this result."
    page.locator("#gallery").click()
    until(page, "document.body.textContent.includes('squares')")
    page.close()


def test_the_address_keeps_the_place(visit, url):
    page = visit(url)
    page.locator("#regions button").first.click()
    until(page, "location.hash.includes('x=')")
    settle(page)
    before = page.evaluate("wsiMaxmin.camera.visible()")
    page.reload()
    settle(page)
    assert page.evaluate("wsiMaxmin.camera.visible()") == pytest.approx(before, abs=2)


def test_the_pointer_reads_the_map_and_the_tile_under_it(visit, url):
    page = visit(url)
    page.keyboard.press("g")
    settle(page)
    camera = camera_of(page)
    page.mouse.move(camera.x + 1000 * camera.scale, camera.y + 600 * camera.scale)
    page.wait_for_selector("#tile:not([hidden])")
    assert "tumour 0.90" in page.locator("#readout").inner_text()
    tile = page.locator("#tile").inner_text()
    assert re.search(r"posterior tumor\s+0\.250", tile)
    assert re.search(r"tile at x, y\s+896, 512", tile)
    page.mouse.move(camera.x + 10 * camera.scale, camera.y + 10 * camera.scale)
    assert "no value here" in page.locator("#readout").inner_text()
    page.mouse.move(camera.x + 10, 5)  # the bar above
    until(page, "document.querySelector('#tile').hidden")
    assert page.locator("#readout").inner_text() == ""


def test_the_tile_under_a_resting_pointer_is_told_with_the_key(visit, url):
    page = visit(url)
    camera = camera_of(page)
    page.mouse.move(camera.x + 1000 * camera.scale, camera.y + 600 * camera.scale)
    for _ in range(2):  # its tiles are loaded, and then they are there
        page.keyboard.press("g")
        page.wait_for_selector("#tile:not([hidden])")
        assert re.search(r"tile at x, y\s+896, 512", page.locator("#tile").inner_text())
        page.keyboard.press("g")
        until(page, "document.querySelector('#tile').hidden")
    page.keyboard.press("g")
    show(page, 1500, 1000, 400, 300)  # the slide moves, and the pointer does not
    assert not re.search(r"\s896, 512", page.locator("#tile").inner_text())


def test_a_slider_keeps_its_keys(visit, url):
    page = visit(url)
    show(page, 1500, 1000, 400, 300)
    before = page.evaluate("wsiMaxmin.camera.visible()")
    for control in ("threshold", "opacity"):
        slider = page.locator(f"#{control}")
        for key, value in (("Home", "0"), ("End", "1")):
            slider.press(key)
            assert slider.input_value() == value
    settle(page)
    assert page.evaluate("wsiMaxmin.camera.visible()") == before
    page.locator("#map-shown").press("Home")
    settle(page)
    assert page.evaluate("wsiMaxmin.camera.visible()") != before
    assert "on a slider" in page.locator("#help dt:has-text('Home') + dd").text_content()


def test_the_annotation_is_drawn_where_it_is(visit, url):
    page = visit(url)
    choose(page, map=False, minimap=False)
    show(page, 880, 460, 300, 300)
    blue = np.abs(seen(page) - (0, 87, 184)).max(axis=2) < 40
    camera = camera_of(page)
    expected = [
        camera.x + 900 * camera.scale,
        camera.y + 480 * camera.scale,
        camera.x + 1156 * camera.scale,
        camera.y + 736 * camera.scale,
    ]
    assert edges(blue) == pytest.approx(expected, abs=3)
    page.keyboard.press("a")
    settle(page)
    assert not (np.abs(seen(page) - (0, 87, 184)).max(axis=2) < 40).any()


def test_the_scale_bar_is_as_long_as_it_says(visit, url):
    page = visit(url)
    for width in (2000, 500, 90):
        show(page, 600, 500, width, 10)
        um = page.locator("#scale .text").inner_text()
        length = float(um.split()[0]) * (1000 if "mm" in um else 1)
        drawn = page.locator("#scale .bar").bounding_box()["width"]
        assert drawn == pytest.approx(length / viewing.MPP * camera_of(page).scale, abs=0.6)
    page.keyboard.press("4")
    settle(page)
    assert page.locator("#magnification").inner_text() == "40×"
    assert camera_of(page).scale == pytest.approx(1, rel=0.01)


def test_the_minimap_follows_and_leads(visit, url):
    page = visit(url)
    show(page, 1024, 768, 256, 192)
    canvas, frame = (page.locator(f"#minimap {part}").bounding_box() for part in ("canvas", ".frame"))
    scale = canvas["width"] / viewing.SIZE[0]
    assert frame["x"] + frame["width"] / 2 - canvas["x"] == pytest.approx(1152 * scale, abs=2)
    page.mouse.click(canvas["x"] + 400 * scale, canvas["y"] + 400 * scale)
    settle(page)
    box = page.evaluate("wsiMaxmin.camera.visible()")
    assert (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) == pytest.approx((400, 400), abs=2 / scale)


def test_the_picture_is_what_is_on_the_screen_with_a_caption(visit, url):
    page = visit(url)
    choose(page, **PLAIN, opacity=1)
    with page.expect_download() as waiting:
        page.locator("#save").click()
    download = waiting.value
    assert download.suggested_filename == "squares_tumour.png"
    with Image.open(download.path()) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    stage = page.locator("#slide").bounding_box()
    assert pixels.shape[:2] == (round(stage["height"]) + 56, round(stage["width"]))
    camera = camera_of(page)
    x, y = (
        int(start + place * camera.scale - stage[axis])
        for start, place, axis in ((camera.x, 1000, "x"), (camera.y, 600, "y"))
    )
    assert np.abs(pixels[y, x] - colour(page, 230)).max() <= 2
    assert (pixels[-56:] < 60).all(axis=2).sum() > 100


def test_everything_can_be_reached_with_the_keyboard(visit, url):
    page = visit(url)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("""() => {
            const at = document.activeElement;
            return at.id || at.name || at.className || at.textContent.trim();
        }""")
        )
    expected = {
        "fit",
        "save",
        "openseadragon-canvas",
        "channel",
        "threshold",
        "opacity",
        "fill",
        "colormap",
        "map-shown",
        "list",
        "region",
    }
    assert expected <= set(reached)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    before = page.locator("#map-shown").is_checked()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(" ")
    assert page.locator("#map-shown").is_checked() is not before
    for key, control, value in (
        ("]", "#threshold-value", "0.51"),
        (",", "#opacity-value", "0.55"),
        ("v", "#colormap", "cividis"),
    ):
        page.keyboard.press(key)
        found = page.locator(control)
        assert value in (found.inner_text() if "value" in control else found.input_value())


def test_every_control_has_a_name(visit, url):
    page = visit(url)
    nameless = page.evaluate("""[...document.querySelectorAll("button, input, select, a")]
        .filter((at) => !at.closest("[hidden]") && !(at.ariaLabel || at.textContent.trim() || at.labels?.length))
        .map((at) => at.outerHTML)""")
    assert nameless == []


@pytest.mark.parametrize("path", ["", "index.html"])
def test_at_200_percent_nothing_is_cut_off(visit, url, path):
    page = visit(f"{url}{path}", viewport={"width": 640, "height": 400}, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 640
    cut = page.evaluate("""[...document.querySelectorAll("button, select, h1, h2, output, summary, .segments span")]
        .filter((at) => at.offsetParent && at.id !== "name" && at.clientWidth && at.scrollWidth > at.clientWidth + 2)
        .map((at) => at.outerHTML)""")
    assert cut == []
    if not path:
        last = page.locator("#regions button").last
        last.click()
        settle(page)
        assert "Region 3 of 3" in page.locator("#live").inner_text()
        # While the panel scrolls, the slide stays.
        slide = page.locator("#slide").bounding_box()
        assert slide["y"] >= 0
        assert slide["height"] > 150
        assert slide["y"] + slide["height"] <= last.bounding_box()["y"]


def test_without_its_slide_the_map_is_shown_alone_and_says_so(visit, result, serve):
    (shown,) = find_results(result / "run")
    page = visit(serve(replace(shown, source=None)))
    assert "the map is shown alone" in page.locator("#warning").inner_text()
    choose(page, **PLAIN, opacity=1)
    assert np.abs(at(page, 1000, 600) - colour(page, 230)).max() <= 2
    assert np.abs(at(page, *CENTRE) - colour(page, 51)).max() <= 2
    assert page.locator("#regions li").count() == 3


def test_a_gallery_shows_every_slide_with_its_score_and_opens_it(visit, result, serve):
    page = visit(serve(*find_results(result / "several")))
    until(page, "document.querySelectorAll('.scores').length === 3")
    until(page, "[...document.querySelectorAll('.scores')].every((at) => at.textContent.includes('highest'))")
    page.wait_for_load_state("networkidle")
    assert page.locator(".card .title").all_inner_texts() == ["one", "three", "two"]
    assert "tumour 1.00" in page.locator(".card").first.inner_text()
    picture = page.locator(".card canvas").first
    drawn = picture.evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    )
    pixels = np.array(drawn).reshape(-1, 4)[:, :3]
    assert (np.abs(pixels - (0.25 * viewing.BLACK + 0.75 * colour(page, 230))).max(axis=1) <= 6).any()
    page.locator("#filter").fill("tw")
    assert page.locator("#count").inner_text() == "1 of 3 slides"
    page.locator(".card").click()
    settle(page)
    assert page.locator("h1").inner_text() == "two"
    assert page.locator("#gallery").is_visible()


def test_the_gallery_says_what_has_no_score_and_why(browser, tmp_path, result, write_pyramid, stained):
    run = tmp_path / "run"
    shutil.copytree(result / "several", run)
    viewing.forget_all_tiles(run / "one")
    (tmp_path / "two.tif").write_bytes(write_pyramid(tmp_path / "other.tif", [stained(600, 500)]).read_bytes())
    (tmp_path / "list.csv").write_text("slide\ntwo.tif\n")
    slides = find_results(run, slide=str(tmp_path / "list.csv"))
    with Server(Answers(slides, left_out=4), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(server.url)
        until(page, "document.querySelectorAll('.scores').length === 3")
        until(page, "[...document.querySelectorAll('.scores')].every((at) => at.textContent.length > 1)")
        until(page, "document.querySelector('.title').textContent === 'three'")  # the one with a score is first
        said = dict(
            zip(page.locator(".title").all_inner_texts(), page.locator(".scores").all_inner_texts(), strict=True)
        )
        assert said["one"] == "no tissue was looked at"
        assert said["two"].startswith("cannot be shown: this is not the slide of the heatmap of two; got 600 × 500 px")
        assert page.locator("#count").inner_text() == "3 of 3 slides; 4 more of this run without a finished result"
        page.goto(f"{server.url}slide.html?id=one")
        until(page, "document.querySelector('#regions-note').textContent")
        assert page.locator("#regions-note").inner_text().startswith("No tissue of this slide was looked at")
        page.goto(f"{server.url}slide.html?id=two")
        until(page, "!document.querySelector('#warning').hidden")
        assert page.locator("#warning").inner_text().startswith("two cannot be shown: this is not the slide")
        page.close()
        server.shutdown()


def test_behind_a_token_the_page_works_the_same(visit, result):
    with Server(Answers(find_results(result / "run")), "0.0.0.0", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_address[1]}/{server.token}/")
        assert f"/{server.token}/slide.html" in page.url
        assert page.locator("#regions li").count() == 3
        assert f"%2F{server.token}%2Fstore%2F" in page.locator("#vizarr").get_attribute("href")
        server.shutdown()


def test_the_link_to_neuroglancer_opens_the_tumour_channel_upright_in_slide_pixels(visit, url):
    where = visit(url).locator("#neuroglancer").get_attribute("href")
    state = json.loads(unquote(where.partition("#!")[2]))
    assert list(state["dimensions"]) == ["x", "y"]
    assert state["dimensions"]["x"] == [pytest.approx(viewing.MPP * 1e-6), "m"]
    assert (state["layout"], state["position"]) == ("xy", [side / 2 for side in viewing.SIZE])
    (layer,) = state["layers"]
    assert layer["source"] == f"zarr://{url}store/squares/heatmap.ome.zarr"
    assert "range=[0, 255]" in layer["shader"]
    assert (layer["localDimensions"], layer["localPosition"]) == ({"c'": [1, ""]}, [0])


class Blank(BaseHTTPRequestHandler):
    """A page of another origin, of nothing."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *said):
        pass


def test_a_page_of_another_origin_reads_ranges_of_the_store(browser, url):
    """What vizarr and neuroglancer do, here from another port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{other.server_address[1]}/")
        script = """async (store) => {
            const about = await (await fetch(`${store}/.zattrs`)).json();
            const part = await fetch(`${store}/0/0/0/0`, { headers: { Range: "bytes=2-5" } });
            const bytes = await part.arrayBuffer();
            return [about.multiscales.length, part.status, bytes.byteLength, part.headers.get("Content-Range")];
        }"""
        count, status, size, span = page.evaluate(script, f"{url}store/squares/heatmap.ome.zarr")
        page.close()
        other.shutdown()
    assert (count, status, size) == (1, 206, 4)
    assert span.startswith("bytes 2-5/")
