"""``wsi-maxmin reproduce``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import EXISTING_PATH, FloatRange, device_option, out_option
from wsi_maxmin.paper import PROTOCOLS


def _words(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip())) if value else None


def _seeds(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    words = [word.strip() for word in value.split(",")]
    if not all(word.isdecimal() for word in words):
        raise click.BadParameter(f"got {value!r}; expected whole numbers, such as 0,1,2")
    return tuple(dict.fromkeys(map(int, words)))


@click.command()
@click.argument("name", type=click.Choice(PROTOCOLS))
@click.option("--data", type=EXISTING_PATH, help="Folder of the data; needed unless --tables-only.")
@out_option
@click.option("--runs", multiple=True, type=EXISTING_PATH, help="Finished runs elsewhere, used as they are.")
@click.option("--rows", callback=_words, metavar="ROW,ROW", help="Run these rows only.  [default: all]")
@click.option("--seeds", default="0,1,2", show_default=True, callback=_seeds, metavar="N,N", help="Seeds of each row.")
@click.option("--set", "overrides", multiple=True, metavar="key.sub=value", help="Change a value of every config.")
@click.option("--split", type=click.Choice(["valid", "test"]), help="Scored images.  [default: test, if --data has it]")
@click.option(
    "--label-source", type=click.Choice(["true", "predicted"]), help="As of evaluate.  [default: the paper's]"
)
@click.option("--max-minutes", type=FloatRange(0, min_open=True), help="Begin no epoch that would end later.")
@click.option("--tables-only", is_flag=True, help="Train nothing; write tables of what is there.")
@click.option("--time-inference/--no-time-inference", default=None, help="Measure Table 3.  [default: if missing]")
@click.option("--dry-run", is_flag=True, help="Print each run, its state and the time it takes; write nothing.")
@device_option
def command(name: str, data: Path | None, out: Path, runs: tuple[Path, ...], dry_run: bool, **settings: Any) -> None:
    """Train and score what is missing of the paper's tables, and write them with its figures beside ours.

    `glas` gives Tables 1, 3 and 4, `camelyon16-p512` Tables 2 and 3, as Markdown, CSV and LaTeX. Repeat the command to
    go on; what is done is skipped. A row is a config of the same name.

    Example: wsi-maxmin reproduce glas --data glas --out reproduced --set encoder=efficientnet-lite0 --dry-run
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.reproduce import ReproduceSettings, Reproduction

    if data is None and not settings["tables_only"]:
        raise click.UsageError("--data is needed to train; --tables-only does without")
    work = Reproduction(name, data, out, runs=runs, settings=ReproduceSettings(**settings), progress=make_progress())
    if dry_run:
        planned, table = work.plan()
        click.echo(table)
        click.get_current_context().exit(int(any(plan.why for plan in planned)))
    result = work.run()
    for outcome in result.outcomes:
        click.echo(f"{outcome.name:20}  {outcome.status:8}  {outcome.why}".rstrip())
    click.echo(result.report)
    if result.log is not None:
        click.echo(f"tracebacks: {result.log}", err=True)
        click.get_current_context().exit(1)
