"""Gather finished runs into files that can be committed: metrics of each, and one file with all scores.

gather_runs.py RUNS… --out DIR

Every RUN is a folder that `gpu_backlog.sh` has made: run.json, metrics.jsonl and scores/scores.json. Its name is
NAME-sSEED. Unfinished runs are left out and named. DIR gets runs.json, what was gathered before and the scores of each
run's sweeps included, NAME-sSEED.jsonl with the losses of each epoch, and NAME-sSEED.csv with the scores of each image.
Machine and folders are not kept.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEPT_SCORES = ("error", "samples", "f1_foreground", "f1_background", "masks", "pixel_confusion", "predicted_fraction")
KEPT_SCORES += ("true_fraction", "threshold", "best_threshold", "label_source", "split", "model")
KEPT_OF_SWEEPS = (
    "changed",
    "error",
    "f1_foreground",
    "f1_background",
    "predicted_fraction",
    "threshold",
    "split",
    "model",
)


def gather(run: Path) -> dict[str, Any] | None:
    """Return what is kept of a run, or None of one that is not finished and scored."""
    facts, scores = _read(run / "run.json"), _read(run / "scores" / "scores.json")
    if not facts or not scores or facts["status"] != "done":
        return None
    settings = {key: value for key, value in facts["settings"].items() if key not in ("command", "notes", "summary")}
    if start := settings.get("training", {}).get("start_from"):
        settings["training"]["start_from"] = Path(start).name  # of the run, not where it lay
    sweep = [_read(path) for path in sorted(run.glob("sweeps/*/scores.json"))]
    kept = {
        "settings": settings,
        "epochs": len(facts["epochs"]),
        "best_epoch": facts["best_epoch"],
        "seconds": round(sum(epoch["train_seconds"] + epoch["valid_seconds"] for epoch in facts["epochs"]), 1),
        "device": facts["device"],
        "packages": facts["environment"]["packages"],
        "scores": {key: scores[key] for key in KEPT_SCORES if key in scores},
    }
    if sweep:
        kept["sweep"] = [{key: of[key] for key in KEPT_OF_SWEEPS} for of in sweep]
    return kept


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line; write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    runs = _read(options.out / "runs.json")
    for run in options.runs:
        found = gather(run)
        if found is None:
            print(f"not finished, left out: {run.name}", file=sys.stderr)
            continue
        runs[run.name] = found
        shutil.copyfile(run / "metrics.jsonl", options.out / f"{run.name}.jsonl")
        shutil.copyfile(run / "scores" / "images.csv", options.out / f"{run.name}.csv")
    text = json.dumps(dict(sorted(runs.items())), indent=1, ensure_ascii=False)
    (options.out / "runs.json").write_text(text + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


if __name__ == "__main__":
    main()
