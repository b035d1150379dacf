"""Options that several commands share, each defined once."""

import math
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click

from wsi_maxmin.blends import plugins as blends
from wsi_maxmin.cohort import CohortResult, Existing, Status
from wsi_maxmin.exports import plugins as exports
from wsi_maxmin.geometry import MPP_LIMITS

F = TypeVar("F", bound=Callable[..., Any])
_ROLES = ("tumour", "exclude", "ignore")

EXISTING_PATH = click.Path(path_type=Path)


class FloatRange(click.FloatRange):
    """A finite number within limits: click's own takes nan, and inf where there is no upper one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"got {value}; expected a finite number", param, ctx)
        return number


slides_argument = click.argument("slides", nargs=-1, required=True, type=EXISTING_PATH, metavar="SLIDE...")
out_option = click.option("--out", required=True, type=EXISTING_PATH, help="Folder to write to.")
data_option = click.option("--data", required=True, type=EXISTING_PATH, help="Folder of the data.")
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|mps", help="Where the model runs."
)
slide_mpp_option = click.option(
    "--slide-mpp",
    type=FloatRange(*MPP_LIMITS),
    metavar="X",
    help="µm per level-0 pixel, for slides that do not say (0.25 is a usual 40× scan).",
)


sources_argument = click.argument("slides", nargs=-1, required=True, metavar="SLIDES...")


def _region(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    from wsi_maxmin.geometry import Box

    try:
        x, y, width, height = (int(part) for part in value.split(","))
        return Box(x=x, y=y, width=width, height=height)
    except ValueError:
        raise click.BadParameter(f"got {value!r}; expected X,Y,WIDTH,HEIGHT in whole level-0 pixels") from None


def region_option(which: str) -> Callable[[F], F]:
    """Return ``--region``, given to the command as a Box; `which` says what of it is done."""
    return click.option("--region", callback=_region, metavar="X,Y,W,H", help=f"{which}, level-0 pixels.")


def _groups(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    pairs = [value.rpartition("=") for value in values]
    for value, (name, _, role) in zip(values, pairs, strict=True):
        if not name or role not in _ROLES:
            raise click.BadParameter(f"got {value!r}; expected NAME=tumour, NAME=exclude or NAME=ignore")
    return tuple((name, role) for name, _, role in pairs)


group_option = click.option(
    "--group",
    "groups",
    multiple=True,
    callback=_groups,
    metavar="NAME=ROLE",
    help="Meaning of a group: tumour, exclude or ignore.",
)
tissue_masks_option = click.option(
    "--tissue-masks", type=EXISTING_PATH, help="Folder of <slide>.png or .tif, instead of finding tissue."
)
overrides_option = click.option(
    "--overrides", type=EXISTING_PATH, help="CSV slide,mpp: µm per level-0 pixel of single slides."
)
hash_option = click.option(
    "--hash-slide-ids", is_flag=True, help="Name slides by a hash; slides.csv alone has the names."
)


def existing_options(function: F) -> F:
    """Add ``--resume`` and ``--overwrite``, given to the command as ``existing``."""

    @wraps(function)
    def command(*args: Any, resume: bool, overwrite: bool, **options: Any) -> Any:
        if resume and overwrite:
            raise click.UsageError("--resume and --overwrite exclude each other; give one")
        return function(*args, existing="resume" if resume else "overwrite" if overwrite else None, **options)

    flags = click.option("--resume", is_flag=True, help="Continue what is in --out.")(command)
    return cast("F", click.option("--overwrite", is_flag=True, help="Replace what is in --out.")(flags))


def map_options(function: F) -> F:
    """Add the options that say how tile maps become a heatmap."""
    for option in reversed(
        (
            click.option(
                "--blend",
                default="hann",
                show_default=True,
                metavar="|".join(blends.names()),
                help="Rule for overlapping tiles.",
            ),
            click.option(
                "--heatmap-mpp",
                type=FloatRange(0, min_open=True),
                metavar="X",
                help="µm per heatmap pixel, taken to a power of two times the slide's [at most 2].",
            ),
            click.option(
                "--ngff",
                type=click.Choice(("0.4", "0.5")),
                default="0.4",
                show_default=True,
                help="Version of OME-Zarr; 0.4 opens everywhere.",
            ),
        )
    ):
        function = option(function)
    return function


def _formats(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(","))) if value else ()
    for name in names:
        if name not in exports.names():
            raise click.BadParameter(f"got {name!r}; expected some of {', '.join(exports.names())}")
    return names


def formats_option(option: str, **attributes: Any) -> Callable[[F], F]:
    """Return an option that takes names of exports separated by commas."""
    return click.option(option, callback=_formats, metavar="|".join(exports.names()), **attributes)


def how(existing: str | None) -> Existing:
    """Return what to do with an earlier run; without an option it is refused."""
    return existing or "refuse"  # type: ignore[return-value]  # click gives the flag values above


def finish(result: CohortResult) -> None:
    """Print what became of each slide, and where the tracebacks are, and exit with the run's code."""
    if result.exit_code == 2:
        for outcome in result.outcomes:
            click.echo(f"error: {outcome.why}", err=True)
        click.get_current_context().exit(2)
    width = max(len(outcome.slide_id) for outcome in result.outcomes)
    for outcome in result.outcomes:
        seconds = f"{outcome.seconds:8.1f} s" if outcome.status == "done" else ""
        click.echo(f"{outcome.slide_id:{width}}  {outcome.status:8}{seconds:10}  {outcome.why}".rstrip())
    if len(result.outcomes) > 1:
        counts = Counter(outcome.status for outcome in result.outcomes)
        click.echo(", ".join(f"{counts[status]} {status}" for status in get_args(Status) if counts[status]))
    if result.log is not None:
        click.echo(f"tracebacks: {result.log}", err=True)
    click.get_current_context().exit(result.exit_code)
