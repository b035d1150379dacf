"""Who is handed masks in training, and how the best epoch is chosen without, and with, a class output."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_training import CPU, LISTS, make_config
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.config import RunConfig, merge
from wsi_maxmin.data import read_samples
from wsi_maxmin.models.maxmin import MaxMin
from wsi_maxmin.models.unet import UNet
from wsi_maxmin.training import check_method, train

pytestmark = pytest.mark.usefixtures("one_thread")


def method(name, params=None, **training):
    values = merge(make_config(**training).model_dump(), {"model": {"name": name, "params": params or {}}})
    values["model"]["params"].pop("sigma_step", None)
    if name == "unet":
        values["model"].pop("encoder")
    return RunConfig.model_validate(values)


@pytest.fixture
def run(tmp_path, labelled_folder):
    def start(config, name="out"):
        samples = read_samples(labelled_folder, LISTS, "train", seed=0)
        (tmp_path / name).mkdir()
        return train(config, samples, samples, tmp_path / name, device=CPU)

    return start


@pytest.fixture
def truths(monkeypatch):
    """Return a list that gets the truth of every loss."""
    seen = []
    for kind in (UNet, MaxMin):

        def spy(self, output, label, truth=None, loss=kind.loss):
            seen.append(truth)
            return loss(self, output, label, truth)

        monkeypatch.setattr(kind, "loss", spy)
    return seen


def write_masks(folder):
    """Mark the reddish images, which are the odd ones, as foreground; each mask at twice its image's size."""
    for index in range(8):
        Image.fromarray(np.full((128, 128), 255 * (index % 2), np.uint8)).save(folder / f"{index}_mask.png")


def log_of(result):
    return [json.loads(line) for line in result.model.with_name("metrics.jsonl").read_text().splitlines()]


def test_masks_of_a_weakly_supervised_method_may_be_there_and_broken(run, labelled_folder, truths):
    without = log_of(run(make_config(epochs=1)))
    for index in range(8):
        (labelled_folder / f"{index}_mask.png").write_bytes(b"not an image")
    assert log_of(run(make_config(epochs=1), "broken")) == without
    assert truths == [None] * 4
    assert not check_method(make_config(), CPU)


def test_a_method_that_learns_from_pixels_is_handed_masks_cut_like_its_images(run, labelled_folder, truths):
    write_masks(labelled_folder)
    config = method("unet", {"width": 2}, epochs=1)
    assert check_method(config, CPU)
    run(config)
    assert [(truth.shape, truth.dtype) for truth in truths] == [((4, 1, 48, 48), torch.uint8)] * 2
    assert sorted(float(mask.float().mean()) for truth in truths for mask in truth) == [0] * 4 + [1] * 4


def test_a_method_that_learns_from_pixels_is_chosen_by_its_masks(run, labelled_folder):
    """The two images of each kind are wholly foreground or wholly background: F1+ and F1− of 100 are within reach."""
    write_masks(labelled_folder)
    result = run(method("unet", {"width": 4}, epochs=6, learning_rate=0.1))
    lines = log_of(result)
    assert all(line["valid_accuracy"] is None for line in lines)
    scores = [line["valid_f1"] for line in lines]
    assert result.accuracy is None
    assert result.f1 == max(scores) == lines[-1]["best_f1"] > 80
    assert result.epoch == 6 - scores[::-1].index(max(scores)) == lines[-1]["best_epoch"]
    assert load_checkpoint(result.model).epoch == result.epoch


def test_a_method_without_classes_and_masks_keeps_its_last_epoch(run):
    result = run(method("pn", epochs=2))
    assert (result.epoch, result.accuracy, result.f1) == (2, None, None)
    assert [(line["valid_accuracy"], line["best_accuracy"], line["best_epoch"]) for line in log_of(result)] == [
        (None, None, 1),
        (None, None, 2),
    ]
    assert load_checkpoint(result.model).epoch == 2


def test_such_a_method_goes_on_after_an_interruption(run, labelled_folder, tmp_path):
    whole = run(method("pn", epochs=2), "whole")
    run(method("pn", epochs=1))
    samples = read_samples(labelled_folder, LISTS, "train", seed=0)
    resumed = train(method("pn", epochs=2), samples, samples, tmp_path / "out", device=CPU)
    assert log_of(resumed) == log_of(whole)
