"""``wsi-maxmin extract-patches``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin import formats, protocols, stores
from wsi_maxmin.cli._options import (
    EXISTING_PATH,
    FloatRange,
    existing_options,
    finish,
    group_option,
    hash_option,
    how,
    out_option,
    overrides_option,
    region_option,
    sources_argument,
    tissue_masks_option,
)
from wsi_maxmin.geometry import MPP_LIMITS

_CAMELYON16 = "camelyon16"


def _partly(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    from wsi_maxmin.extraction import CAMELYON16_PARTLY

    if value in (_CAMELYON16, "none"):
        return CAMELYON16_PARTLY if value == _CAMELYON16 else ()
    try:
        return tuple(Path(value).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"got {value!r} ({error}); expected a file of slide names") from None


@click.command("extract-patches")
@sources_argument
@out_option
@click.option("--annotations", type=EXISTING_PATH, help="ASAP XML or QuPath GeoJSON, or a folder of <slide>.xml.")
@click.option("--masks", type=EXISTING_PATH, help="Mask TIFF instead, or a folder of <slide>_mask.tif.")
@group_option
@click.option(
    "--no-annotation",
    "without_annotation",
    default="unlabelled",
    show_default=True,
    type=click.Choice(("unlabelled", "normal")),
    help="What a slide without annotation is.",
)
@click.option(
    "--partly-annotated",
    default=_CAMELYON16,
    show_default=True,
    callback=_partly,
    metavar="camelyon16|none|FILE",
    help="Slides on which no outline does not mean no tumour.",
)
@tissue_masks_option
@region_option("Only patches inside")
@click.option(
    "--protocol",
    default="grid",
    show_default=True,
    type=click.Choice(protocols.plugins.names()),
    help="Which patches: all tissue, the P512 sampling, or those of --list.",
)
@click.option("--list", "lists", multiple=True, type=EXISTING_PATH, help="CSV of patches for p512-list.")
@click.option(
    "--patch-size", "patch_px", default=512, show_default=True, type=click.IntRange(16), help="Side of a patch, pixels."
)
@click.option(
    "--stride",
    "stride_px",
    type=click.IntRange(1),
    metavar="N",
    help="Step between patches, pixels [default: no overlap].",
)
@click.option("--level", type=click.IntRange(0, 0), help="0: the slide's own pixels (the default).")
@click.option("--mpp", type=FloatRange(*MPP_LIMITS), metavar="X", help="µm per pixel of the patches.")
@click.option("--min-tissue", default=0.1, show_default=True, type=FloatRange(0, 1), help="Least tissue of a patch.")
@click.option("--min-tumour", default=0.2, show_default=True, type=FloatRange(0, 1), help="From here on tumour.")
@click.option(
    "--format",
    default="png",
    show_default=True,
    type=click.Choice(formats.plugins.names()),
    help="raw-jpeg copies the slide's own tiles; none writes no images.",
)
@click.option("--jpeg-quality", default=90, show_default=True, type=click.IntRange(1, 100), help="Of --format jpeg.")
@click.option(
    "--store",
    default="files",
    show_default=True,
    type=click.Choice(stores.plugins.names()),
    help="One file each, or WebDataset tar shards.",
)
@click.option("--shard-patches", default=512, show_default=True, type=click.IntRange(1), help="Patches a shard.")
@click.option("--splits", metavar="CSV|kfold", help="CSV slide,split[,patient_id], or folds.")
@click.option("--folds", default=5, show_default=True, type=click.IntRange(2), help="Of --splits kfold.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of p512's sampling and of folds.")
@click.option(
    "--slide-mpp",
    type=FloatRange(*MPP_LIMITS),
    metavar="X",
    help="µm per level-0 pixel, for slides that do not say.",
)
@overrides_option
@hash_option
@click.option("--preview/--no-preview", default=True, show_default=True, help="A picture a slide.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes [default: one a core].")
@click.option("--dry-run", is_flag=True, help="Only say how many patches, how much disk and how long.")
@existing_options
def command(
    slides: tuple[str, ...], out: Path, existing: str | None, workers: int | None, dry_run: bool, **options: Any
) -> None:
    """Cut SLIDES into patches, with masks and labels where there are annotations.

    SLIDES are files, folders, URLs or CSV lists (slide[,slide_id][,patient_id][,mpp]). Writes images, masks,
    patches.parquet (one row a patch), previews, slides.csv and run.json to --out.

    \b
    Example: wsi-maxmin extract-patches slides/ --annotations xml/ --out patches
    Fast:    wsi-maxmin extract-patches slides/ --out patches --format raw-jpeg --store shard
    P512:    wsi-maxmin extract-patches slides/ --annotations xml/ --no-annotation normal --protocol p512 --out p512
    """  # noqa: D301
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.extract_patches import extract_patches
    from wsi_maxmin.pipelines.plan_patches import plan_patches

    inputs, settings = _read(slides, options)
    if dry_run:
        dry = plan_patches(inputs, settings=settings, workers=workers, progress=make_progress())
        click.echo(dry.table())
        click.get_current_context().exit(int(dry.failed))
    finish(
        extract_patches(
            inputs, out, settings=settings, existing=how(existing), workers=workers, progress=make_progress()
        )
    )


def _read(slides: tuple[str, ...], options: dict[str, Any]) -> tuple[Any, Any]:
    """Turn options into inputs and settings."""
    from wsi_maxmin.extract_inputs import ExtractInputs
    from wsi_maxmin.extraction import ExtractSettings

    if options.pop("level") is not None and options["mpp"] is not None:
        raise click.UsageError("--level and --mpp exclude each other; give one")
    if bool(options["lists"]) != (options["protocol"] == "p512-list"):
        raise click.UsageError("--list and --protocol p512-list belong together; give both or neither")
    splits, folds = options.pop("splits"), options.pop("folds")
    names = ("annotations", "masks", "tissue_masks", "lists", "overrides", "slide_mpp")
    inputs = ExtractInputs(
        slides=slides,
        splits=Path(splits) if splits not in (None, "kfold") else None,
        folds=folds if splits == "kfold" else None,
        **{name: options.pop(name) for name in names},
    )
    return inputs, ExtractSettings(**options)
