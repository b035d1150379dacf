"""``wsi-maxmin figures``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import EXISTING_PATH, device_option, out_option


def _numbers(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [number.strip().upper() for number in value.split(",")]


@click.command()
@click.argument("runs", nargs=-1, type=EXISTING_PATH, metavar="[RUNS]...")
@out_option
@click.option(
    "--only", callback=_numbers, metavar="3,5,B.1", help="Figures by their number in the paper.  [default: all]"
)
@click.option("--data", type=EXISTING_PATH, help="Folder of the data, for pictures and --sweep.")
@click.option("--set", "overrides", multiple=True, metavar="data.key=value", help="As the scores were made with.")
@click.option("--sweep", is_flag=True, help="First score the Max-Min SEM model again at other σ and ω, for Fig. 10.")
@click.option("--dpi", default=300, show_default=True, type=click.IntRange(50, 1200), help="Of the PNG.")
@device_option
def command(runs: tuple[Path, ...], out: Path, only: list[str] | None, **options: Any) -> None:
    """Draw the figures of the paper from the results of RUNS, each as PDF and PNG.

    RUNS are folders of trainings with their scores, folders of such folders, the folder of `reproduce`, or one with
    runs.json. A figure whose results are missing is left out, and the command that makes them is printed; with --only
    that is an error.

    Example: wsi-maxmin figures runs --out figures --data glas --only 5,7,9
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.figures import draw_figures

    drawn = draw_figures(runs, out, only=only, progress=make_progress(), **options)
    for figure in drawn:
        click.echo(f"{figure.number:>3}  {' '.join(figure.files) or 'not drawn':34}  {figure.shows}")
    for figure in drawn:
        for what in figure.missing:
            click.echo(f"figure {figure.number}: {'left out: ' if figure.files else ''}{what}", err=True)
    absent = [figure.number for figure in drawn if not figure.files]
    if absent and (only is not None or len(absent) == len(drawn)):
        click.get_current_context().exit(2)
