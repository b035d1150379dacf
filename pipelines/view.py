"""Show a result: slides with their heatmaps in a local page, or one of them in napari."""

import errno
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from wsi_maxmin.annotations import Role
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._finished import finished_slides, tell_left_out
from wsi_maxmin.pipelines._shown_slides import Say, shown_slides
from wsi_maxmin.viewer._answers import Answers
from wsi_maxmin.viewer._server import Server

LOOPBACK, PORT = "127.0.0.1", 8765
_PORTS_TRIED = 20
_ADDRESSES = "an address or name of this machine: 127.0.0.1 for itself alone, 0.0.0.0 for every network it is in"


def view(
    result: Path,
    *,
    slide: str | None = None,
    annotations: Path | None = None,
    groups: Mapping[str, Role] | None = None,
    host: str = LOOPBACK,
    port: int = PORT,
    browser: bool = True,
    napari: bool = False,
    say: Say = lambda _: None,
) -> None:
    """Show a result until the user has seen enough: Ctrl-C, or napari's window closed.

    `result` is the folder of a slide or of a run; `slide`, `annotations` and `groups` are those of `shown_slides`.

    Parameters
    ----------
    host : str
        Address to bind to; anything but this machine's own gets a token in the URL.
    port : int
        The next free one is taken if it is in use; 0 is any.
    browser : bool
        Whether to open the page in the user's browser.
    napari : bool
        Show napari instead.
    say : callable
        Is told the URL, which slides are not shown, and why one cannot be.

    Raises
    ------
    InputError, SlideError
        If there is nothing to show, a slide given or alone is not the heatmap's, or the address cannot be used.
    MissingExtraError
        If napari is not installed.
    """
    finished = finished_slides(result)
    tell_left_out(finished, say)
    slides = shown_slides(finished.folders, slide=slide, annotations=annotations, groups=groups, say=say)
    if napari:
        from wsi_maxmin.viewer._napari import show

        show(slides)
        return
    answers = Answers(slides, left_out=finished.left_out, say=say)
    if len(slides) == 1:
        answers.opened(slides[0].slide_id)  # a wrong slide is an error here, not an empty page
    with bind(answers, host, port, say) as server, suppress(KeyboardInterrupt):
        say(f"{server.url}  (Ctrl-C ends)")
        if not server.loopback:
            say("Whoever has this address can look, over a connection that is not encrypted.")
        if browser:
            webbrowser.open(server.url)
        server.serve_forever()


def bind(answers: Answers, host: str, port: int, say: Say) -> Server:
    """Return a server on a port, or on one of the next where it is in use.

    Raises
    ------
    InputError
        If the address cannot be used.
    """
    for tried in [0] if port == 0 else range(port, min(port + _PORTS_TRIED, 65536)):
        try:
            server = Server(answers, host, tried)
        except (OSError, UnicodeError) as error:
            number, why = getattr(error, "errno", None), getattr(error, "strerror", None) or error
            if number == errno.EADDRINUSE:
                continue
            remedy = "--port 8765 or another above 1023" if number == errno.EACCES else "leave --host out"
            raise InputError(
                "cannot listen there", got=f"{host}:{tried} ({why})", expected=_ADDRESSES, remedy=remedy
            ) from None
        if tried != port:
            say(f"Port {port} is in use; taking {tried}.")
        return server
    raise InputError("no free port", got=f"{port} to {tried}, all in use", remedy="--port 0 takes any")
