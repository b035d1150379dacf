"""``wsi-maxmin configs``."""

import click


@click.command()
@click.argument("name", required=False)
@click.option("--set", "overrides", multiple=True, metavar="key.sub=value", help="Change a value of the config.")
def command(name: str | None, overrides: tuple[str, ...]) -> None:
    """List the bundled configs, or print NAME (a bundled one or a YAML file) with every default filled in.

    What is printed is a config itself, to start one of your own from.

    Example: wsi-maxmin configs glas/maxmin-sem --set encoder=efficientnet-lite0
    """
    import yaml

    from wsi_maxmin.config import EncoderConfig, list_configs, load_config

    if name is not None:
        resolved = load_config(name, overrides).model_dump(mode="json")
        click.echo(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=120), nl=False)
        return
    if overrides:
        raise click.UsageError("--set needs the NAME of a config to change")
    rows = [("name", "method", "encoder", "weights", "summary")]
    for found in list_configs():
        config = load_config(found)
        encoder = config.model.encoder
        # A bundled config that says nothing of an encoder is of a method that has none.
        trunk = ("–", "–") if encoder == EncoderConfig() else (encoder.name, encoder.weights.partition(":")[0])
        rows.append((found, config.model.name, *trunk, config.summary))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    for kind in ("dataset", "encoder"):
        names = ", ".join(path.partition("/")[2] for path in list_configs(kind))
        click.echo(f"{kind}: NAME or --set {kind}=NAME takes one of {names}", err=True)
