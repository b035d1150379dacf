"""Draw the paper's figures from what finished trainings left."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wsi_maxmin.errors import InputError, MissingResultsError
from wsi_maxmin.figures import by_number, sweeps
from wsi_maxmin.figures._results import Results
from wsi_maxmin.figures._style import look, save
from wsi_maxmin.pipelines._figure_models import evaluate_again, look_at
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.run_results import read_runs
from wsi_maxmin.runinfo import write_json

FACTS = "figures.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFigure:
    """What became of a figure.

    Attributes
    ----------
    number : str
        In the paper.
    shows : str
    files : tuple of str
        In the folder of figures; none where its results are missing.
    missing : tuple of str
        What is missing of it, and which command makes that.
    """

    number: str
    shows: str
    files: tuple[str, ...]
    missing: tuple[str, ...]


def draw_figures(
    folders: Sequence[Path],
    out: Path,
    *,
    only: Sequence[str] | None = None,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    sweep: bool = False,
    dpi: int = 300,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[DrawnFigure]:
    """Draw figures as PDF and PNG, and write what each was drawn from to ``figures.json``.

    A figure whose results are missing is left out, and what is returned of it names the command that makes them.

    Parameters
    ----------
    folders : sequence of Path
        As `read_runs` takes them; none are needed for Fig. 3.
    out : Path
        Folder to write to.
    only : sequence of str, optional
        Numbers of the figures; by default all.
    data : Path, optional
        Folder of the data: for pictures, and for `sweep`.
    overrides : sequence of str
        How it is read, ``data.key=value``, if the scores were made so.
    sweep : bool
        First score the model of the Max-Min SEM run again at other values of σ and of ω, into ``sweeps`` of its folder;
        without such a model Fig. 10 lacks them.
    dpi : int
        Of the PNG.
    device : str

    Raises
    ------
    InputError
        If a number is no figure's, a file of a run is damaged, or there are no data to sweep.
    """
    modules, progress = by_number(), progress or Quiet()
    numbers = list(modules) if only is None else list(dict.fromkeys(only))
    if unknown := [number for number in numbers if number not in modules]:
        raise InputError("no such figure", got=", ".join(unknown), expected=f"some of {', '.join(modules)}")
    unswept = ""
    if sweep:
        try:
            evaluate_again(read_runs(folders), data, overrides=overrides, device=device, progress=progress)
        except MissingResultsError as error:
            unswept = str(error)
            progress.say(f"nothing was scored again: {unswept}")
    results = Results(
        runs=read_runs(folders),
        look=None if data is None else partial(look_at, data, overrides=overrides, device=device, progress=progress),
    )
    out.mkdir(parents=True, exist_ok=True)
    drawn: list[DrawnFigure] = []
    facts: dict[str, dict[str, Any]] = {}
    with progress.track("figures", len(numbers), unit="figure") as advance, look():
        for number in numbers:
            module = modules[number]
            lacks = (unswept,) if unswept and module is sweeps else ()
            files: list[str] = []
            try:
                drawing = module.draw(number, results)
            except MissingResultsError as error:
                missing: tuple[str, ...] = lacks or (str(error),)
                facts[number] = {"missing": missing[0]}
            else:
                files = save(drawing.figure, out / f"figure-{number.lower().replace('.', '')}", dpi)
                missing = (*drawing.left_out, *lacks)
                facts[number] = {"shows": module.FIGURES[number], "files": files, **drawing.facts, "left_out": missing}
            drawn.append(DrawnFigure(number=number, shows=module.FIGURES[number], files=tuple(files), missing=missing))
            advance()
    write_json(out / FACTS, facts)
    return drawn
