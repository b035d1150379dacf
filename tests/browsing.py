"""The page in a real Chromium: fixtures and helpers of its tests."""

import io
import os
import re
import shutil
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests import viewing
from tests.viewing import find_results
from wsi_maxmin.viewer._answers import Answers
from wsi_maxmin.viewer._server import Server

SIZE = {"width": 1100, "height": 700}
CENTRE = 800, 600  # of the slide's tissue, between the squares


def chromium() -> str:
    """Return where Chromium is; without it skip, or fail where it is required."""
    found = os.environ.get("WSI_MAXMIN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("WSI_MAXMIN_BROWSER") == "required":
            pytest.fail("no chromium on PATH, and WSI_MAXMIN_BROWSER=required")
        pytest.skip("no chromium on PATH (Debian: apt install chromium); WSI_MAXMIN_CHROMIUM names another place")
    return found


@pytest.fixture(scope="module")
def result(tmp_path_factory, make_pyramid, write_pyramid):
    folder = tmp_path_factory.mktemp("result")
    (folder / "squares.xml").write_text(viewing.XML)
    levels = make_pyramid(viewing.painted(), 3)
    viewing.make_result(folder / "run", folder, write_pyramid, levels)
    viewing.make_result(folder / "several", folder, write_pyramid, levels, names=("one", "two", "three"))
    return folder


@pytest.fixture(scope="module")
def serve():
    servers = []

    def start(*slides):
        server = Server(Answers(slides), "127.0.0.1", 0)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def url(result, serve):
    return serve(*find_results(result / "run", annotations=result / "squares.xml"))


@contextmanager
def launched(*arguments):
    """Yield a running Chromium."""
    path = chromium()
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser():
    # Without one in software either: the page draws on two-dimensional canvases.
    with launched("--disable-gpu") as browser:
        yield browser


@pytest.fixture
def visit(browser):
    """Return a function that opens a page; the test fails on any error of it and any request off this machine."""
    wrong: list[str] = []
    pages = []

    def go(url, **options):
        page = browser.new_page(**{"viewport": SIZE, "reduced_motion": "reduce", **options})
        pages.append(page)
        page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("response", lambda answer: answer.status >= 400 and wrong.append(f"{answer.status} {answer.url}"))
        page.on("request", lambda asked: off_machine(asked.url) and wrong.append(f"off the machine: {asked.url}"))
        page.goto(url)
        if "slide.html" in page.url:
            settle(page)
        return page

    yield go
    for page in pages:
        page.close()
    assert not wrong


def off_machine(url):
    return not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:http://127\.0\.0\.1)", url)


def until(page, condition):
    """Wait until a JavaScript expression holds; Playwright's own way needs eval, which the page forbids."""
    stop = time.monotonic() + 30
    while not page.evaluate(f"() => Boolean({condition})"):
        assert time.monotonic() < stop, f"still not: {condition}"
        page.wait_for_timeout(20)


def settle(page):
    """Wait until all that is on the screen has come and is drawn."""
    frame = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    until(page, "window.wsiMaxmin?.started")
    for _ in range(2):
        page.evaluate(frame)
        until(page, "wsiMaxmin.viewer.world.getItemAt(0).getFullyLoaded() && !wsiMaxmin.busy()")
    page.evaluate(frame)


def show(page, x, y, width, height):
    """Look at a rectangle of level-0 px."""
    page.evaluate(
        "box => wsiMaxmin.camera.fit(box, {margin: 0, immediately: true})",
        dict(zip(("x", "y", "width", "height"), (x, y, width, height), strict=True)),
    )
    settle(page)


def choose(page, **values):
    page.evaluate("values => wsiMaxmin.state.set(values)", values)
    settle(page)


def camera_of(page):
    """Return CSS pixels a level-0 pixel, and where level-0 (0, 0) is on the page."""
    return SimpleNamespace(
        **page.evaluate("""() => {
        const { scale, x, y } = wsiMaxmin.camera.now();
        const corner = wsiMaxmin.viewer.element.getBoundingClientRect();
        return { scale, x: x + corner.left, y: y + corner.top };
    }""")
    )


def seen(page):
    """Return the screen, (H, W, 3)."""
    with Image.open(io.BytesIO(page.screenshot())) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def stage(page):
    """Return the part of the screen that shows the slide, (H, W, 3), without what lies over its bottom."""
    box, ratio = page.locator("#slide").bounding_box(), page.evaluate("devicePixelRatio")
    left, top, right, bottom = (
        round(ratio * side) for side in (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"] - 100)
    )
    return seen(page)[top:bottom, left:right]


def at(page, x, y):
    """Return the colour at a level-0 point."""
    camera = camera_of(page)
    return seen(page)[int(camera.y + y * camera.scale), int(camera.x + x * camera.scale)]


def colour(page, value, colormap="viridis"):
    return np.array(page.evaluate(f"import('./js/colormaps.js').then(m => [...m.colours('{colormap}')[{value}]])"))


PLAIN = {"contours": False, "annotation": False, "minimap": False}


def edges(dark):
    """Return left, top, right and bottom of what is True, screen px."""
    rows, columns = np.nonzero(dark)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
