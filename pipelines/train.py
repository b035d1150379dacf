"""Train a model as a config says: samples, loop, checkpoint, facts."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from wsi_maxmin.cohort import Existing, claim, locked
from wsi_maxmin.config import load_config
from wsi_maxmin.data import read_samples
from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import InputError
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import RUN_FILE, Stopwatch, environment, peak_memory_bytes, write_json
from wsi_maxmin.training import BEST, LAST, METRICS, TrainingResult, train

CONFIG = "config.yaml"


def train_model(
    config: str,
    data: Path,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
    existing: Existing = "refuse",
    progress: Progress | None = None,
) -> TrainingResult:
    """Train and write checkpoints, ``metrics.jsonl``, the resolved ``config.yaml`` and ``run.json`` to `out`.

    Raises
    ------
    InputError, OutputExistsError
        If the config, the data or the device are not usable, or `out` holds a run.
    """
    run, progress = load_config(config, overrides), progress or Quiet()
    where = pick_device(device)
    train_samples = read_samples(data, run.data, "train", seed=run.seed)
    valid_samples = read_samples(data, run.data, "valid", seed=run.seed)
    if missing := set(range(len(run.data.classes))) - {sample.label for sample in train_samples}:
        raise InputError(
            "a class has no training sample",
            got=", ".join(run.data.classes[index] for index in sorted(missing)),
            remedy="check the list, data.classes and data.exclude_groups",
        )
    progress.say(f"{run.name}: {len(train_samples)} training and {len(valid_samples)} validation samples, on {where}")
    watch = Stopwatch()
    with locked(out):
        if claim(out, {"command": "train", **run.identity()}, existing):
            for name in (BEST, LAST, METRICS, CONFIG, RUN_FILE):
                (out / name).unlink(missing_ok=True)
        resolved = yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (out / CONFIG).write_text(resolved, encoding="utf-8")
        facts = {"settings": {"command": "train", **run.identity()}, "environment": environment(), "device": str(where)}
        write_json(out / RUN_FILE, {"status": "running", **facts})
        result = train(run, train_samples, valid_samples, out, device=where, progress=progress)
        measured = {"elapsed_seconds": round(watch.elapsed, 1), "peak_memory_bytes": peak_memory_bytes()}
        best = {"best_epoch": result.epoch, "best_valid_accuracy": result.accuracy}
        write_json(out / RUN_FILE, {"status": "done", **facts, **best, **measured})
    return result
