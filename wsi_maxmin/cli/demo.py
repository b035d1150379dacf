"""``wsi-maxmin demo``."""

from pathlib import Path

import click

from wsi_maxmin.cli._options import EXISTING_PATH, device_option


@click.command()
@click.option(
    "--out",
    default="wsi-maxmin-demo",
    show_default=True,
    type=EXISTING_PATH,
    help="Folder to write to; replaced.",
)
@device_option
def command(out: Path, device: str) -> None:
    """Map the tumour of the bundled slide with the bundled model, and say where to look.

    Example: wsi-maxmin demo --out demo
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.demo import demo

    result = demo(out, device=device, progress=make_progress())
    scores = result.scores
    click.echo(f"\nAgainst the pathologist's outline: Dice {scores.dice:.3f}, pixel AUC {scores.auc:.3f}")
    click.echo(f"  picture  {result.overview.resolve()}")
    click.echo(f"  heatmap  {result.heatmap.resolve()}")
    click.echo(f"  patches  {result.patches.resolve()}")
    click.echo("\nOpen the heatmap in a viewer:")
    click.echo(f"  browser: wsi-maxmin view {result.heatmap.resolve().parent}")
    click.echo(f"  napari:  pip install 'napari[all]' napari-ome-zarr && napari {result.heatmap.resolve()}")
    click.echo(f"  QuPath:  File > Open > {result.heatmap.resolve() / '.zattrs'} (QuPath 0.6 or later)")
