"""Time one model over a slide in this program and in others, and beside them the model alone.

Writes itself slides like Camelyon16's and a ResNet-18 of random weights, which says nothing about tissue but takes as
long as any. Everything runs in turn, round after round, each program as a process of its own on the same cores, with
the same batch and without overlap; all read full resolution in tiles of 512 that lie on the slide's own. Each finds
tissue by its own rule: its seconds are divided by the tiles that it says it ran. The first round warms up on a slide of
little tissue, the second measures that slide, and what a program takes for it is what starting costs: "without start"
is the rate of the tiles by which the slides differ.

    python benchmarks/infer.py --install-peers --work /dev/shm/infer
    python benchmarks/infer.py --only growth --work /dev/shm/infer
    python benchmarks/infer.py --quick
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _infer_growth import measure_growth, write_growth
from _infer_inputs import CACHE, calibrate, make_model, make_slide
from _machine import cpu_name
from peers._race import LIMIT, OURS, PEER, Contender, run
from peers._venvs import HOME, INFERRING, install, version_of

from wsi_maxmin import __version__
from wsi_maxmin.engines import plugins

RESULTS = Path(__file__).resolve().parent / "results"
PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
OWN = ("numpy", "onnxruntime", "openvino", "torch", "torchvision")
QUICK = {"side": 8192, "levels": 5, "tissue": 0.06, "rounds": 1, "growth_rounds": 1, "growth": [1, 4], "bare_tiles": 8}
SMALL = 4  # times less tissue has the slide that shows what starting costs


@dataclass(kw_only=True)
class Entrant(Contender):
    """A contender that is timed on two slides; `rates` are of all its seconds, of a limit without its start.

    Attributes
    ----------
    by, small_by : str
        Engine and precision, as it says; with few tiles it may choose others.
    small, large : (tiles, seconds) or None
        Of the slide with little tissue and of the other; medians.
    """

    by: str = ""
    small_by: str = ""
    small: tuple[int, float] | None = None
    large: tuple[int, float] | None = None

    @property
    def without_start(self) -> float | None:
        """Tiles a second, start excluded."""
        if self.kind == LIMIT:
            return statistics.median(self.rates) if self.rates else None
        if self.small is None or self.large is None or self.small_by != self.by or self.large[1] <= self.small[1]:
            return None
        return (self.large[0] - self.small[0]) / (self.large[1] - self.small[1])


def entrants(model: Path, arguments: argparse.Namespace) -> list[Entrant]:
    """Return who runs; `{slide}` in a command is the slide."""
    rest = ("{slide}", "{out}", str(model), str(arguments.batch))
    loaders = str(arguments.threads if arguments.loaders is None else arguments.loaders)
    precisions = plugins.load("openvino").PRECISIONS["cpu"]
    bare = {"torch, TorchScript": ("script", "fp32")} | {f"openvino, {p}": ("openvino", p) for p in precisions}
    ours = {f"openvino, {p}": ("--engine", "openvino", "--precision", p) for p in precisions} | {"auto": ()}
    count = str(arguments.bare_tiles)
    found = [
        Entrant(name=f"model alone: {name}", kind=LIMIT, command=("infer_bare.py", *rest, *engine, count))
        for name, engine in bare.items()
    ]
    found += [
        Entrant(name=f"wsi-maxmin, {name}", kind=OURS, command=("infer_ours.py", *rest, *options))
        for name, options in ours.items()
    ]
    peers = {
        "wsinfer": ("wsinfer",),
        "tiatoolbox, PatchPredictor": ("tiatoolbox", "predictor"),
        "tiatoolbox, SemanticSegmentor": ("tiatoolbox", "segmentor"),
    }
    found += [
        Entrant(name=name, kind=PEER, venv=venv, command=(f"infer_{venv}.py", *rest, loaders, *more))
        for name, (venv, *more) in peers.items()
    ]
    return [entrant for entrant in found if arguments.programs in entrant.name]


def race(contenders: Sequence[Entrant], slides: tuple[Path, Path], arguments: argparse.Namespace, work: Path) -> None:
    """Run everybody in turn, twice on the slide of little tissue and then on the other; keep what came of it.

    Of programs of ours, which are done with it so soon that a second counts, the little one is timed in every round.
    """
    running, seconds = list(contenders), {c.name: (list[float](), list[float]()) for c in contenders}
    for turn in range(-2, arguments.rounds):
        for entrant in list(running):
            if entrant.kind == LIMIT and turn < 0:
                continue
            for which in (0, 1) if entrant.kind == OURS and turn >= 0 else (int(turn >= 0),):
                said = _run_on(entrant, slides[which], arguments, work)
                if said is None:
                    print(f"round {turn}: {entrant.name}: {entrant.error}", flush=True)
                    running.remove(entrant)
                    break
                took = said.get("seconds", said["wall"])
                print(f"round {turn}: {entrant.name}: {said['tiles']} tiles, {took:.1f} s, {said['by']}", flush=True)
                if turn > -2:
                    seconds[entrant.name][which].append(took)
                    _keep(entrant, which, said, seconds[entrant.name][which])


def _run_on(entrant: Entrant, slide: Path, arguments: argparse.Namespace, work: Path) -> dict[str, Any] | None:
    command = entrant.command
    entrant.command = tuple(str(slide) if word == "{slide}" else word for word in command)
    try:
        return run(entrant, arguments.peers, work, sample_s=1)
    finally:
        entrant.command = command


def _keep(entrant: Entrant, which: int, said: dict[str, Any], seconds: Sequence[float]) -> None:
    middle = (said["tiles"], statistics.median(seconds))
    if which == 0:
        entrant.small, entrant.small_by = middle, said["by"]
    else:
        entrant.large, entrant.by = middle, said["by"]
        entrant.rates.append(said["tiles"] / seconds[-1])


def table(contenders: Sequence[Entrant]) -> str:
    """Return a Markdown table: rates with and without start, and their ratios to the fastest peer and to the model."""
    whole = {c.name: statistics.median(c.rates) for c in contenders if c.rates}
    peers = [c for c in contenders if c.kind == PEER and c.rates]
    best = max((whole[c.name] for c in peers), default=None)
    best_running = max((c.without_start for c in peers if c.without_start), default=None)
    alone = {c.by: c.without_start for c in contenders if c.kind == LIMIT}
    lines = [
        "| | tiles/s | min–max | of the fastest peer | tiles/s without start | of the fastest peer "
        "| of the model alone | tiles | peak MB | by | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in contenders:
        if not c.rates:
            lines.append(f"| {c.name} |{' – |' * 9} {c.error or 'did not run'} |")
            continue
        limit, is_limit = alone.get(c.by), c.kind == LIMIT
        span = f"{min(c.rates):.2f}–{max(c.rates):.2f}" if len(c.rates) > 1 else "one run"
        cells = [
            f"**{c.name}**" if c.kind == OURS else c.name,
            "–" if is_limit else f"{whole[c.name]:.2f}",
            span,
            "–" if is_limit else _ratio(whole[c.name], best),
            f"{c.without_start:.2f}" if c.without_start else "–",
            _ratio(c.without_start, best_running),
            "–" if is_limit else _ratio(c.without_start, limit),
            f"{c.tiles}",
            f"{c.peak_mb:.0f}" if c.peak_mb else "–",
            c.by,
            c.what,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(value: float | None, other: float | None) -> str:
    return f"{value / other:.2f}" if value and other else "–"


def environment(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a reader of the figures must know of the machine, the programs and the slide."""
    named = ("rounds", "growth_rounds", "side", "levels", "tissue", "batch", "threads", "bare_tiles")
    return {
        "cpu": cpu_name(),
        "versions": {"wsi-maxmin": __version__} | {name: version(name) for name in OWN},
        "peers": {name: version_of(arguments.peers, name) for name in INFERRING},
        "settings": {name: getattr(arguments, name) for name in named},
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write the figures."""
    arguments = parse(words)
    if arguments.install_peers:
        install(arguments.peers, INFERRING)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    figures = environment(arguments)
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        for place in filter(None, (work, arguments.out)):
            place.mkdir(parents=True, exist_ok=True)
        os.environ["WSI_MAXMIN_CACHE"] = str(work / CACHE)  # a graph made of this model, not of another's
        model, shape = make_model(work), (arguments.side, arguments.levels)
        if arguments.only != "growth":
            less, more = (make_slide(work, *shape, share) for share in (arguments.tissue / SMALL, arguments.tissue))
            contenders = entrants(model, arguments)
            if any("int8" in contender.command for contender in contenders):
                calibrate(model, more, work)
            race(contenders, (less, more), arguments, work)
            print(f"\n{table(contenders)}\n", flush=True)
            shown = [asdict(c) | {"without_start": c.without_start} for c in contenders]
            figures["programs"] = [{k: v for k, v in one.items() if k != "command"} for one in shown]
            if arguments.out:
                (arguments.out / "infer.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        if arguments.only != "table":
            slides = {times: make_slide(work, *shape, times * arguments.tissue) for times in arguments.growth}
            rows = measure_growth(slides, model, arguments, work)
            if rows and arguments.out:
                picture = (arguments.pictures or arguments.out) / "infer-growth.png"
                write_growth(rows, arguments.out / "infer-growth.csv", picture)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a small slide, one round; writes no figures without --out"
    )
    parser.add_argument("--only", choices=("table", "growth"), help="one half of it")
    parser.add_argument("--programs", default="", metavar="TEXT", help="only rows whose name has it")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of the table [3]")
    parser.add_argument("--growth-rounds", type=int, default=2, help="timed rounds of the growth [2]")
    parser.add_argument("--side", type=int, default=40960, help="side of the slides, px [40960]")
    parser.add_argument("--levels", type=int, default=8, help="levels of their pyramids [8]")
    parser.add_argument("--tissue", type=float, default=0.01, help="share of tissue [0.01]")
    parser.add_argument("--growth", type=int, nargs="+", default=[1, 4, 16], help="times that much tissue [1 4 16]")
    parser.add_argument("--batch", type=int, default=8, help="tiles a batch [8]")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores that all run on [all]")
    parser.add_argument("--loaders", type=int, help="loader processes of the peers [as many as cores]")
    parser.add_argument("--bare-tiles", type=int, default=32, help="most tiles of the model alone [32]")
    parser.add_argument("--peers", type=Path, default=HOME, help="folder of the other programs' environments")
    parser.add_argument("--install-peers", action="store_true", help="make those that are not there")
    parser.add_argument("--work", type=Path, help="folder for slides, kept there for the next run [a temporary one]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for infer.json and infer-growth.csv")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="folder for infer-growth.png")
    if parser.parse_args(words).quick:
        parser.set_defaults(**QUICK, out=None, pictures=None)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
