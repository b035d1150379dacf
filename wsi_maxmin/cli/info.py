"""``wsi-maxmin info``."""

import json
from pathlib import Path

import click

from wsi_maxmin.cli._options import EXISTING_PATH, slide_mpp_option


@click.command()
@click.argument("slide", type=EXISTING_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@slide_mpp_option
def command(slide: Path, as_json: bool, slide_mpp: float | None) -> None:
    """Show size, levels, µm per pixel and tissue of SLIDE.

    Example: wsi-maxmin info tumor_001.tif
    """
    from wsi_maxmin.pipelines.info import slide_facts

    facts = slide_facts(slide, slide_mpp=slide_mpp)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:{width}}  {value}")
