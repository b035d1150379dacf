"""``wsi-maxmin report``."""

from pathlib import Path

import click

from wsi_maxmin.cli._options import EXISTING_PATH


@click.command()
@click.argument("folder", type=EXISTING_PATH, metavar="DIR")
@click.option("--out", type=EXISTING_PATH, metavar="FILE", help="The page [DIR/report.html].")
@click.option("--overwrite", is_flag=True, help="Replace a page that is there.")
@click.option("--scores", type=EXISTING_PATH, metavar="DIR", help="evaluate-slides' --out for these heatmaps.")
@click.option("--title", metavar="TEXT", help="Title of the page [the folder's name].")
@click.option("--viewer-url", metavar="URL", help="Where `wsi-maxmin view DIR` serves these slides: links go there.")
def command(
    folder: Path, out: Path | None, overwrite: bool, scores: Path | None, title: str | None, viewer_url: str | None
) -> None:
    """Write one HTML page about a folder: summary, tables, curves, pictures, settings, versions.

    DIR is what train, infer-slide, stitch, evaluate or evaluate-slides wrote, or a folder of trainings; which of them,
    its files say. Everything is inside the page: it opens without a network, prints, and can be sent. Tables sort at
    their headers. Of heatmaps it shows every slide with its map, and the command that opens it in the viewer.

    \b
    Example: wsi-maxmin report heatmaps
    Scored:  wsi-maxmin report heatmaps --scores scores --title "Ward 7, April"
    Linked:  wsi-maxmin report heatmaps --viewer-url http://127.0.0.1:8765/ --overwrite
    """  # noqa: D301
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.report import write_report

    click.echo(
        write_report(
            folder,
            out=out,
            scores=scores,
            title=title,
            viewer_url=viewer_url,
            overwrite=overwrite,
            progress=make_progress(),
        )
    )
