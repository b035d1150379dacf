"""``wsi-maxmin review``."""

from pathlib import Path

import click

from wsi_maxmin.cli._options import EXISTING_PATH, FloatRange, finish


@click.command()
@click.argument("results", nargs=-1, required=True, type=EXISTING_PATH, metavar="RESULT...")
@click.option("--count", default=6, show_default=True, type=click.IntRange(1), help="Regions for each reason, at most.")
@click.option("--side-um", default=256.0, show_default=True, type=FloatRange(8), help="Side of a region, µm.")
@click.option("--threshold", type=FloatRange(0, 1), metavar="X", help="Of tumour and its contours [the model's].")
@click.option("--slide", metavar="PATH", help="The slide of the one RESULT, where it has moved [as in slides.csv].")
@click.option("--out", type=EXISTING_PATH, help="Folder to write to [beside the heatmap].")
def command(
    results: tuple[Path, ...],
    count: int,
    side_um: float,
    threshold: float | None,
    slide: str | None,
    out: Path | None,
) -> None:
    """List what to look at first: the regions of the highest tumour, and the most uncertain ones.

    RESULT is the folder of a slide, or of a whole run. Each slide gets review.csv, review.geojson for QuPath, and
    review.png, a sheet of the regions with scale bars.

    Example: wsi-maxmin review heatmaps/tumor_001
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.review import ReviewSettings, review_results

    finish(
        review_results(
            results,
            settings=ReviewSettings(count=count, side_um=side_um),
            out=out,
            slide=slide,
            threshold=threshold,
            progress=make_progress(),
        )
    )
