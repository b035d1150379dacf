"""Time the training loop against the bare steps that it is made of, interleaved: images a second, medians, ratio.

The loop is the one of ``wsi-maxmin train``: images cropped, flipped and jittered by loader processes, with --keep-mb 0
decoded too; losses kept, progress told. Bare is forward, backward and step of the same model on batches that are on the
device.

python benchmarks/train.py                                    # Max-Min on ResNet18, batches of 4 crops of 416 px
python benchmarks/train.py --device cuda --precision bf16 --batch 32 --steps 20 --workers 8
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from wsi_maxmin.config import RunConfig
from wsi_maxmin.data import Sample
from wsi_maxmin.device import pick_device
from wsi_maxmin.progress import Quiet
from wsi_maxmin.training._epoch import Trainer
from wsi_maxmin.training._ranks import ALONE
from wsi_maxmin.training._state import Training, start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--precision", default="fp32")
    for name, default in {
        "side": 512,
        "crop": 416,
        "batch": 4,
        "steps": 4,
        "workers": 2,
        "rounds": 5,
        "keep-mb": 1024,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    config = RunConfig.model_validate(
        {
            "model": {"encoder": {"name": options.encoder}},
            "augment": {"crop_px": options.crop},
            "training": {
                "batch_size": options.batch,
                "workers": options.workers,
                "keep_mb": options.keep_mb,
                "precision": options.precision,
                "learning_rate": 1e-5,
            },
        }
    )
    device = pick_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        samples = write_samples(Path(folder), options.batch * options.steps, options.side)
        rates = measure(config, samples, device, rounds=options.rounds)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {vars(options)}")
    print(table(rates))


def write_samples(folder: Path, count: int, side: int) -> list[Sample]:
    """Write PNG images that compress about as well as tissue does, and return them as samples of two classes."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(count):
        coarse = rng.integers(120, 230, (side // 8, side // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
        pixels = (coarse + rng.integers(-12, 13, coarse.shape)).astype(np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(pixels).save(path)
        samples.append(Sample(image=path, mask=None, label=index % 2, group=""))
    return samples


def measure(
    config: RunConfig, samples: Sequence[Sample], device: torch.device, *, rounds: int
) -> dict[str, list[float]]:
    """Return images a second of each round, of the loop and bare; a first round warms both up."""
    training = start(config, device, ALONE, Path("no such run"))
    trainer = Trainer(training, samples, Quiet())
    contenders: dict[str, Callable[[int], object]] = {
        "bare": bare_steps(training, len(samples)),
        "loop": lambda epoch: trainer.run(epoch, Quiet()),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            _wait(device)
            began = time.perf_counter()
            run(turn)
            _wait(device)
            if turn:
                rates[name].append(len(samples) / (time.perf_counter() - began))
    return rates


def bare_steps(training: Training, count: int) -> Callable[[int], None]:
    """Return a function that trains on `count` images that are on the device already."""
    size, side = training.config.training.batch_size, training.config.augment.crop_px
    assert side is not None
    batches = [
        (
            torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, device=training.device).contiguous(
                memory_format=torch.channels_last
            ),
            torch.arange(n, device=training.device) % 2,
        )
        for n in (min(size, count - first) for first in range(0, count, size))
    ]

    def run(_: int) -> None:
        training.model.train()
        scaler = training.precision.scaler
        for image, label in batches:
            output = training.precision.forward(training.model, image)
            scaler.scale(training.model.loss(output, label).total).backward()
            scaler.step(training.optimizer)
            scaler.update()
            training.optimizer.zero_grad()

    return run


def table(rates: dict[str, list[float]]) -> str:
    """Return medians, spread, and how much of the bare rate each one reaches; the ratio is that of the rounds."""
    lines = []
    for name, values in rates.items():
        ratio = median(value / bare for value, bare in zip(values, rates["bare"], strict=True))
        lines.append(
            f"{name:5} {median(values):8.2f} images/s ({min(values):.2f}–{max(values):.2f}), {ratio:.2f} of bare"
        )
    return "\n".join(lines)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
