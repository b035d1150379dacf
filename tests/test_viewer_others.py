"""vizarr and neuroglancer, as published, in a real Chromium: they read a store from our server, in the right place."""

import json
import mimetypes
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

from tests.browsing import launched, seen
from tests.other_programs import files_of
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import Georef
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.stitching import Heatmap
from wsi_maxmin.viewer._answers import Answers
from wsi_maxmin.viewer._server import Server
from wsi_maxmin.viewer._shown import Shown

# The display grid on which viewers that count from corners and from centres differ most, by 7/8 µm.
GEOREF = Georef(slide_size_px=(4096, 3072), slide_mpp=0.25, downsample=8)
CHANNELS = ("tumour", "uncertainty", "coverage")
# x, y, side, value of the tumour map; level-0 px.
SQUARES = ((512, 512, 256, 0.8), (2048, 960, 512, 0.9), (3200, 2240, 128, 1.0))
BRIGHT, LEAST_PX, RATIO = 140, 10_000, 2
BLUE = (0, 0, 255)
WEBGL_IN_SOFTWARE = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)


@pytest.fixture(scope="module", params=["0.4", pytest.param("0.5", marks=pytest.mark.slow)])
def server(request, tmp_path_factory):
    values = np.zeros((3, *GEOREF.shape), np.float32)
    values[:, 8:-8, 8:-8] = np.array([0.2, 0.4, 1])[:, None, None]
    for x, y, side, value in SQUARES:
        values[0, y // 8 : (y + side) // 8, x // 8 : (x + side) // 8] = value
    heatmap = Heatmap(data=da.from_array(values), georef=GEOREF, channels=CHANNELS)
    store = tmp_path_factory.mktemp("others") / "heatmap.ome.zarr"
    tissue = TissueMask(mask=np.ones((96, 128), bool), downsample=(32.0, 32.0), mpp=8)
    omezarr.write(heatmap, store, threshold=0.5, tissue=tissue, name="squares", ngff=request.param)
    with Server(Answers([Shown(slide_id="squares", store=store)]), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with launched(*WEBGL_IN_SOFTWARE) as browser:
        yield browser


@pytest.fixture
def context(browser):
    """Return a context in which the user has let pages of the web read from this machine."""
    with browser.new_context(
        viewport={"width": 1000, "height": 750}, device_scale_factor=RATIO, permissions=["local-network-access"]
    ) as context:
        yield context


def link(context, server, name):
    """Return where a link of our page leads."""
    page = context.new_page()
    page.goto(server.url)
    where = page.wait_for_selector(f"#{name}[href]", state="attached").get_attribute("href")
    page.close()
    return where


def media_of(name):
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def host(context, root, files):
    """Let files be what lies at an address of the web, so that the browser sees the origin that users have."""

    def answer(route):
        name = urlsplit(route.request.url).path.removeprefix(urlsplit(root).path) or "index.html"
        route.fulfill(status=404) if name not in files else route.fulfill(body=files[name], content_type=media_of(name))

    context.route(f"{root}**", answer)


def settled(page, ready):
    """Return the screen, (H, W, 3), once something is there and does not change any more."""
    stop, last = time.monotonic() + 60, None
    while time.monotonic() < stop:
        now = seen(page)
        if ready(now).sum() > LEAST_PX and np.array_equal(now, last):
            return now
        last = now
        page.wait_for_timeout(200)
    raise AssertionError("nothing was drawn")


def open_vizarr(context, server):
    """Return the page that our link opens."""
    where = link(context, server, "vizarr")
    root, (store,) = where.partition("?")[0], parse_qs(urlsplit(where).query)["source"]
    files = files_of("galaxyproject-vizarr-*.tgz", "package/static")
    # The package lacks what its bundle loads when it needs it.
    codecs = files_of("numcodecs-*.tgz", "package/dist")
    files["blosc-CAH7LpMT.js"] = codecs["blosc.js"]
    files["chunk-INHXZS53.js"] = files["chunk-INHXZS53-BwBC_UMW.js"] = codecs["chunk-INHXZS53.js"]
    # This build is for Galaxy, and asks it and not the address what to show.
    known = {"id": "x", "name": "squares", "state": "deferred", "sources": [{"source_uri": store}]}
    asked = json.dumps({"root": root, "visualization_config": {"dataset_id": "x"}})
    files["api/datasets/x"] = json.dumps(known).encode()
    files["index.html"] = (
        f"<!doctype html><style>body {{ margin: 0; background: rgb{BLUE} }} #app {{ height: 100vh }}</style>"
        f"<div id='app' data-incoming='{asked}'></div><script type='module' src='index.js'></script>"
    ).encode()
    host(context, root, files)
    jpeg2000 = {"body": "export class JpxImage {}", "headers": {"Access-Control-Allow-Origin": "*"}}
    context.route(
        "https://cdn.jsdelivr.net/**", lambda route: route.fulfill(**jpeg2000, content_type="text/javascript")
    )
    page = context.new_page()
    page.goto(root)
    return page


def squares(bright):
    """Return the corners of the three largest bright pieces from left to right, (3, 2, 2) screen px, x first."""
    pieces, _ = ndimage.label(bright)
    kept = np.argsort(np.bincount(pieces.ravel())[1:])[-len(SQUARES) :]
    boxes = [ndimage.find_objects(pieces)[index] for index in kept]
    return np.array(sorted([[x.start, y.start], [x.stop, y.stop]] for y, x in boxes))


def off_um(found):
    """Return how far corners in level-0 px are from those of the squares at most."""
    expected = [[[x, y], [x + side, y + side]] for x, y, side, _ in SQUARES]
    return np.abs(found - expected).max() * GEOREF.slide_mpp


def test_vizarr_draws_the_tumour_channel_where_it_belongs(context, server):
    page = open_vizarr(context, server)
    pixels = settled(page, lambda pixels: pixels[..., 0] - pixels[..., 1] > BRIGHT)
    # Its unit is the heatmap pixel, so its frame is the whole heatmap.
    inside = (pixels != BLUE).any(axis=2)
    (left, right), (top, bottom) = (np.flatnonzero(line)[[0, -1]] + [0, 1] for line in (inside[-400], inside[:, -400]))
    unit = GEOREF.shape[::-1] / np.array([right - left, bottom - top]) * GEOREF.downsample
    assert off_um((squares(pixels[..., 0] - pixels[..., 1] > BRIGHT) - [left, top]) * unit) <= 1


def test_neuroglancer_draws_the_tumour_channel_where_it_belongs(context, server):
    state = json.loads(unquote(link(context, server, "neuroglancer").partition("#!")[2]))
    with serve_neuroglancer(state) as root:
        page = context.new_page()
        page.goto(root)
        # Text is white as well, but small.
        pixels = settled(page, lambda pixels: pixels.min(axis=2) > BRIGHT)
        panel = page.locator(".neuroglancer-rendered-data-panel").bounding_box()
    centre = np.array([panel["x"] + panel["width"] / 2, panel["y"] + panel["height"] / 2])
    found = (squares(pixels.min(axis=2) > BRIGHT) / RATIO - centre) * state["crossSectionScale"] + state["position"]
    assert off_um(found) <= 1


@contextmanager
def serve_neuroglancer(state):
    """Serve the client of the Python package; it asks its server for the state that others have from the address."""
    files = files_of("neuroglancer-*.whl", "neuroglancer/static/client")
    told = f"data: {json.dumps({'k': 's', 's': state, 'g': '1'})}\n\n".encode()
    over = threading.Event()

    class Client(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/events/"):
                self._say("text/event-stream", told)
                self.wfile.flush()
                over.wait(60)
            elif (name := self.path.removeprefix("/v/x/") or "index.html") in files:
                self._say(media_of(name), files[name])
            else:
                self.send_error(404)

        def do_POST(self):
            self._say("application/json", b"{}")

        def _say(self, media, body):
            self.send_response(200)
            self.send_header("Content-Type", media)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Client) as client:
        threading.Thread(target=client.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{client.server_address[1]}/v/x/"
        over.set()
        client.shutdown()
