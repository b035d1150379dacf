"""The local web server: HTTP around `Answers`, read only, for one user of this machine unless told otherwise."""

import hashlib
import hmac
import ipaddress
import logging
import secrets
import socket
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from wsi_maxmin.viewer._answers import Answer, Answers, NotThereError
from wsi_maxmin.viewer._opened import WrongSlideError

log = logging.getLogger(__name__)

# Pages of other viewers that may read a store on loopback; whatever else is on the web may not.
FOREIGN_VIEWERS = ("https://hms-dbmi.github.io", "https://neuroglancer-demo.appspot.com")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# The one style that OpenSeadragon 6.1.1 adds to the page.
_ITS_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
_SECURITY = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self' {_ITS_STYLE}; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_IDLE_SECONDS = 60
_LONGEST_NUMBER = 18


class Server(ThreadingHTTPServer):
    """A server of one result.

    Parameters
    ----------
    answers : Answers
    host : str
        Address to bind to.
    port : int
        0 is any that is free.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answers: Answers, host: str, port: int) -> None:
        self.answers = answers
        self.loopback = is_loopback(host)
        self.token = "" if self.loopback else secrets.token_urlsafe(16)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = str(self.server_address[0]), self.server_address[1]
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{port}/" + (f"{self.token}/" if self.token else "")

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Keep quiet about browsers that go away in the middle of an answer; `--debug` shows them."""
        log.debug("a request ended early", exc_info=True)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which no other reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # Header and body go in one write; waiting for more would cost 40 ms a tile.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer, by the same rules as a HEAD."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._answer()

    def do_OPTIONS(self) -> None:
        """Tell a viewer on another origin that it may ask for ranges of a store."""
        if allowed := self._cors():
            allowed |= {"Access-Control-Allow-Methods": "GET, HEAD", "Access-Control-Allow-Headers": "Range"}
            allowed |= {"Access-Control-Allow-Private-Network": "true", "Access-Control-Max-Age": "600"}
        self._send(HTTPStatus.NO_CONTENT, b"", {"Allow": "GET, HEAD, OPTIONS", **allowed})

    def _answer(self) -> None:
        if not self._addressed_here():
            return self._say(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to localhost only")
        path = self._path_below()
        if path is None:
            return self._say(HTTPStatus.NOT_FOUND, "not there")
        query = dict(parse_qsl(self.path.partition("?")[2]))
        try:
            answer = self.server.answers.get(path, query)
        except NotThereError:
            return self._say(HTTPStatus.NOT_FOUND, "not there")
        except WrongSlideError as error:
            return self._say(HTTPStatus.CONFLICT, str(error))
        except Exception:
            # Whatever a codec raises. The message may name files, whose names may name patients: it stays here.
            log.exception("cannot answer %s", path)
            return self._say(HTTPStatus.INTERNAL_SERVER_ERROR, "the slide or its heatmap cannot be read")
        self._give(answer)

    def _path_below(self) -> str | None:
        """Return the path below the page's root; None without the token."""
        path, token = self.path.partition("?")[0], self.server.token
        if not token:
            return path
        given, _, rest = path.removeprefix("/").partition("/")
        return f"/{rest}" if hmac.compare_digest(given.encode(), token.encode()) else None

    def _addressed_here(self) -> bool:
        """Whether the browser meant this machine: a foreign name that resolves to it is an attack (DNS rebinding)."""
        name = _hostname(f"//{self.headers.get('Host', '')}")
        return not self.server.loopback or name in (*_LOOPBACK_NAMES, self.server.server_address[0])

    def _cors(self) -> dict[str, str]:
        """Let a known viewer read stores, and see which of their files are not there, as chunks without a value."""
        origin = self.headers.get("Origin", "")
        known = origin in FOREIGN_VIEWERS or _hostname(origin) in _LOOPBACK_NAMES
        in_store = (self._path_below() or "").startswith("/store/") and self._addressed_here()
        if not origin or not in_store or (self.server.loopback and not known):
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag",
            "Vary": "Origin",
        }

    def _give(self, answer: Answer) -> None:
        if answer.location is not None:
            prefix = f"/{self.server.token}/" if self.server.token else "/"
            return self._send(HTTPStatus.FOUND, b"", {"Location": prefix + answer.location})
        headers = {"Content-Type": answer.media, "Cache-Control": answer.cache}
        if answer.gzipped:
            headers["Content-Encoding"] = "gzip"
        body, status = answer.body, HTTPStatus.OK
        if isinstance(body, Path):
            body = body.read_bytes()
            headers |= {"Accept-Ranges": "bytes", **self._cors()}
        else:
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["ETag"] = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        if headers["ETag"] in self.headers.get("If-None-Match", ""):
            return self._send(HTTPStatus.NOT_MODIFIED, b"", headers)
        if "Accept-Ranges" in headers and (span := _span(self.headers.get("Range"), len(body))) is not None:
            start, stop = span
            if start >= stop:
                headers["Content-Range"] = f"bytes */{len(body)}"
                return self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            body, status = body[start:stop], HTTPStatus.PARTIAL_CONTENT
        self._send(status, body, headers)

    def _say(self, status: HTTPStatus, text: str) -> None:
        headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **self._cors()}
        self._send(status, f"{text}\n".encode(), headers)

    def _send(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_SECURITY, **headers}.items():
            self.send_header(name, value)
        if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """Name the program and not its versions."""
        return "wsi-maxmin"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests out of the terminal; `--debug` shows them."""
        log.debug(format, *args)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the part of a file that a Range header asks for; None for all of it, empty where there is none such."""
    unit, _, text = (header or "").partition("=")
    first, dash, last = text.strip().partition("-")
    if unit.strip() != "bytes" or not dash or not (first + last).isdecimal():
        return None  # several ranges, and what is none: the whole file answers both
    if max(len(first), len(last)) > _LONGEST_NUMBER or (first and last and int(last) < int(first)):
        return None
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size
