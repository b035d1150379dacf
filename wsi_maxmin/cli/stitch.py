"""``wsi-maxmin stitch``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import EXISTING_PATH, existing_options, finish, how, map_options, out_option


@click.command("stitch")
@click.argument("results", nargs=-1, required=True, type=EXISTING_PATH, metavar="RESULT...")
@out_option
@map_options
@existing_options
def command(results: tuple[Path, ...], out: Path, existing: str | None, **settings: Any) -> None:
    """Stitch the heatmaps of infer-slide again, with another blend or resolution and without a forward pass.

    RESULT is the folder of a slide, or of a whole run.

    Example: wsi-maxmin stitch heatmaps/tumor_001 --blend max --heatmap-mpp 8 --out coarse
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.stitch import MapSettings, stitch_results

    finish(
        stitch_results(results, out, settings=MapSettings(**settings), existing=how(existing), progress=make_progress())
    )
