"""Fig. 10: F1+ and F1− over λ, σ and ω on GlaS."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from wsi_maxmin.errors import MissingResultsError
from wsi_maxmin.figures._results import GLAS, METHODS, SEM, Drawing, Results, split_of
from wsi_maxmin.figures._style import BLUE, VERMILION, sheet
from wsi_maxmin.models.maxmin import Params
from wsi_maxmin.run_results import RunResult

FIGURES = {"10": f"F1 over λ, σ and ω on {GLAS.title}"}

PARAMS = "model.params."
_LEAST_SPAN = 25.0
_HALF = 0.5
_TRAINED = "scripts/gpu_backlog.sh --data DIR --out RUNS --rows 'lambda-1e-5 lambda-1e-3 lambda-1e-1 lambda-1'"
_REEVALUATED = "wsi-maxmin figures RUNS --only 10 --sweep --data DIR --out DIR"
_SCORES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("F1+", "f1_foreground", {"color": BLUE, "marker": "o", "linestyle": "-"}),
    ("F1−", "f1_background", {"color": VERMILION, "marker": "s", "linestyle": "--"}),
)

Scores = Mapping[str, Any]
Points = dict[float, list[Scores]]


def draw(number: str, results: Results) -> Drawing:  # noqa: ARG001 - there is one alone
    """Draw runs that differ in λ alone, and one model scored again at other values of σ, and of ω.

    Raises
    ------
    MissingResultsError
        If there are no such results.
    """
    runs = [run for run in results.runs if GLAS.holds(run) and run.scores is not None]
    own = [run for run in runs if run.name == SEM and run.settings["model"]["name"] == "maxmin"]
    if not own:
        raise MissingResultsError(f"no scored run of {METHODS[SEM]} on {GLAS.title}", remedy=GLAS.command)
    weights = _by_weight(runs, own[0])
    again = next((run for run in own if run.sweep), own[0])
    swept = {name: _by_value(again.sweep, name) for name in ("sigma", "omega")}
    absent = [] if len(weights) > 1 else [f"λ: trained with one value alone; {_TRAINED}"]
    absent += [
        f"{sign}: not evaluated; {_REEVALUATED}" for sign, name in (("σ", "sigma"), ("ω", "omega")) if not swept[name]
    ]
    if len(absent) == len(swept) + 1:
        raise MissingResultsError(f"no results at other λ, σ or ω on {GLAS.title}", remedy="; ".join(absent))
    split = (own[0].scores or {})["split"]
    figure = sheet(2.5, f"{GLAS.title}, {split_of(split)}, {METHODS[SEM]}. {_explain(weights, again, swept)}")
    panels = figure.subplots(1, 3)
    panels[0].set_xscale("log")
    panels[2].set_xscale("log")
    trained = _params(again)
    _draw_panel(panels[0], weights if len(weights) > 1 else {}, "λ, trained anew", trained.background_weight)
    sigma = min(trained.sigma + trained.sigma_step * again.best_epoch, max(trained.sigma_cap, trained.sigma))
    _draw_panel(panels[1], swept["sigma"], "σ, one model re-evaluated", sigma)
    _draw_panel(panels[2], swept["omega"], "ω, one model re-evaluated", trained.omega)
    panels[0].set_ylabel("per cent")
    handles, names = next(axes for axes in panels if axes.lines).get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower right", ncols=3)
    return Drawing(figure=figure, facts=_facts(split, weights, again, swept), left_out=tuple(absent))


def _by_weight(runs: Sequence[RunResult], own: RunResult) -> Points:
    """Return the scores at each λ of the runs that differ from `own` in that, and in the seed, alone."""
    points: Points = {}
    for run in runs:
        if _apart_from_weight(run) == _apart_from_weight(own) and _split(run) == _split(own):
            points.setdefault(_params(run).background_weight, []).append(_named(run))
    return dict(sorted(points.items()))


def _apart_from_weight(run: RunResult) -> Any:
    if run.settings["model"]["name"] != "maxmin":
        return None
    model = {key: value for key, value in run.settings["model"].items() if key != "params"}
    others = [run.settings.get(section) for section in ("data", "augment", "training")]
    return model, others, _params(run).model_copy(update={"background_weight": 0.0})


def _params(run: RunResult) -> Params:
    return Params.model_validate(run.settings["model"].get("params", {}))


def _split(run: RunResult) -> Any:
    return (run.scores or {}).get("split")


def _named(run: RunResult) -> Scores:
    return {**(run.scores or {}), "run": f"{run.name}-s{run.seed}"}


def _by_value(sweep: Sequence[Scores], name: str) -> Points:
    """Return the scores at each value of the one parameter that was changed."""
    points = {float(of["changed"][PARAMS + name]): [of] for of in sweep if list(of["changed"]) == [PARAMS + name]}
    return dict(sorted(points.items()))


def _draw_panel(axes: Axes, points: Points, title: str, trained: float) -> None:
    axes.set_title(title)
    axes.set_xlabel(title[0])
    if not points:
        axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", va="center")
        return
    values = list(points)
    for name, key, line in _SCORES:
        scores = [[float(of[key]) for of in points[value]] for value in values]
        spread = [float(np.std(of, ddof=1)) if len(of) > 1 else 0.0 for of in scores]
        means = [float(np.mean(of)) for of in scores]
        axes.plot(values, means, label=name, **line)
        if any(spread):
            axes.errorbar(values, means, yerr=spread, fmt="none", ecolor=line["color"], elinewidth=0.8, capsize=2)
    axes.axvline(trained, color="#777777", linestyle=":", linewidth=0.9)
    low, high = axes.get_ylim()
    # A wiggle of a tenth of a per cent must not fill a panel.
    middle, half = (low + high) / 2, max(high - low, _LEAST_SPAN) / 2
    axes.set_ylim(max(middle - half, -3), min(middle + half, 103))
    axes.grid(visible=True)


def _explain(weights: Points, again: RunResult, swept: Mapping[str, Points]) -> str:
    words = []
    if len(weights) > 1:
        seeds = ", ".join(f"{len(of)} at {_short(value)}" for value, of in weights.items() if len(of) > 1)
        words.append("λ: a training a value" + (f", mean ± sd of the seeds ({seeds})" if seeds else ""))
    if any(swept.values()):
        words.append(f"σ, ω: the model of {again.name} with seed {again.seed}, not trained anew")
    if swept["omega"] and (again.scores or {}).get("threshold") == _HALF:
        words.append("cut at 0.5, a mask is where the map is ≥ σ, whatever ω")
    return "; ".join(words) + ". Dotted: as trained"


def _short(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-")


def _facts(split: str, weights: Points, again: RunResult, swept: Mapping[str, Points]) -> dict[str, Any]:
    return {
        "dataset": GLAS.name,
        "split": split,
        "lambda": {_short(value): [of["run"] for of in scores] for value, scores in weights.items()},
        "re-evaluated": {
            "run": again.name,
            "seed": again.seed,
            "model": again.sweep[0]["model"] if again.sweep else None,
        },
        **{name: list(points) for name, points in swept.items()},
    }
