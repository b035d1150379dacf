"""What figures need models for: masks of chosen images, and scores at other values of σ and ω."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint
from wsi_maxmin.data import Sample, Split, read_samples
from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import InputError, MissingResultsError
from wsi_maxmin.figures._results import GLAS, METHODS, SEM, Pictured
from wsi_maxmin.figures.sweeps import PARAMS
from wsi_maxmin.metrics import count_pixels, dice_of
from wsi_maxmin.pipelines._evaluated_model import reading_as
from wsi_maxmin.pipelines._scoring import Prediction, predict
from wsi_maxmin.pipelines.evaluate import SCORES, EvaluateSettings, evaluate_model
from wsi_maxmin.progress import Progress
from wsi_maxmin.run_results import SWEEPS, RunResult
from wsi_maxmin.runinfo import read_json

SWEPT = {
    "sigma": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
    "omega": (1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
}
"""Where Fig. 10 scores one model again."""

_LONGEST_PX = 400


def look_at(
    data: Path,
    runs: Sequence[RunResult],
    split: Split,
    names: Sequence[str],
    *,
    overrides: Sequence[str] = (),
    device: str,
    progress: Progress,
) -> list[Pictured]:
    """Run the models of runs over images, and return each image with their masks, as large as a figure shows.

    Raises
    ------
    MissingResultsError
        If an image is not among the data, or a model is not the one that was scored.
    """
    looked: list[dict[str, tuple[Prediction, tuple[float | None, float | None]]]] = [{} for _ in names]
    with progress.track("masks", len(runs), unit="model") as advance:
        for run in runs:
            checkpoint = _checkpoint(run)
            config = reading_as(checkpoint.config, overrides)
            samples = _named(read_samples(data, config.data, split, seed=config.seed), names, data)
            scores = run.scores or {}
            # An image a pass: their order is that of the names.
            predictions = predict(
                checkpoint.build().on(pick_device(device)),
                samples,
                shorter_side_px=config.data.shorter_side_px,
                label_source="true" if scores.get("label_source") == "true" else "predicted",
                batch_size=1,
                workers=0,
                device=pick_device(device),
            )
            for index, prediction in enumerate(predictions):
                looked[index][run.name] = prediction, _f1(prediction, scores.get("threshold", 0.5))
            advance()
    return [_pictured(name, of) for name, of in zip(names, looked, strict=True)]


def evaluate_again(
    runs: Sequence[RunResult],
    data: Path | None,
    *,
    overrides: Sequence[str] = (),
    device: str,
    progress: Progress,
) -> None:
    """Score the model of Max-Min SEM on GlaS at each value of `SWEPT`; what was scored before is kept.

    Raises
    ------
    InputError
        If no data were given.
    MissingResultsError
        If there is no such model, or it is not the one that was scored.
    """
    if data is None:
        raise InputError("--sweep needs the images", remedy="give --data")
    run = next((run for run in runs if run.name == SEM and GLAS.holds(run) and run.model and run.scores), None)
    if run is None or run.folder is None or run.scores is None:
        raise MissingResultsError(
            f"no scored run of {METHODS[SEM]} on {GLAS.title} with its model",
            remedy=f"give the folder that its training wrote, or {GLAS.command}",
        )
    _checkpoint(run)
    values = [(name, value) for name, of in SWEPT.items() for value in of]
    settings = EvaluateSettings(label_source="true", threshold=run.scores["threshold"], workers=0)
    with progress.track("sweep", len(values), unit="value") as advance:
        for name, value in values:
            out = run.folder / SWEEPS / f"{name}-{value:g}"
            if (read_json(out / SCORES) or {}).get("model") != run.scores["model"]:
                asked = [*overrides, f"{PARAMS}{name}={value}"]
                evaluate_model(
                    str(run.model),
                    data,
                    run.scores["split"],
                    out=out,
                    overrides=asked,
                    device=device,
                    settings=settings,
                )
            advance()


def _checkpoint(run: RunResult) -> Checkpoint:
    """Load the model of a run, which must be the one that its scores are of."""
    if run.model is None:
        raise MissingResultsError("no model was kept", got=run.name)
    checkpoint = load_checkpoint(run.model)
    scored = (run.scores or {}).get("model")
    if checkpoint.fingerprint() != scored:
        raise MissingResultsError(
            f"the scores in {run.folder} are of another model",
            got=checkpoint.fingerprint(),
            expected=scored,
            remedy=f"wsi-maxmin evaluate {run.folder} --data DIR --out {run.folder}/scores",
        )
    return checkpoint


def _named(samples: Sequence[Sample], names: Sequence[str], data: Path) -> list[Sample]:
    by_name = {sample.name: sample for sample in samples}
    if absent := [name for name in names if name not in by_name]:
        raise MissingResultsError(
            "scored images are not among the data",
            got=", ".join(absent),
            remedy=f"check {data}, and give the --set that they were scored with",
        )
    return [by_name[name] for name in names]


def _truth(prediction: Prediction) -> npt.NDArray[np.bool_] | None:
    mask = prediction.item.mask
    return mask[0, 0].numpy().astype(np.bool_) if mask.numel() else None


def _f1(prediction: Prediction, threshold: float) -> tuple[float | None, float | None]:
    truth = _truth(prediction)
    if truth is None:
        return None, None
    predicted = prediction.mask[0, 0].cpu().numpy() >= np.float32(threshold)
    foreground, background = (None if of is None else 100 * of for of in dice_of(count_pixels(predicted, truth)))
    return foreground, background


def _pictured(name: str, of: dict[str, tuple[Prediction, tuple[float | None, float | None]]]) -> Pictured:
    first, _ = next(iter(of.values()))
    truth = _truth(first)
    return Pictured(
        name=name,
        image=_shrink(first.item.image[0].permute(1, 2, 0).numpy(), Image.Resampling.LANCZOS),
        truth=None if truth is None else _shrink(truth, Image.Resampling.NEAREST),
        masks={run: _shrink(seen.mask[0, 0].cpu().numpy(), Image.Resampling.BOX) for run, (seen, _) in of.items()},
        scores={run: scores for run, (_, scores) in of.items()},
    )


def _shrink(pixels: npt.NDArray[Any], how: Image.Resampling) -> npt.NDArray[Any]:
    image = Image.fromarray(pixels)
    scale = min(_LONGEST_PX / max(image.size), 1.0)
    return np.asarray(image.resize((round(image.width * scale), round(image.height * scale)), how))
