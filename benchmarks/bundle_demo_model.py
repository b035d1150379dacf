"""Choose the demonstration model's threshold on validation patches alone, and write the model that ships.

The model learns from patches of 256 px and runs on tiles of 512 px. So it is validated on mosaics: two by two
validation patches, each tumour or normal by its own label, which also say how well the map tells the quadrants apart.

    python benchmarks/bundle_demo_model.py RUN_DIR --data PATCHES256 --out wsi_maxmin/assets/camelyon16-demo.safetensors
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wsi_maxmin.assets import find_model
from wsi_maxmin.checkpoint import Checkpoint, for_use, load_checkpoint, save_checkpoint
from wsi_maxmin.data import read_samples
from wsi_maxmin.data._pixels import read_image
from wsi_maxmin.engines._choice import open_engine
from wsi_maxmin.metrics import roc_auc
from wsi_maxmin.tilemaps import softmax

TUMOUR_SHARE = 0.25
FALSE_POSITIVES = 0.02
MAP_PX = 8


def mosaics(checkpoint: Checkpoint, data: Path, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return posteriors (N,), tumour maps (N, h, w) and quadrant labels (N, 2, 2) of the mosaics."""
    config = checkpoint.config
    samples = read_samples(data, config.data, "valid", seed=config.seed)
    by_class = [[s for s in samples if s.label == label] for label in range(len(config.data.classes))]
    positive = config.data.classes.index(config.data.positive)
    normal = 1 - positive
    rng = np.random.default_rng(0)
    engine = open_engine(checkpoint, "torch", device=torch.device("cpu"), precision="fp32", downsample=MAP_PX)
    posteriors, maps, quadrants = [], [], []
    for index in range(count):
        # Every second mosaic is all normal: the threshold is chosen by its false positives.
        labels = (rng.random((2, 2)) < TUMOUR_SHARE) & (index % 2 == 0)
        chosen = [by_class[positive if tumour else normal] for tumour in labels.ravel()]
        tiles = [read_image(pool[rng.integers(len(pool))].image).permute(1, 2, 0).numpy() for pool in chosen]
        image = np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])
        mask, logits = engine.run([image])
        posteriors.append(softmax(logits)[0, positive])
        maps.append(posteriors[-1] * mask[0, 0].astype(np.float32))
        quadrants.append(labels)
    return np.array(posteriors), np.array(maps), np.array(quadrants)


def main() -> None:
    """Validate, choose the threshold, write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--mosaics", type=int, default=300)
    parser.add_argument("--k-max", type=float, help="try another share of pooled positions")
    arguments = parser.parse_args()
    checkpoint = for_use(load_checkpoint(find_model(arguments.run)))
    if arguments.k_max is not None:
        model = checkpoint.config.model
        model = model.model_copy(update={"params": {**model.params, "k_max": arguments.k_max}})
        checkpoint = replace(checkpoint, config=checkpoint.config.model_copy(update={"model": model}))
    posteriors, maps, quadrants = mosaics(checkpoint, arguments.data, arguments.mosaics)
    side = maps.shape[1] // 2
    truth = quadrants.repeat(side, axis=1).repeat(side, axis=2)
    tumour = quadrants.any(axis=(1, 2))
    threshold = float(np.quantile(maps[~tumour], 1 - FALSE_POSITIVES))
    threshold = float(np.clip(round(threshold, 2), 0.05, 0.95))
    called = maps >= threshold
    figures = {
        "mosaics": len(maps),
        "mosaic_auc": roc_auc(posteriors, tumour),
        "pixel_auc": roc_auc(maps.ravel(), truth.ravel()),
        "pixel_auc_in_tumour_mosaics": roc_auc(maps[tumour].ravel(), truth[tumour].ravel()),
        "threshold": threshold,
        "tumour_pixels_called": float(called[truth].mean()),
        "normal_pixels_called_in_normal_mosaics": float(called[~tumour].mean()),
        "tumour_mosaics_with_posterior_at_threshold": float((posteriors[tumour] >= threshold).mean()),
        "normal_mosaics_with_posterior_at_threshold": float((posteriors[~tumour] >= threshold).mean()),
        "epoch": checkpoint.epoch,
        "valid_accuracy": checkpoint.metrics.get("valid_accuracy"),
    }
    print(json.dumps(figures, indent=2))
    if arguments.out:
        slide = checkpoint.config.slide.model_copy(update={"threshold": threshold})
        config = checkpoint.config.model_copy(update={"slide": slide, "name": "camelyon16-demo"})
        facts = {name: fact for name, fact in checkpoint.facts.items() if name != "environment"}
        metrics = {**checkpoint.metrics, **figures}
        save_checkpoint(arguments.out, replace(checkpoint, config=config, metrics=metrics, facts=facts))


if __name__ == "__main__":
    main()
