"""Draw a report as one HTML file that asks for nothing else: style, script and pictures are inside."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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
    style, script = _read("report.css"), _read("report.js")
    return (
        _templates()
        .get_template("page.html")
        .render(
            report=report,
            title=title or report.title,
            made=made.isoformat(sep=" ", timespec="minutes"),
            version=__version__,
            policy=_policy(style, script),
            # Ours, and not escaped: the browser takes what lies between these tags as it is.
            style=Markup(style),
            script=Markup(script),
        )
    )


def _policy(style: str, script: str) -> str:
    """Return the page's own rule of what a browser may load and run: this style, this script, pictures inside it."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _templates() -> Environment:
    return _with_globals(
        Environment(
            loader=FileSystemLoader(PAGE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ),
        {"chart_size": (_charts.WIDTH, _charts.HEIGHT)},
    )


def _with_globals(environment: Environment, values: Mapping[str, Any]) -> Environment:
    environment.globals.update(values)
    environment.tests["link"] = lambda cell: isinstance(cell, Link)
    return environment
