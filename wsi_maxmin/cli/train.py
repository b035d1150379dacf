"""``wsi-maxmin train``."""

from pathlib import Path

import click

from wsi_maxmin.cli._options import data_option, device_option, existing_options, how, out_option


@click.command()
@click.argument("config")
@data_option
@out_option
@click.option("--set", "overrides", multiple=True, metavar="key.sub=value", help="Change a value of the config.")
@device_option
@existing_options
def command(config: str, data: Path, out: Path, overrides: tuple[str, ...], device: str, existing: str | None) -> None:
    """Train a model from image-level labels, as CONFIG (a bundled name or a YAML file) says.

    Data are checked first. Writes model.safetensors (best epoch on validation), last.safetensors (to resume),
    metrics.jsonl, config.yaml and run.json to --out. Ground-truth masks are opened only for a method that learns from
    them (u-net). Several GPUs: --set training.devices=N, or torchrun.

    Example: wsi-maxmin train camelyon16-demo/maxmin-sem --data patches256 --out runs/demo
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.train import train_model

    result = train_model(
        config,
        data,
        out,
        overrides=overrides,
        device=device,
        existing=how(existing),
        progress=make_progress(),
    )
    if result is None:
        return
    if result.stopped:
        click.echo(f"stopped after epoch {result.done}, for want of time; --resume continues")
    scores = {"validation accuracy": result.accuracy, "mean of F1+ and F1− on validation": result.f1}
    named = [f"{name} {score:.2f} %" for name, score in scores.items() if score is not None]
    click.echo(f"best epoch {result.epoch}: {', '.join(named) or 'the last, for want of a score on validation'}")
    click.echo(result.model)
