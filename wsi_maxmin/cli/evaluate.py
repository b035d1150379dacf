"""``wsi-maxmin evaluate``."""

from pathlib import Path

import click

from wsi_maxmin.cli._options import EXISTING_PATH, data_option, device_option
from wsi_maxmin.data._samples import Split


@click.command()
@click.argument("model")
@data_option
@click.option("--split", default="valid", show_default=True, type=click.Choice(["train", "valid", "test"]))
@click.option("--out", type=EXISTING_PATH, help="Folder for scores.json and images.csv.")
@click.option("--set", "overrides", multiple=True, metavar="data.key=value", help="Change how the data are read.")
@device_option
def command(model: str, data: Path, split: Split, out: Path | None, overrides: tuple[str, ...], device: str) -> None:
    """Score MODEL (a bundled name, a run folder or a file): classification error, F1+ and F1− of its masks.

    Samples without ground truth count for the error alone.

    Example: wsi-maxmin evaluate runs/glas --data glas --split valid --out scores
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.evaluate import evaluate_model

    scores = evaluate_model(model, data, split, out=out, overrides=overrides, device=device, progress=make_progress())
    width = max(map(len, scores))
    for name, value in scores.items():
        click.echo(f"{name:{width}}  {value:.2f}" if isinstance(value, float) else f"{name:{width}}  {value}")
