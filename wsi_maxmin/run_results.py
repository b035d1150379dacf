"""What finished trainings left, read from their folders for tables, figures and reports."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_maxmin.errors import InputError
from wsi_maxmin.runinfo import RUN_FILE, read_json

GATHERED = "runs.json"
RUNS = "runs"
METRICS, CHECKPOINT, SCORES_FOLDER, SWEEPS = "metrics.jsonl", "model.safetensors", "scores", "sweeps"
_SCORES, _IMAGES = "scores.json", "images.csv"
_TEXT = ("image", "label", "predicted")

ImageRow = Mapping[str, str | float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished training.

    Attributes
    ----------
    name : str
        What was run, such as ``maxmin-sem``: the name of its folder without the seed.
    seed : int
    settings : mapping
        Its resolved config.
    epochs : tuple of mapping
        One each: its learning rate, ``loss_total`` and the other terms, validation accuracy in per cent. None of a
        method that learns nothing.
    best_epoch : int
        The one whose weights were kept.
    seconds : float
        Of training and validation.
    device : str
    packages : mapping
        Versions.
    scores : mapping or None
        As `wsi-maxmin evaluate` writes them, in per cent; None where it was not run.
    images : tuple of mapping, or None
        A row an image: its scores in per cent, and the share of its pixels that is foreground, predicted and true.
    folder : Path or None
        Where its model is; None where only its figures were kept.
    sweep : tuple of mapping
        Scores of its model with other parameters, each naming them as ``changed``.
    """

    name: str
    seed: int
    settings: Mapping[str, Any]
    epochs: tuple[Mapping[str, float], ...]
    best_epoch: int
    seconds: float
    device: str
    packages: Mapping[str, str]
    scores: Mapping[str, Any] | None
    images: tuple[ImageRow, ...] | None
    folder: Path | None
    sweep: tuple[Mapping[str, Any], ...] = ()

    @property
    def model(self) -> Path | None:
        """The trained model, where it was kept."""
        path = self.folder / CHECKPOINT if self.folder is not None else None
        return path if path is not None and path.is_file() else None


def read_runs(folders: Iterable[Path]) -> list[RunResult]:
    """Read runs, sorted by name and seed; what is not finished is left out.

    Parameters
    ----------
    folders : iterable of Path
        Of `wsi-maxmin train`, with the scores of `wsi-maxmin evaluate` in ``scores``; a folder of such folders; that
        of `wsi-maxmin reproduce`, which has them in ``runs``; or one with the ``runs.json`` of
        ``scripts/gather_runs.py``.

    Raises
    ------
    InputError
        If a folder holds none of these, two runs have one name and seed, or a file of a run is damaged.
    """
    found: dict[tuple[str, int], tuple[Path, RunResult]] = {}
    for folder in folders:
        for run in _read_folder(folder):
            where = run.folder or folder
            earlier, _ = found.setdefault((run.name, run.seed), (where, run))
            if earlier != where:
                raise InputError(
                    f"two runs are called {run.name} with seed {run.seed}",
                    got=f"{earlier} and {where}",
                    remedy="give one of them, or rename its folder",
                )
    return [run for _, (_, run) in sorted(found.items())]


def is_finished(folder: Path) -> bool:
    """Say whether a training ended there."""
    return (read_json(folder / RUN_FILE) or {}).get("status") == "done"


def read_run(folder: Path, *, unfinished: bool = False) -> RunResult:
    """Read the folder of a training.

    Parameters
    ----------
    folder : Path
    unfinished : bool
        Read one that was stopped or is going on, too, as far as it came; without an epoch its best is 0.

    Raises
    ------
    InputError
        If it is none, or a file of it is damaged.
    """
    if not unfinished and not is_finished(folder):
        raise InputError("no finished training", got=folder, remedy="wsi-maxmin train … --resume")
    facts, epochs = _object(folder / RUN_FILE), _lines(folder / METRICS)
    best = epochs[-1].get("best_epoch", 0) if unfinished and epochs else 0
    scores, images = read_scores(folder / SCORES_FOLDER)
    try:
        return RunResult(
            name=_without_seed(folder.resolve().name, facts["settings"]["seed"]),
            seed=facts["settings"]["seed"],
            settings=facts["settings"],
            epochs=epochs,
            best_epoch=facts.get("best_epoch", best) if unfinished else facts["best_epoch"],
            seconds=sum(epoch["train_seconds"] + epoch["valid_seconds"] for epoch in facts["epochs"]),
            device=facts["device"],
            packages=facts["environment"]["packages"],
            scores=_own_scores(scores, folder),
            images=images,
            folder=folder,
            sweep=tuple(_object(path) for path in sorted(folder.glob(f"{SWEEPS}/*/{_SCORES}"))),
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / RUN_FILE} is damaged", got=f"no {error}") from error


def read_scores(folder: Path) -> tuple[Mapping[str, Any] | None, tuple[ImageRow, ...] | None]:
    """Read what `wsi-maxmin evaluate` left: scores, and a row an image; None where it left none.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    if not (folder / _SCORES).is_file():
        return None, None
    return _object(folder / _SCORES), _images(folder / _IMAGES)


def _read_folder(folder: Path) -> list[RunResult]:
    if (folder / GATHERED).is_file():
        return _gathered(folder)
    if (folder / RUN_FILE).is_file():
        return [read_run(folder)] if is_finished(folder) else []
    below = _below(folder) or _below(folder / RUNS)
    if not below:
        raise InputError(
            "no runs",
            got=folder,
            expected=f"the folder of a training, a folder of such folders, that of reproduce, or one with {GATHERED}",
            remedy="wsi-maxmin train CONFIG --data DIR --out RUN",
        )
    return [read_run(path) for path in below if is_finished(path)]


def _below(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}")) if folder.is_dir() else []


def _gathered(folder: Path) -> list[RunResult]:
    runs = []
    for name, facts in _object(folder / GATHERED).items():
        try:
            run = RunResult(
                name=_without_seed(name, facts["settings"]["seed"]),
                seed=facts["settings"]["seed"],
                settings=facts["settings"],
                epochs=_lines(folder / f"{name}.jsonl"),
                best_epoch=facts["best_epoch"],
                seconds=facts["seconds"],
                device=facts["device"],
                packages=facts["packages"],
                scores=facts["scores"],
                images=_images(folder / f"{name}.csv"),
                folder=None,
                sweep=tuple(facts.get("sweep", ())),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder / GATHERED}: {name} is damaged", got=f"no {error}") from error
        runs.append(run)
    return runs


def _own_scores(scores: Mapping[str, Any] | None, folder: Path) -> Mapping[str, Any] | None:
    """Refuse the scores of a model whose parameters were changed."""
    if scores is not None and "changed" in scores:
        raise InputError(
            f"{folder / SCORES_FOLDER / _SCORES} is of the model with other parameters",
            got=scores["changed"],
            remedy=f"wsi-maxmin evaluate {folder} --data DIR --out {folder / SCORES_FOLDER}",
        )
    return scores


def _without_seed(name: str, seed: int) -> str:
    return name.removesuffix(f"-s{seed}")


def _object(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if values is None:
        raise InputError(f"{path} is damaged", expected="JSON")
    return values


def _lines(path: Path) -> tuple[Mapping[str, float], ...]:
    try:
        return tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise InputError(f"{path} is damaged", expected="a JSON object a line") from error


def _images(path: Path) -> tuple[ImageRow, ...] | None:
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as lines:
        try:
            return tuple({key: _cell(key, cell) for key, cell in row.items()} for row in csv.DictReader(lines))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged", got=error) from error


def _cell(column: str, cell: str) -> str | float | None:
    if not cell:
        return None
    return cell if column in _TEXT else float(cell)
