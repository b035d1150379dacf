"""Which models ship with the package, and whether a given one can be used."""

from typing import Any

import torch

from wsi_maxmin.assets import find_model, model_card, model_names
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import WeakSegmenter


def bundled_models() -> list[dict[str, Any]]:
    """Return the facts of every bundled model, as JSON values."""
    found = []
    for name in model_names():
        checkpoint = load_checkpoint(find_model(name))
        found.append({"name": name, **_facts(checkpoint), "card": str(model_card(name))})
    return found


@torch.inference_mode()
def check_model(name_or_path: str) -> dict[str, Any]:
    """Load a model, run it on one white tile, and return its facts as JSON values.

    Raises
    ------
    InputError
        If it cannot be read, its config or weights are not usable, or its outputs are no numbers in range.
    """
    path = find_model(name_or_path)
    checkpoint = load_checkpoint(path)
    if spoilt := [name for name, value in checkpoint.weights.items() if not torch.isfinite(value).all()]:
        raise InputError(
            f"{path} has weights that are not finite",
            got=f"{len(spoilt)} tensors, first {spoilt[0]}",
            remedy="train it anew",
        )
    model = checkpoint.build()
    _check_outputs(model, checkpoint, str(path))
    return {
        "name": checkpoint.config.name,
        "path": str(path),
        **_facts(checkpoint),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epoch": checkpoint.epoch,
        "best_valid_accuracy": checkpoint.metrics.get("best_accuracy"),
        "slides": f"no: {model.refuses_slides}" if model.refuses_slides else "yes",
        "fingerprint": checkpoint.fingerprint(),
        "check": "weights finite; a white tile gives finite outputs in range",
    }


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config
    has_encoder = any(name.startswith("encoder.") for name in checkpoint.weights)
    return {
        "method": config.model.name,
        "encoder": config.model.encoder.name if has_encoder else None,
        "classes": list(config.data.classes),
        "positive": config.data.positive,
        "mpp": config.slide.mpp,
        "tile_px": config.slide.tile_px,
        "threshold": config.slide.threshold,
        "summary": config.summary,
        "notes": config.notes,
    }


def _check_outputs(model: WeakSegmenter, checkpoint: Checkpoint, source: str) -> None:
    """Run the model on a white tile; a mask must be within [0, 1] and every score a number."""
    side = checkpoint.config.slide.tile_px
    output = model(torch.full((1, 3, side, side), 255, dtype=torch.uint8))
    got = []
    if output.mask.ndim != 4 or output.mask.shape[:2] != (1, 1):
        got.append(f"a mask of shape {tuple(output.mask.shape)}")
    elif not (torch.isfinite(output.mask).all() and output.mask.min() >= 0 and output.mask.max() <= 1):
        got.append(f"a mask from {float(output.mask.min()):g} to {float(output.mask.max()):g}")
    if output.logits is not None:
        if output.logits.shape != (1, len(checkpoint.config.data.classes)):
            got.append(f"scores of shape {tuple(output.logits.shape)}")
        elif not torch.isfinite(output.logits).all():
            got.append("scores that are not finite")
    if got:
        raise InputError(
            f"{source} gives outputs that cannot be used",
            got=" and ".join(got),
            expected="finite scores, mask in [0, 1]",
        )
