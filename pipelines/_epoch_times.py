"""How long an epoch of a training takes here, from epochs that are done or from a few of its own samples."""

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from wsi_maxmin.config import RunConfig, load_config
from wsi_maxmin.data import read_samples
from wsi_maxmin.progress import Quiet
from wsi_maxmin.runinfo import RUN_FILE, read_json
from wsi_maxmin.training import ALONE
from wsi_maxmin.training._epoch import Trainer
from wsi_maxmin.training._state import start

_FEW = 4
_BARE = (
    "model.encoder.weights=none", "training.start_from=null", f"training.batch_size={_FEW}", "training.accumulate=1",
    "training.repeat=1", "training.workers=0", "training.devices=1", "training.balance_classes=false",
)  # fmt: skip
# Validation is a forward pass, of the three that forward and backward cost.
_FORWARD = 1 / 3


def past_seconds(folder: Path, device: torch.device) -> float | None:
    """Return the median seconds of an epoch of a run that has begun there on this kind of device, else None."""
    facts = read_json(folder / RUN_FILE) or {}
    epochs = facts.get("epochs") or ()
    if not epochs or str(facts.get("device")).partition(":")[0] != device.type:
        return None
    return float(median(epoch["train_seconds"] + epoch["valid_seconds"] for epoch in epochs))


class EpochTimer:
    """Times steps of trainings on a few of their samples, once for all rows that compute the same.

    Batches are of four: on an accelerator, which larger ones suit better, the times are rather too long.
    """

    def __init__(self, data: Path, device: torch.device) -> None:
        self._data, self._device = data, device
        self._seconds: dict[str, float] = {}

    def seconds(self, name: str, overrides: list[str]) -> float:
        """Return about how many seconds an epoch of a config takes; nothing is written."""
        config = load_config(name, overrides)
        key = _computes(config.model_dump(mode="json"))
        if key not in self._seconds:
            self._seconds[key] = self._measure(load_config(name, [*overrides, *_BARE]))
        counts = {
            split: len(read_samples(self._data, config.data, split, seed=config.seed)) for split in ("train", "valid")
        }
        shown = counts["train"] * config.training.repeat + counts["valid"] * _FORWARD
        return shown * self._seconds[key] / config.training.devices

    def _measure(self, config: RunConfig) -> float:
        """Return the seconds of one training image, in the second of two passes."""
        samples = read_samples(self._data, config.data, "train", seed=config.seed)[:_FEW]
        # No run is there to go on from.
        trainer = Trainer(start(config, self._device, ALONE, Path()), samples, Quiet())
        for epoch in range(2):
            began = time.perf_counter()
            trainer.run(epoch, Quiet())
            seconds = time.perf_counter() - began
        return seconds / len(samples)


def _computes(config: Mapping[str, Any]) -> str:
    """Return what the time of an image follows: method, encoder, crop and precision."""
    model, encoder = config["model"], config["model"]["encoder"]
    sizes = config["data"]["shorter_side_px"], config["augment"]["crop_px"], config["training"]["precision"]
    return repr((model["name"], encoder["name"], encoder["options"], *sizes))
