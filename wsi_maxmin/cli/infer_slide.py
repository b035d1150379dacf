"""``wsi-maxmin infer-slide``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import (
    device_option,
    existing_options,
    finish,
    how,
    map_options,
    out_option,
    slide_mpp_option,
    slides_argument,
)


@click.command("infer-slide")
@slides_argument
@out_option
@click.option("--model", default="camelyon16-demo", show_default=True, help="A bundled name, a run folder or a file.")
@click.option("--overlap", default=0.5, show_default=True, type=click.FloatRange(0, 0.95), help="Of tiles.")
@map_options
@click.option(
    "--min-tissue",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Least tissue of a tile.",
)
@click.option(
    "--batch-size", default=8, show_default=True, type=click.IntRange(1), metavar="N", help="Tiles at a time."
)
@click.option("--readers", default=2, show_default=True, type=click.IntRange(1), help="Threads that read tiles.")
@device_option
@slide_mpp_option
@existing_options
def command(
    slides: tuple[Path, ...],
    out: Path,
    batch_size: int,
    readers: int,
    device: str,
    existing: str | None,
    **settings: Any,
) -> None:
    """Map the tumour of every SLIDE: --out/<slide>/heatmap.ome.zarr and overview.png.

    Every slide is attempted; the exit code is 1 if some failed.

    Example: wsi-maxmin infer-slide tumor_001.tif --out heatmaps
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide

    finish(
        infer_slide(
            slides,
            out,
            settings=InferSettings(**settings),
            device=device,
            batch_size=batch_size,
            readers=readers,
            existing=how(existing),
            progress=make_progress(),
        )
    )
