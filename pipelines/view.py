"""Show a result: slides with their heatmaps in a local page, or one of them in napari."""

import errno
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import zarr

from wsi_maxmin.annotations import find_annotation, read_annotation
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._file_names import HEATMAP, TILEMAPS, TILES
from wsi_maxmin.runinfo import RUN_FILE, read_json, size_px_of
from wsi_maxmin.slide_ids import as_source
from wsi_maxmin.slide_list import find_slides
from wsi_maxmin.slides_csv import read_slides
from wsi_maxmin.viewer._answers import Answers
from wsi_maxmin.viewer._server import Server
from wsi_maxmin.viewer._shown import Shown

LOOPBACK, PORT = "127.0.0.1", 8765
_PORTS_TRIED = 20

Say = Callable[[str], object]


def find_results(
    result: Path, *, slide: str | None = None, annotations: Path | None = None, say: Say = lambda _: None
) -> list[Shown]:
    """Return what there is to show in the folder of a slide, or of a run.

    Parameters
    ----------
    result : Path
        As ``infer-slide`` or ``stitch`` wrote it.
    slide : str, optional
        File or URL of the slide; for a run a folder or list of its slides. By default as ``slides.csv`` says.
    annotations : Path, optional
        ASAP XML or GeoJSON of the slide; for a run a folder of them.
    say : callable
        Is told of slides that are not there.

    Raises
    ------
    InputError
        If there is no heatmap, or one slide or annotation is given for several heatmaps.
    """
    folders = [result] if (result / HEATMAP).is_dir() else sorted(path.parent for path in result.glob(f"*/{HEATMAP}"))
    if not folders:
        raise InputError("no heatmap in this folder", got=result, expected="a folder that infer-slide wrote")
    several = len(folders) > 1
    if several and annotations is not None and annotations.is_file():
        raise InputError("one annotation for several slides", got=annotations, expected="a folder of them")
    rows = read_slides(folders[0].resolve().parent)
    given = _given(slide, several=several)
    return [_shown(folder.resolve(), rows, given, annotations, say) for folder in folders]


def _given(slide: str | None, *, several: bool) -> dict[str, Any] | None:
    """Return the slides that the user named, by name; the key "" stands for whatever the heatmap is of."""
    if slide is None:
        return None
    source = as_source(slide)
    if not several and not (isinstance(source, Path) and source.is_dir()):
        return {"": source}
    return {listed.slide_id: listed.path for listed in find_slides([slide])}


def _shown(
    folder: Path, rows: dict[str, dict[str, str]], given: dict[str, Any] | None, annotations: Path | None, say: Say
) -> Shown:
    slide_id = folder.name
    row = rows.get(slide_id, {})
    name = row.get("name") or slide_id
    if given is None:
        source = as_source(row["path"]) if row.get("path") else None
        missing = isinstance(source, Path) and not source.exists()
    else:
        source = given.get("", given.get(name, given.get(slide_id)))
        missing = False
    if source is None or missing:
        say(f"{slide_id}: its slide is not there; the map is shown alone; --slide says where the slide is")
        source = None
    found = None if annotations is None else find_annotation(annotations, name)
    threshold, size_px = _of_tile_maps(folder / TILEMAPS)
    facts = read_json(folder / RUN_FILE) or {}
    return Shown(
        slide_id=slide_id,
        store=folder / HEATMAP,
        tiles=folder / TILES if (folder / TILES).is_file() else None,
        source=source,
        size_px=size_px or size_px_of(facts),
        threshold=facts.get("threshold") if threshold is None else threshold,
        annotation=None if found is None else read_annotation(found),
        facts=facts,
    )


def _of_tile_maps(path: Path) -> tuple[float | None, tuple[int, int] | None]:
    """Return the model's threshold and the slide's size; None where the heatmap was stitched again, apart from them."""
    try:
        attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
        width, height = attributes["grid"]["slide_size_px"]
        return float(attributes["spec"]["threshold"]), (int(width), int(height))
    except (OSError, ValueError, KeyError):
        return None, None


def view(
    result: Path,
    *,
    slide: str | None = None,
    annotations: Path | None = None,
    host: str = LOOPBACK,
    port: int = PORT,
    browser: bool = True,
    napari: bool = False,
    say: Say = lambda _: None,
) -> None:
    """Show a result until the user has seen enough: Ctrl-C, or napari's window closed.

    `result`, `slide` and `annotations` are those of `find_results`.

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
        Is told the URL, and what the user should know.

    Raises
    ------
    InputError, SlideError
        If there is nothing to show, a slide given or alone is not the heatmap's, or the address cannot be used.
    MissingExtraError
        If napari is not installed.
    """
    slides = find_results(result, slide=slide, annotations=annotations, say=say)
    if napari:
        from wsi_maxmin.viewer._napari import show

        show(slides)
        return
    answers = Answers(slides)
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
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise InputError("cannot listen there", got=f"{host}:{tried} ({error.strerror or error})") from None
        if tried != port:
            say(f"Port {port} is in use; taking {tried}.")
        return server
    raise InputError("no free port", got=f"{port} to {tried}, all in use", remedy="--port 0 takes any")
