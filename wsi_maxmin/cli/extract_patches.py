"""``wsi-maxmin extract-patches``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import (
    EXISTING_PATH,
    existing_options,
    finish,
    how,
    out_option,
    slide_mpp_option,
    slides_argument,
)
from wsi_maxmin.geometry import MPP_LIMITS

_ROLES = ("tumour", "exclude", "ignore")


def _groups(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    pairs = [value.rpartition("=") for value in values]
    for value, (name, _, role) in zip(values, pairs, strict=True):
        if not name or role not in _ROLES:
            raise click.BadParameter(f"got {value!r}; expected NAME=tumour, NAME=exclude or NAME=ignore")
    return tuple((name, role) for name, _, role in pairs)


@click.command("extract-patches")
@slides_argument
@out_option
@click.option("--annotations", type=EXISTING_PATH, help="ASAP XML, or a folder with <slide>.xml files.")
@click.option(
    "--group",
    "groups",
    multiple=True,
    callback=_groups,
    metavar="NAME=tumour|exclude|ignore",
    help="Meaning of a group.",
)
@click.option("--level", type=click.IntRange(0, 0), help="0: read the slide's own pixels (the default).")
@click.option("--mpp", type=click.FloatRange(*MPP_LIMITS), metavar="X", help="µm per pixel of the patches.")
@click.option("--patch-size", default=512, show_default=True, type=click.IntRange(16), help="Side of a patch, pixels.")
@click.option(
    "--stride",
    type=click.IntRange(1),
    metavar="N",
    help="Step between patches, pixels [default: no overlap].",
)
@click.option(
    "--min-tissue",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Least tissue of a patch.",
)
@click.option("--min-tumour", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="From here on tumour.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Threads that cut patches.")
@slide_mpp_option
@existing_options
def command(
    slides: tuple[Path, ...],
    out: Path,
    annotations: Path | None,
    workers: int,
    existing: str | None,
    **options: Any,
) -> None:
    """Cut the tissue of every SLIDE into patches, with masks where there are annotations.

    Writes images, masks, patches.parquet (one row a patch) and run.json to --out.

    Example: wsi-maxmin extract-patches tumor_001.tif --annotations tumor_001.xml --out patches
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.extract_patches import ExtractSettings, extract_patches

    if options.pop("level") is not None and options["mpp"] is not None:
        raise click.UsageError("--level and --mpp exclude each other; give one")
    patch_px, stride_px = options.pop("patch_size"), options.pop("stride")
    settings = ExtractSettings(patch_px=patch_px, stride_px=stride_px, **options)
    progress = make_progress()
    finish(
        extract_patches(
            slides,
            out,
            annotations=annotations,
            settings=settings,
            existing=how(existing),
            workers=workers,
            progress=progress,
        )
    )
