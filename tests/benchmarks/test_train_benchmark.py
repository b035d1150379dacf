"""The benchmark of training: loop and bare steps do the same work, and its table says what was measured."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_maxmin.config import RunConfig
from wsi_maxmin.training import ALONE
from wsi_maxmin.training._state import start

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("train")


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"encoder": {"name": "test_resnet"}},
            "augment": {"crop_px": 48},
            "training": {"batch_size": 2, "workers": 0},
        }
    )


def test_its_images_are_of_two_classes_and_do_not_compress_to_nothing(benchmark, tmp_path):
    samples = benchmark.write_samples(tmp_path, 3, 64)
    assert [sample.label for sample in samples] == [0, 1, 0]
    for sample in samples:
        with Image.open(sample.image) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")
        assert sample.image.stat().st_size > 64 * 64


def test_every_round_times_both_once_on_the_same_number_of_images(benchmark, config, tmp_path):
    rates = benchmark.measure(config, benchmark.write_samples(tmp_path, 5, 64), CPU, rounds=2)
    assert {name: len(values) for name, values in rates.items()} == {"bare": 2, "loop": 2}
    assert all(np.isfinite(value) and value > 0 for values in rates.values() for value in values)


def test_bare_steps_train_the_model_on_as_many_images(benchmark, config, monkeypatch):
    training = start(config, CPU, ALONE, Path("no such run"))
    shown = []
    forward = training.precision.forward
    monkeypatch.setattr(
        training.precision, "forward", lambda net, image: shown.append(len(image)) or forward(net, image)
    )
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    benchmark.bare_steps(training, 5)(0)
    assert shown == [2, 2, 1]
    assert all(not torch.equal(value, before[name]) for name, value in training.model.named_parameters())


def test_a_table_gives_medians_spread_and_the_median_ratio_of_the_rounds(benchmark):
    lines = benchmark.table({"bare": [10.0, 20.0, 40.0], "loop": [9.0, 19.0, 30.0]}).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "bare 20.00 images/s (10.00–40.00), 1.00 of bare",
        "loop 19.00 images/s (9.00–30.00), 0.90 of bare",
    ]
