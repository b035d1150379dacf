"""Score Max-Min runs without opening a mask: what is left of the class in either region, once the mask is binarised.

mask_free_scores.py RUNS… --data GLAS [--split valid] [--device auto]

A good mask leaves the classifier certain of the image under it and ignorant of the rest, and is no larger than that
takes. A line a run, comma-separated: cross-entropy and error (per cent) of the foreground; entropy of the background's
posterior as a share of log K, and the error on it; the share of the image that is foreground.
"""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.config import RunConfig
from wsi_maxmin.data import read_samples
from wsi_maxmin.data._dataset import Item, SampleDataset
from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import WsiMaxminError
from wsi_maxmin.models.maxmin import MaxMin
from wsi_maxmin.training import BEST

COLUMNS = ("foreground_loss", "foreground_error", "background_entropy", "background_error", "foreground_share")


@torch.inference_mode()
def score(model: MaxMin, item: Item, device: torch.device) -> list[float]:
    """Return the columns of one image."""
    image, label = item.image[None].to(device), item.label[None].to(device)
    mask = (model(image).mask >= 0.5).float()
    pixels = model.normalise(image)
    inside, outside = model.classify(pixels * mask), model.classify(pixels * (1 - mask))
    return [
        float(cross_entropy(inside, label)),
        100 * _is_wrong(inside, label),
        _entropy(outside),
        100 * _is_wrong(outside, label),
        float(mask.mean()),
    ]


def _is_wrong(logits: Tensor, label: Tensor) -> float:
    return float((logits.argmax(dim=1) != label).float())


def _entropy(logits: Tensor) -> float:
    posterior = torch.softmax(logits, dim=1)
    return float(torch.special.entr(posterior).sum() / math.log(logits.shape[1]))


def score_run(run: Path, data: Path, split: str, device: torch.device) -> list[float]:
    """Return the columns of a run, means over its images.

    Raises
    ------
    TypeError
        If its model is no Max-Min.
    """
    checkpoint = load_checkpoint(run / BEST)
    model = checkpoint.build().on(device)
    if not isinstance(model, MaxMin):
        raise TypeError(f"{run} is no Max-Min run: {checkpoint.config.model.name}")
    images = _images(checkpoint.config, data, split)
    rows = torch.tensor([score(model, images[index], device) for index in range(len(images))], dtype=torch.float64)
    columns: list[float] = rows.mean(dim=0).tolist()
    return columns


def _images(config: RunConfig, data: Path, split: str) -> SampleDataset:
    samples = read_samples(data, config.data, split, seed=config.seed)  # type: ignore[arg-type]  # argparse has checked
    return SampleDataset(samples, shorter_side_px=config.data.shorter_side_px)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and write the table to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "valid", "test"), default="valid")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("run", *COLUMNS))
    for run in options.runs:
        try:
            columns = score_run(run, options.data, options.split, pick_device(options.device))
        except (WsiMaxminError, TypeError) as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        table.writerow((run.name, *(f"{value:.4f}" for value in columns)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
