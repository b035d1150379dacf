"""``wsi-maxmin infer-slide``."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from wsi_maxmin.cli._options import (
    EXISTING_PATH,
    FloatRange,
    device_option,
    existing_options,
    finish,
    formats_option,
    group_option,
    hash_option,
    how,
    map_options,
    out_option,
    overrides_option,
    region_option,
    slide_mpp_option,
    sources_argument,
    tissue_masks_option,
)
from wsi_maxmin.engines import plugins as engines
from wsi_maxmin.geometry import MPP_LIMITS


def _batch_size(_context: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"got {value!r}; expected auto or a whole number from 1")
    return int(value)


def _scheduler(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value not in ("threads", "processes") and "://" not in value:
        raise click.BadParameter(
            f"got {value!r}; expected threads, processes or an address such as tcp://10.0.0.1:8786"
        )
    return value


@click.command("infer-slide")
@sources_argument
@out_option
@click.option(
    "--model",
    default="camelyon16-demo",
    show_default=True,
    help="A bundled name, a run folder, a file, or TorchScript (x.pt with x.json).",
)
@click.option("--overlap", default=0.5, show_default=True, type=FloatRange(0, 0.95), help="Of tiles.")
@click.option(
    "--mode",
    default="tile",
    show_default=True,
    type=click.Choice(("tile", "dense")),
    help="dense: the model's trunk once over large regions, so that --overlap 0.75 costs little.",
)
@click.option(
    "--dense-context",
    default=2,
    show_default=True,
    type=click.IntRange(0, 8),
    metavar="CELLS",
    help="What dense mode sees around a region, in positions of the model's maps; with less than 2, ridges may show.",
)
@map_options
@click.option(
    "--min-tissue",
    default=0.1,
    show_default=True,
    type=FloatRange(0, 1),
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
    type=click.Choice(("auto", "fp32", "bf16", "fp16", "int8")),
    help="Number format; auto takes half the bits only where the maps stay the same; int8 is made by export-model.",
)
@click.option("--compile", is_flag=True, help="Run it by torch.compile, which needs a C++ compiler.")
@device_option
@click.option(
    "--scheduler",
    default="threads",
    show_default=True,
    metavar="threads|processes|tcp://HOST:PORT",
    callback=_scheduler,
    help="Who computes: this process, several of this machine, or the workers of a dask scheduler.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Processes [one a GPU, else one on two cores]; of a scheduler: how many to wait for [1].",
)
@click.option("--mpp", type=FloatRange(*MPP_LIMITS), metavar="X", help="µm per pixel of tiles [the model's].")
@click.option(
    "--level", type=click.IntRange(0), metavar="N", help="Tiles at this level's µm per pixel instead; 0: full."
)
@region_option("Only tiles that touch this rectangle")
@tissue_masks_option
@slide_mpp_option
@overrides_option
@hash_option
@click.option(
    "--annotations", type=EXISTING_PATH, metavar="PATH", help="ASAP XML or GeoJSON to draw in pictures, or a folder."
)
@group_option
@formats_option("--export", help="Formats to write besides, separated by commas; see `wsi-maxmin export`.")
@click.option("--dry-run", is_flag=True, help="Only say how many tiles, how much disk and how long.")
@existing_options
def command(
    slides: tuple[str, ...],
    out: Path,
    tissue_masks: Path | None,
    overrides: Path | None,
    batch_size: int | None,
    readers: int,
    scheduler: str,
    workers: int | None,
    device: str,
    annotations: Path | None,
    groups: tuple[Any, ...],
    export: tuple[str, ...],
    existing: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Map the tumour of all SLIDES: --out/<slide>/heatmap.ome.zarr and overview.png.

    SLIDES are files, folders, URLs or CSV lists (slide[,slide_id][,patient_id][,mpp]). Every slide is attempted; the
    exit code is 1 if some failed.

    \b
    Example: wsi-maxmin infer-slide tumor_001.tif --out heatmaps
    Cohort:  wsi-maxmin infer-slide slides/ --out heatmaps --dry-run
    Faster:  wsi-maxmin infer-slide slides/ --out heatmaps --scheduler processes
    """  # noqa: D301
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide
    from wsi_maxmin.pipelines.plan_heatmaps import plan_heatmaps

    if options["level"] is not None and options["mpp"] is not None:
        raise click.UsageError("--level and --mpp exclude each other; give one")
    if workers is not None and scheduler == "threads":
        raise click.UsageError("--workers is for --scheduler processes or the address of a scheduler")
    asked = click.get_current_context().get_parameter_source("dense_context")
    if options["mode"] != "dense" and asked is not ParameterSource.DEFAULT:
        raise click.UsageError("--dense-context is for --mode dense")
    given: dict[str, Any] = {
        "settings": InferSettings(**options),
        "tissue_masks": tissue_masks,
        "overrides": overrides,
        "device": device,
        "batch_size": batch_size,
        "readers": readers,
        "progress": make_progress(),
    }
    if dry_run:
        dry = plan_heatmaps(slides, **given)
        click.echo(dry.table())
        click.get_current_context().exit(int(dry.failed))
    given |= {"scheduler": scheduler, "workers": workers, "exports": export}
    given |= {"annotations": annotations, "groups": dict(groups), "existing": how(existing)}
    finish(infer_slide(slides, out, **given))
