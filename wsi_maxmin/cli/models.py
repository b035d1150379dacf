"""``wsi-maxmin models``."""

import json

import click


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str | None, as_json: bool) -> None:
    """List the bundled models, or check MODEL (a bundled name, a run folder or a file) and show its facts.

    The check loads the weights, builds the network, and runs it on a white tile. Nothing in the file is executed.

    Example: wsi-maxmin models camelyon16-demo
    """
    from wsi_maxmin.pipelines.models import bundled_models, check_model

    found = bundled_models() if model is None else check_model(model)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for facts in found if isinstance(found, list) else [found]:
        width = max(map(len, facts))
        for name, value in facts.items():
            said = ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else value
            click.echo(f"{name:{width}}  {said}")
        click.echo()
