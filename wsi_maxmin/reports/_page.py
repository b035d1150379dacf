"""Draw a report as one HTML file that asks for nothing else: style, script and pictures are inside."""

import base64
import hashlib
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wsi_maxmin._version import __version__
from wsi_maxmin.reports import _charts
from wsi_maxmin.reports._parts import Link, Report

PAGE = Path(__file__).parent / "page"


def render(report: Report, *, title: str | None = None, made: datetime) -> str:
    """Return the page; whatever text the report holds is text on the page, never markup.

    Parameters
    ----------
    report : Report
    title : str, optional
        Instead of the report's own.
    made : datetime
        Said at the end of the page.
    """
    style, script = ((PAGE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    page = _templates().get_template("page.html")
    return page.render(
        report=report,
        title=title or report.title,
        made=made.isoformat(sep=" ", timespec="minutes"),
        version=__version__,
        policy=_policy(style, script),
        style=style,
        script=script,
    )


def _policy(style: str, script: str) -> str:
    """Return the page's own rule of what a browser may load and run: this style, this script, pictures inside it."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["chart_size"] = (_charts.WIDTH, _charts.HEIGHT)
    environment.tests["link"] = lambda cell: isinstance(cell, Link)
    return environment
