"""One page of HTML about a folder of results, of whatever kind it is."""

from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.reports import plugins
from wsi_maxmin.reports._page import render
from wsi_maxmin.reports._parts import Request

REPORT = "report.html"
# The first that knows a folder takes it: scores may lie among the heatmaps that they are of.
_ORDER = ("training", "heatmaps", "slide-scores", "evaluation", "trainings")


def write_report(
    folder: Path,
    *,
    out: Path | None = None,
    scores: Path | None = None,
    title: str | None = None,
    viewer_url: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a page that needs nothing but itself, and return where it is.

    Parameters
    ----------
    folder : Path
        Of a training or of several, of heatmaps (a run, or one slide), or of scores.
    out : Path, optional
        By default ``report.html`` in the folder.
    scores : Path, optional
        What ``evaluate-slides`` wrote about these heatmaps; by default what lies with them.
    title : str, optional
        By default the folder's name.
    viewer_url : str, optional
        Where ``wsi-maxmin view`` serves the folder: slides link there.
    overwrite : bool
        Whether a file that is there is replaced.
    progress : Progress, optional

    Raises
    ------
    InputError
        If there is nothing to report on, a file of it is damaged, or the URL is none.
    OutputExistsError
        If the file is there and `overwrite` is not set.
    """
    out = folder / REPORT if out is None else out
    kind = kind_of(folder)
    if scores is not None and kind != "heatmaps":
        raise InputError("scores of slides go with heatmaps", got=f"--scores for {folder}", remedy="leave it out")
    if out.exists() and not overwrite:
        raise OutputExistsError("the report is there already", got=out, remedy="--overwrite replaces it")
    request = Request(
        out=out, scores=scores, viewer_url=_checked(viewer_url), progress=Quiet() if progress is None else progress
    )
    report = plugins.load(kind).describe(folder, request)
    page = render(report, title=title, made=datetime.now().astimezone())
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    # Names of files may hold bytes that are no text; they are shown as such.
    partial.write_bytes(page.encode("utf-8", errors="backslashreplace"))
    partial.replace(out)
    return out


def kind_of(folder: Path) -> str:
    """Return which of the reports a folder gets.

    Raises
    ------
    InputError
        If it is of none of them.
    """
    names = [*_ORDER, *(name for name in plugins.names() if name not in _ORDER)]
    kinds = {name: plugins.load(name) for name in names}
    for name, kind in kinds.items():
        if folder.is_dir() and kind.is_one(folder):
            return name
    raise InputError(
        "nothing to report on",
        got=_what_is_there(folder),
        expected="the folder of " + ", of ".join(kind.EXPECTED for kind in kinds.values()),
        remedy="give the folder that the command's --out named",
    )


def _what_is_there(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}, which does not exist"
    if not folder.is_dir():
        return f"{folder}, a file"
    held = sorted(path.name for path in folder.iterdir())
    more = f" and {len(held) - 3} more" if len(held) > 3 else ""
    return f"{folder} with {', '.join(held[:3])}{more}" if held else f"{folder}, an empty folder"


def _checked(url: str | None) -> str | None:
    """Return a URL of the viewer that ends in a slash; nothing but a page of a server may become a link."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            "no such viewer", got=url, expected="what wsi-maxmin view printed, such as http://127.0.0.1:8765/"
        )
    return url.removesuffix("/") + "/"
