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
from wsi_maxmin.engines import plugins as engines


def _batch_size(_context: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"got {value!r}; expected auto or a whole number from 1")
    return int(value)


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
    "--batch-size",
    default="auto",
    show_default=True,
    metavar="auto|N",
    callback=_batch_size,
    help="Tiles at a time; auto: 32 on a GPU, else 8.",
)
@click.option("--readers", default=2, show_default=True, type=click.IntRange(1), help="Threads that read tiles.")
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|" + "|".join(engines.names()),
    help="What runs the model; auto times them on the first tiles.",
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(("auto", "fp32", "bf16", "fp16")),
    help="Number format; auto takes half the bits only where the maps stay the same.",
)
@device_option
@slide_mpp_option
@existing_options
def command(
    slides: tuple[Path, ...],
    out: Path,
    batch_size: int | None,
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
