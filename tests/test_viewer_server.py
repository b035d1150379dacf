"""The server over real sockets: who may ask for what, and how."""

import http.client
import json
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import viewing
from tests.viewing import find_results
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines.view import bind
from wsi_maxmin.viewer._answers import Answers
from wsi_maxmin.viewer._server import FOREIGN_VIEWERS, Server, is_loopback

STORE = "/store/squares/heatmap.ome.zarr"
PAGES = Path(__file__).parent.parent / "wsi_maxmin" / "viewer" / "page"


@pytest.fixture(scope="module")
def result(tmp_path_factory, make_pyramid, write_pyramid):
    folder = tmp_path_factory.mktemp("result")
    return viewing.make_result(folder / "run", folder, write_pyramid, make_pyramid(viewing.painted(), 3))


@pytest.fixture(scope="module")
def start(result):
    servers = []

    def make(host):
        server = Server(Answers(find_results(result)), host, 0)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def local(start):
    return start("127.0.0.1")


@pytest.fixture(scope="module")
def wide(start):
    return start("0.0.0.0")


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_the_page_may_load_nothing_from_elsewhere_and_be_framed_by_nobody(local):
    answer, body = ask(local, "/slide.html")
    assert answer.status == 200
    assert b"<!doctype html>" in body
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_first_page_of_one_slide_is_that_slide(local):
    answer, _ = ask(local, "/")
    assert (answer.status, answer.headers["Location"]) == (302, "/slide.html?id=squares")


def test_a_part_of_a_chunk_is_given_as_206(local, result):
    chunk = next(path for path in sorted((result / "squares" / "heatmap.ome.zarr" / "0").rglob("*")) if path.is_file())
    path, whole = f"{STORE}/0/{chunk.relative_to(result / 'squares' / 'heatmap.ome.zarr' / '0')}", chunk.read_bytes()
    size = len(whole)
    for asked, first, last in (
        ("0-9", 0, 9),
        ("5-", 5, size - 1),
        ("-7", size - 7, size - 1),
        (f"3-{10 * size}", 3, size - 1),
    ):
        answer, body = ask(local, path, Range=f"bytes={asked}")
        assert (answer.status, body) == (206, whole[first : last + 1])
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    answer, _ = ask(local, path, Range=f"bytes={size}-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{size}")
    for unknown in ("bytes=0-1,4-5", "lines=1-2", "bytes=x-y", "bytes=5-2", f"bytes=0-{'9' * 5000}"):
        answer, body = ask(local, path, Range=unknown)
        assert (answer.status, body) == (200, whole)
    answer, body = ask(local, path, "HEAD")
    assert (answer.status, body, answer.headers["Content-Length"]) == (200, b"", str(size))
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_a_chunk_that_was_not_written_is_404(local):
    assert ask(local, f"{STORE}/0/9/9/9")[0].status == 404


@pytest.mark.parametrize("origin", [*FOREIGN_VIEWERS, "http://localhost:5173"])
def test_the_known_viewers_may_read_the_store(local, origin):
    answer, body = ask(local, f"{STORE}/.zattrs", Origin=origin)
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "multiscales" in json.loads(body)
    answer, _ = ask(local, f"{STORE}/.zattrs", "OPTIONS", Origin=origin, Access_Control_Request_Headers="range")
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Headers"] == "Range"


def test_they_may_see_that_a_chunk_is_not_there(local):
    """A chunk without a value is not written: without leave to read the 404 a browser calls it a broken network."""
    answer, _ = ask(local, f"{STORE}/0/0/99/99", Origin=FOREIGN_VIEWERS[0])
    assert answer.status == 404
    assert answer.headers["Access-Control-Allow-Origin"] == FOREIGN_VIEWERS[0]
    for path, origin in ((f"{STORE}/0/0/99/99", "https://example.org"), ("/nothing", FOREIGN_VIEWERS[0])):
        assert "Access-Control-Allow-Origin" not in ask(local, path, Origin=origin)[0].headers


@pytest.mark.parametrize("origin", ["https://example.org", "null", "https://hms-dbmi.github.io.example.org"])
def test_other_pages_of_the_web_may_not(local, origin):
    for method in ("GET", "OPTIONS"):
        assert "Access-Control-Allow-Origin" not in ask(local, f"{STORE}/.zattrs", method, Origin=origin)[0].headers
    assert ask(local, f"{STORE}/.zattrs", Origin="http://[")[0].status == 200


def test_nothing_but_the_store_is_for_other_pages(local):
    for method in ("GET", "OPTIONS"):
        answer, _ = ask(local, "/api/slides", method, Origin=FOREIGN_VIEWERS[0])
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("host", ["example.org", "example.org:8765", "127.0.0.1.example.org", "[", ""])
def test_a_foreign_name_that_resolves_to_this_machine_gets_nothing(local, host):
    assert ask(local, "/api/slides", Host=host)[0].status == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:9", "[::1]:9"])
def test_this_machines_own_names_are_fine(local, host):
    assert ask(local, "/api/slides", Host=host)[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(local, method, result):
    before = sorted(path for path in result.rglob("*"))
    assert ask(local, f"{STORE}/.zattrs", method)[0].status == 501
    assert sorted(path for path in result.rglob("*")) == before


def test_what_the_browser_has_is_not_sent_again(local):
    answer, _ = ask(local, "/slides/squares/pixels/0/0_0.jpg")
    assert answer.headers["Cache-Control"] == "private, max-age=3600"
    again, body = ask(local, "/slides/squares/pixels/0/0_0.jpg", If_None_Match=answer.headers["ETag"])
    assert (again.status, body) == (304, b"")


def test_one_connection_carries_many_requests(local):
    connection = http.client.HTTPConnection("127.0.0.1", local.server_address[1], timeout=20)
    connection.connect()
    own = connection.sock
    for path in ("/api/slides", "/nonsense", "/slides/squares/values/tumour/0/0_0", "/slides/squares/pixels/0/0_0.jpg"):
        connection.request("GET", path)
        connection.getresponse().read()
        assert connection.sock is own
    connection.close()


def test_many_threads_get_the_same_tiles(local):
    paths = [f"/slides/squares/pixels/0/{x}_{y}.jpg" for x in range(4) for y in range(3)] * 3
    found: dict[str, set[bytes]] = {}
    lock = threading.Lock()

    def work(mine):
        for path in mine:
            answer, body = ask(local, path)
            with lock:
                found.setdefault(path, set()).add(body if answer.status == 200 else b"")

    threads = [threading.Thread(target=work, args=(paths[start::6],)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(bodies) == 1 and b"" not in bodies for bodies in found.values())


def test_a_slide_that_cannot_be_read_is_500_and_names_no_file(tmp_path, make_pyramid, write_pyramid, caplog):
    run = viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, make_pyramid(viewing.painted(), 3))
    shown = find_results(run)
    (tmp_path / "squares.tif").write_bytes(b"not a slide any more")
    with Server(Answers(shown), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answer, body = ask(server, "/slides/squares/pixels/0/0_0.jpg")
        server.shutdown()
    assert (answer.status, b"squares.tif" in body) == (500, False)
    assert "squares.tif" in caplog.text


def test_a_wrong_slide_is_said_to_the_page_without_its_path_and_once_in_the_terminal(
    tmp_path, make_pyramid, write_pyramid, stained
):
    run = viewing.make_result(
        tmp_path / "run", tmp_path, write_pyramid, make_pyramid(viewing.painted(), 3), names=("one", "two")
    )
    write_pyramid(tmp_path / "one.tif", [stained(600, 500)])
    said = []
    with Server(Answers(find_results(run), say=said.append), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers = [ask(server, f"/api/slides/one{rest}") for rest in ("", "/summary")]
        assert ask(server, "/api/slides/two")[0].status == 200
        server.shutdown()
    (first, body), (second, _) = answers
    assert (first.status, second.status) == (409, 409)
    assert body.decode().startswith(
        "this is not the slide of the heatmap of one; got 600 × 500 px; expected about 2048"
    )
    assert str(tmp_path) not in body.decode()
    assert said == [body.decode().strip()]


def test_a_broken_chunk_is_500_and_the_connection_goes_on(tmp_path, make_pyramid, write_pyramid):
    run = viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, make_pyramid(viewing.painted(), 3))
    (run / "squares" / "heatmap.ome.zarr" / "0" / "0" / "0" / "0").write_bytes(b"broken")
    with Server(Answers(find_results(run)), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert ask(server, "/slides/squares/values/tumour/0/0_0")[0].status == 500
        assert ask(server, "/slides/squares/values/tumour/1/0_0")[0].status == 200
        server.shutdown()


def test_beyond_this_machine_everything_is_below_a_random_token(wide, start):
    token = urlsplit(wide.url).path.strip("/")
    assert len(token) >= 20
    assert start("0.0.0.0").token != token
    for path in (
        "/",
        "/slide.html",
        "/api/slides",
        f"{STORE}/.zattrs",
        f"/{token[:-1]}/api/slides",
        f"/{token}x/api/slides",
    ):
        assert ask(wide, path)[0].status == 404
    assert ask(wide, f"/{token}/")[0].headers["Location"] == f"/{token}/slide.html?id=squares"
    assert ask(wide, f"/{token}/api/slides", Host="pathology.example.org")[0].status == 200
    answer, _ = ask(wide, f"/{token}{STORE}/.zattrs", Origin="https://example.org")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"


def test_on_this_machine_there_is_no_token_and_nobody_else_gets_in(local):
    assert local.url == f"http://127.0.0.1:{local.server_address[1]}/"
    assert local.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_what_counts_as_this_machine(host, expected):
    assert is_loopback(host) is expected


def test_a_port_in_use_gives_the_next_and_says_so(result):
    answers, said = Answers(find_results(result)), []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with bind(answers, "127.0.0.1", port, said.append) as server:
            assert server.server_address[1] > port
    assert said == [f"Port {port} is in use; taking {server.server_address[1]}."]
    with bind(answers, "127.0.0.1", 0, said.append) as server:
        assert server.server_address[1] > 0
    with pytest.raises(InputError, match=r"cannot listen there; got 192\.0\.2\.1:8765"):
        bind(answers, "192.0.2.1", 8765, said.append)


def test_every_script_and_style_of_the_page_is_our_own_and_vendored_code_has_its_licence():
    for page in ("index.html", "slide.html"):
        text = (PAGES / page).read_text(encoding="utf-8")
        assert "//" not in text.replace("<!doctype", "").replace("</", "<")
        assert "style=" not in text
    assert "CodePlex" in (PAGES / "openseadragon" / "LICENSE.txt").read_text(encoding="utf-8")


def test_no_file_of_the_page_is_longer_than_250_lines():
    own = [path for path in PAGES.rglob("*") if path.is_file() and "openseadragon" not in path.parts]
    assert not [path.name for path in own if len(path.read_text(encoding="utf-8").splitlines()) > 250]
