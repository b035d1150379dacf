"""``wsi-maxmin export``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import EXISTING_PATH, FloatRange, existing_options, finish, formats_option, how


def _class_names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, str]:
    names = {}
    for pair in value.split(",") if value else ():
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and equals and theirs):
            raise click.BadParameter(f"got {pair!r}; expected CLASS=NAME, such as tumor=Metastasis")
        names[ours] = theirs
    return names


@click.command("export")
@click.argument("results", nargs=-1, required=True, type=EXISTING_PATH, metavar="RESULT...")
@formats_option("--to", required=True, help="Formats, separated by commas.")
@click.option("--threshold", type=FloatRange(0, 1), metavar="F", help="Of the tumour map, for regions [the model's].")
@click.option(
    "--min-area-um2",
    default=0.0,
    show_default=True,
    type=FloatRange(0),
    metavar="N",
    help="Leave out smaller regions, µm².",
)
@click.option(
    "--class-names",
    callback=_class_names,
    metavar="CLASS=NAME,...",
    help="What to call the model's classes [the positive one Tumor, of two the other Other].",
)
@click.option("--out", type=EXISTING_PATH, help="Write to <out>/<slide>/ [beside each heatmap].")
@existing_options
def command(
    results: tuple[Path, ...], to: tuple[str, ...], out: Path | None, existing: str | None, **options: Any
) -> None:
    """Write heatmaps of infer-slide in the formats of other programs.

    RESULT is the folder of a slide, or of a whole run. geojson and qupath hold regions and tiles for QuPath, csv the
    same as tables; ome-tiff all channels for Bio-Formats and QuPath, tiff the tumour channel for OpenSlide and ASAP;
    png coloured pictures.

    Example: wsi-maxmin export heatmaps/tumor_001 --to geojson,ome-tiff
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.export import ExportSettings, export_results

    settings = ExportSettings(**options)
    progress = make_progress()
    finish(export_results(results, to, settings=settings, out=out, existing=how(existing), progress=progress))
