"""``wsi-maxmin check``."""

from collections import Counter
from pathlib import Path

import click

from wsi_maxmin.cli._options import EXISTING_PATH


@click.command()
@click.argument("results", nargs=-1, required=True, type=EXISTING_PATH, metavar="RESULT...")
@click.option("--slide", metavar="PATH", help="The slide of the one RESULT, where it has moved [as in slides.csv].")
@click.option("-q", "--quiet", is_flag=True, help="Show only what failed.")
def command(results: tuple[Path, ...], slide: str | None, quiet: bool) -> None:
    """Check whether heatmaps of infer-slide are whole, valid, and registered on their slides.

    RESULT is the folder of a slide, or of a whole run. The exit code is 1 if a check failed.

    Example: wsi-maxmin check heatmaps/tumor_001
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.check import check_results

    checks = check_results(results, slide=slide, progress=make_progress())
    names = Counter(check.folder.name for check in checks)
    for check in checks:
        shown = check.folder if names[check.folder.name] > 1 else check.folder.name
        click.echo(f"{shown}: {'good' if check.good else 'FAILED'}")
        for finding in check.findings:
            if quiet and finding.status != "FAILED":
                continue
            click.echo(f"  {finding.part:10}  {finding.what:14}  {finding.status:11}  {finding.why}")
            if finding.remedy:
                click.echo(f"  {'':10}  {'':14}  {'remedy':11}  {finding.remedy}")
    click.get_current_context().exit(int(not all(check.good for check in checks)))
