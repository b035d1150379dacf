"""How time and memory of `infer-slide` grow with the area of tissue and the number of workers."""

import argparse
import contextlib
import csv
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from peers._race import OURS, Contender, run

WORKERS = (1, 2)
OPTIONS = ("--engine", "openvino", "--precision", "bf16", "--scheduler", "processes", "--workers")
COLOURS = {1: "#440154", 2: "#21918c"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run: as many cores as workers; seconds from start to end, memory of all processes together."""

    tissue: int
    workers: int
    round: int
    tiles: int
    seconds: float
    peak_mb: float


def measure_growth(slides: Mapping[int, Path], model: Path, arguments: argparse.Namespace, work: Path) -> list[Row]:
    """Run every slide with every number of workers in turn, round after round; a first run warms up.

    Parameters
    ----------
    slides : mapping
        Of how many times the least tissue, to the slide.
    model : Path
    arguments : argparse.Namespace
    work : Path
    """
    pairs = [(times, workers) for times in slides for workers in WORKERS]
    rows = []
    for turn in range(-1, arguments.growth_rounds):
        for times, workers in pairs if turn >= 0 else pairs[:1]:
            command = ("infer_ours.py", str(slides[times]), "{out}", str(model), str(arguments.batch))
            one = Contender(name=f"{workers} workers", kind=OURS, command=(*command, *OPTIONS, str(workers)))
            with cores(workers):
                said = run(one, arguments.peers, work, sample_s=1)
            if said is None:
                print(f"growth: {times}× tissue, {workers} workers: {one.error}", flush=True)
                continue
            row = Row(
                tissue=times,
                workers=workers,
                round=turn,
                tiles=said["tiles"],
                seconds=round(said["wall"], 2),
                peak_mb=round(one.peak_mb or 0),
            )
            print(f"growth: {row}", flush=True)
            rows += [row] if turn >= 0 else []
    return rows


@contextlib.contextmanager
def cores(count: int) -> Iterator[None]:
    """Keep to the first so many of the cores that this process may use, as do the processes that it starts."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before, threads = os.sched_getaffinity(0), os.environ.get("OMP_NUM_THREADS")
    os.sched_setaffinity(0, sorted(before)[:count])
    os.environ.pop("OMP_NUM_THREADS", None)  # the workers share the cores out
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        if threads:
            os.environ["OMP_NUM_THREADS"] = threads


def write_growth(rows: Sequence[Row], table: Path, picture: Path) -> None:
    """Write the runs as CSV, and medians with lowest and highest as a picture."""
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2), ("seconds", "peak_mb"), ("seconds, start included", "peak memory, MB"), strict=True
    ):
        for workers in sorted({row.workers for row in rows}):
            _draw(axes, [row for row in rows if row.workers == workers], name)
        axes.set(xlabel="tissue tiles of 512 px", ylabel=label, xlim=(0, None), ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(picture)


def _draw(axes: Axes, rows: Sequence[Row], name: str) -> None:
    values: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row.tiles):
        values.setdefault(row.tiles, []).append(getattr(row, name))
    middle = [statistics.median(some) for some in values.values()]
    below, above = zip(
        *((m - min(some), max(some) - m) for m, some in zip(middle, values.values(), strict=True)), strict=True
    )
    workers = rows[0].workers
    label = "1 worker on 1 core" if workers == 1 else f"{workers} workers on {workers} cores"
    axes.errorbar(
        list(values), middle, yerr=(below, above), marker="o", capsize=3, color=COLOURS.get(workers), label=label
    )
