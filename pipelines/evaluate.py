"""Score a model on labelled images: classification error, and Dice of its masks where there is ground truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

from wsi_maxmin.assets import find_model
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.config import RunConfig, merge, parse, parse_override
from wsi_maxmin.data import Split, read_samples
from wsi_maxmin.data._dataset import Item, SampleDataset
from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import InputError
from wsi_maxmin.metrics import ErrorRate, MaskScores
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import environment, write_json

MASK_THRESHOLD = 0.5


@torch.inference_mode()
def evaluate_model(
    model: str,
    data: Path,
    split: Split,
    *,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return error, F1+ and F1− in per cent, and the pooled pixel confusion matrix.

    The soft mask is brought to the ground truth's own size bilinearly and binarised at ≥ 0.5. With `out`, the scores
    go to ``scores.json`` and a row an image to ``images.csv``. The model's own config says how `data` is read, but for
    `overrides`, ``data.key=value``.

    Raises
    ------
    InputError
        If model, data, overrides or device are not usable, or a listed mask is missing.
    """
    where, progress = pick_device(device), progress or Quiet()
    checkpoint = load_checkpoint(find_model(model))
    config = _reading_as(checkpoint.config, overrides)
    network = checkpoint.build().on(where)
    samples = read_samples(data, config.data, split, seed=config.seed)
    for path in dict.fromkeys(sample.mask_path for sample in samples if sample.mask_path is not None):
        if not path.is_file():
            raise InputError("a ground-truth mask is missing", got=path, remedy="restore it or empty its cell")
    dataset = SampleDataset(samples, shorter_side_px=config.data.shorter_side_px, masks=True)
    error, masks, rows = ErrorRate(), MaskScores(), []
    with progress.track("evaluate", len(samples), unit="image") as advance:
        for item in DataLoader(dataset, batch_size=1, num_workers=config.training.workers):
            output = network(item.image.to(where))
            row: dict[str, object] = {
                "image": samples[int(item.position)].name,
                "label": config.data.classes[int(item.label)],
            }
            if output.logits is not None:
                predicted = output.logits.argmax(dim=1).cpu().numpy()
                error.update(predicted, item.label.numpy())
                row["predicted"] = config.data.classes[int(predicted[0])]
            row["f1_foreground"], row["f1_background"] = _mask_scores(output.mask, item, masks)
            rows.append(row)
            advance()
    scores = {**error.summary(), **masks.summary()}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(out / "images.csv", index=False)
        facts = {"model": checkpoint.fingerprint(), "split": split, "environment": environment()}
        write_json(out / "scores.json", {**scores, **facts})
    return scores


def _reading_as(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Return the config with other values in its section on data."""
    values = config.model_dump(mode="json")
    for override in overrides:
        if not override.startswith("data."):
            raise InputError(
                "a trained model keeps its config", got=f"--set {override}", expected="--set data.key=value"
            )
        values = merge(values, parse_override(override))
    return parse(RunConfig, values, source="--set")


def _mask_scores(mask: torch.Tensor, item: Item, scores: MaskScores) -> tuple[float | None, float | None]:
    if not item.mask.numel():
        return None, None
    truth = item.mask[0, 0].numpy().astype(np.bool_)
    resized = interpolate(mask.float(), truth.shape, mode="bilinear", align_corners=False)[0, 0]
    foreground, background = scores.update(resized.cpu().numpy() >= MASK_THRESHOLD, truth)
    return _percent(foreground), _percent(background)


def _percent(score: float | None) -> float | None:
    return None if score is None else 100 * score
