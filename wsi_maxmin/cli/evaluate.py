"""``wsi-maxmin evaluate``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import EXISTING_PATH, FloatRange, data_option, device_option
from wsi_maxmin.data._samples import Split

_PICTURES = 24


@click.command()
@click.argument("model")
@data_option
@click.option("--split", default="valid", show_default=True, type=click.Choice(["train", "valid", "test"]))
@click.option("--out", type=EXISTING_PATH, help="Folder for scores, tables and pictures.")
@click.option(
    "--label-source",
    default="predicted",
    show_default=True,
    type=click.Choice(["predicted", "true"]),
    help="Class whose mask is taken, for methods with a mask a class.",
)
@click.option(
    "--threshold",
    default=0.5,
    show_default=True,
    type=FloatRange(0, 1),
    help="Foreground is where the soft mask is at least this.",
)
@click.option("--pictures", metavar="N|all|none", help=f"Images to draw, worst and best.  [default: {_PICTURES}]")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1), help="Most images a pass.")
@click.option("--workers", type=click.IntRange(0), help="Processes that read images.  [default: the model's own]")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change how the data are read (data.key), or σ and ω of Max-Min (model.params.sigma).",
)
@device_option
def command(
    model: str,
    data: Path,
    split: Split,
    out: Path | None,
    pictures: str | None,
    overrides: tuple[str, ...],
    device: str,
    **settings: Any,
) -> None:
    """Score MODEL: classification error, F1+ and F1− of its masks, and what they would be at other thresholds.

    MODEL is a bundled name, a run folder or a file, or the config of a method that has nothing to learn. Samples
    without ground truth count for the error alone.

    Example: wsi-maxmin evaluate runs/glas --data glas --split valid --out scores
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.evaluate import EvaluateSettings, evaluate_model

    if pictures not in (None, "none", "0") and out is None:
        raise click.UsageError("--pictures needs --out, a folder to draw them in")
    scores = evaluate_model(
        model,
        data,
        split,
        out=out,
        overrides=overrides,
        device=device,
        settings=EvaluateSettings(pictures=_count(pictures), **settings),
        progress=make_progress(),
    )
    width = max(map(len, scores))
    for name, value in scores.items():
        click.echo(f"{name:{width}}  {_shown(value)}")


def _count(pictures: str | None) -> int | None:
    """Return how many pictures are asked for; None means all."""
    if pictures is None:
        return _PICTURES
    if pictures in ("all", "none"):
        return None if pictures == "all" else 0
    if not pictures.isdecimal():
        raise click.BadParameter(f"got {pictures!r}; expected a number, all or none", param_hint="--pictures")
    return int(pictures)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
