"""``wsi-maxmin view``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import EXISTING_PATH, group_option


@click.command()
@click.argument("result", type=EXISTING_PATH)
@click.option(
    "--slide", metavar="SLIDE", help="The slide's file or URL; of a run, a folder or list [as slides.csv says]."
)
@click.option("--annotations", type=EXISTING_PATH, metavar="PATH", help="ASAP XML or GeoJSON to draw, or a folder.")
@group_option
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind to; wider ones get a token.")
@click.option("--no-browser", is_flag=True, help="Only print where the page is.")
@click.option("--napari", is_flag=True, help="Open napari instead (pip install 'wsi-maxmin[napari]').")
def command(
    result: Path,
    slide: str | None,
    annotations: Path | None,
    groups: tuple[Any, ...],
    port: int,
    host: str,
    no_browser: bool,
    napari: bool,
) -> None:
    """Show slide and heatmap together in a local page; RESULT is what infer-slide wrote, of a slide or of a run.

    The page needs no network and changes nothing. Press ? in it for its keys; Ctrl-C here ends it.

    \b
    Example: wsi-maxmin view heatmaps/tumor_001
    Moved:   wsi-maxmin view heatmaps/tumor_001 --slide /mnt/slides/tumor_001.tif
    """  # noqa: D301
    from wsi_maxmin.pipelines.view import view

    view(
        result,
        slide=slide,
        annotations=annotations,
        groups=dict(groups),
        host=host,
        port=port,
        browser=not no_browser,
        napari=napari,
        say=click.echo,
    )
