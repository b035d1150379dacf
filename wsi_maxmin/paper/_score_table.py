"""A published table of scores with those of finished runs beside it."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from wsi_maxmin.paper._differences import Rows, images_scored, what_differs
from wsi_maxmin.paper._protocol import Protocol, ScoreRow, load_scores
from wsi_maxmin.run_results import RunResult
from wsi_maxmin.tables import Cell, Column, Spread, Table

_SCORES = {"error": "error", "F1+": "f1_foreground", "F1−": "f1_background"}
_COLUMNS = (
    Column(title="row"),
    Column(title="seeds"),
    Column(title="scored on"),
    *(Column(title=title, spread=True) for title in _SCORES),
    Column(title="area", decimals=1),
    *(Column(title=f"paper: {title}") for title in _SCORES),
)


def score_table(name: str, protocol: Protocol, runs: Sequence[RunResult]) -> Table:
    """Set runs beside a published table: mean and deviation over the seeds of each row.

    Runs of a row that were scored on other images than the rest of them are a row of their own. A row without runs says
    so.

    Parameters
    ----------
    name : str
        Such as ``table1``.
    protocol : Protocol
    runs : sequence of RunResult
        Those that are no row of the table are left out.
    """
    published = load_scores(name)
    mine = {row: [run for run in runs if run.name == row.run] for row in published.rows}
    untrained = {ordered.run for ordered in protocol.order if not ordered.trained}
    rows = [cells for row, found in mine.items() for cells in _rows(row, found, row.run in untrained)]
    scored = {row.title: [run for run in found if run.scores] for row, found in mine.items()}
    return Table(
        name=name,
        title=f"Table {name.removeprefix('table')}: {published.title}",
        columns=_COLUMNS,
        rows=tuple(rows),
        legend=" ".join(filter(None, (_legend(protocol, scored), published.remark))),
        notes_title="What differs from the paper, by the settings of the runs:",
        notes=what_differs(scored, protocol) or ("Nothing was run.",),
    )


def _rows(row: ScoreRow, runs: Sequence[RunResult], untrained: bool) -> Iterable[tuple[Cell, ...]]:
    paper = (row.error, row.f1_foreground, row.f1_background)
    scored = [run for run in runs if run.scores]
    if not scored:
        yield (row.title, "not scored" if runs else "not run", None, None, None, None, None, *map(_number, paper))
    for split, count in sorted({images_scored(run) for run in scored}):
        group = [run for run in scored if images_scored(run) == (split, count)]
        scores = [_spread([run.scores[key] for run in group if run.scores]) for key in _SCORES.values()]
        areas = [run.scores["predicted_fraction"] for run in group if run.scores]
        area = 100 * fmean(areas) if None not in areas else None
        seeds = None if untrained else ", ".join(str(run.seed) for run in group)
        yield (row.title, seeds, f"{count} {split}", *scores, area, *map(_number, paper))


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _legend(protocol: Protocol, rows: Rows) -> str:
    truths = {
        f"{100 * run.scores['true_fraction']:.1f} in the truth of the {images_scored(run)[0]} images"
        for runs in rows.values()
        for run in runs
        if run.scores and run.scores.get("true_fraction") is not None
    }
    area = f"share of the pixels that the mask calls foreground{''.join(f', {truth}' for truth in sorted(truths))}"
    return (
        "Error, F1+, F1− and area in per cent, masks binarised at 0.5; ± is the sample standard deviation over the "
        f"seeds. Area: {area}. The paper's figures are of its {protocol.test_images:,} test images."
    )
