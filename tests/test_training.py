import collections
import contextlib
import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.config import DataConfig, RunConfig, TrainingConfig, merge
from wsi_maxmin.data import read_samples
from wsi_maxmin.errors import DivergedError, OutputExistsError
from wsi_maxmin.progress import Quiet
from wsi_maxmin.training import epoch_order, learning_rate, train

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LISTS = DataConfig(train="labels.csv", valid="labels.csv")


STILL = {"crop_px": None, "jitter": (0, 0, 0, 0), "horizontal_flip": 0, "vertical_flip": 0, "rotate_90": False}


def make_config(augment=None, **training):
    values = {
        "data": LISTS.model_dump(),
        "augment": augment or {"crop_px": 48},
        "model": {"encoder": {"name": "test_resnet"}, "params": {"sigma_step": 0.001}},
        "training": {"epochs": 4, "batch_size": 4, "learning_rate": 0.01, "workers": 0},
    }
    return RunConfig.model_validate(merge(values, {"training": training}))


@pytest.fixture
def samples(labelled_folder):
    """Return eight samples whose mask files are absent."""
    found = read_samples(labelled_folder, LISTS, "train", seed=0)
    assert not any(sample.mask.exists() for sample in found)
    return found


@pytest.fixture
def run(tmp_path, samples):
    """Return a function that trains in a folder of the given name."""

    def start(name, config, *, progress=None):
        (tmp_path / name).mkdir(exist_ok=True)
        return train(config, samples, samples, tmp_path / name, device=CPU, progress=progress)

    return start


def read_log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class StopAfter(Quiet):
    """Interrupt a run, as Ctrl-C would, once it has seen so many batches."""

    def __init__(self, batches):
        self.left = batches

    @contextlib.contextmanager
    def track(self, what, total, *, unit, done=0):  # noqa: ARG002 - the protocol's signature
        def advance(count=1, *, note=""):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

        yield advance


def test_a_tiny_model_overfits_eight_patches_without_ever_seeing_a_mask(run):
    result = run("out", make_config(epochs=12))
    assert result.accuracy == 100
    losses = [line["loss_foreground"] for line in read_log(result.model.parent)]
    assert losses[-1] < losses[0] / 2


def test_a_run_leaves_a_line_an_epoch_and_the_best_model_ties_to_the_latest(run):
    result = run("out", make_config(epochs=6, decay=0.5, decay_every=4))
    log = read_log(result.model.parent)
    accuracies = [line["valid_accuracy"] for line in log]
    assert [line["epoch"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert [line["learning_rate"] for line in log] == [0.01] * 4 + [0.005] * 2
    assert {"loss_total", "loss_image", "loss_foreground", "loss_background", "loss_barrier"} <= set(log[0])
    assert result.accuracy == max(accuracies) == log[-1]["best_accuracy"]
    assert result.epoch == 6 - accuracies[::-1].index(max(accuracies)) == log[-1]["best_epoch"]
    best, last = (load_checkpoint(result.model.with_name(f"{name}.safetensors")) for name in ("model", "last"))
    assert (best.epoch, last.epoch) == (result.epoch, 6)
    assert best.metrics == log[result.epoch - 1]
    assert last.weights["sigma"].item() == pytest.approx(0.156)
    assert (last.facts["train"], last.facts["valid"]) == (8, 8)


@pytest.mark.parametrize("batches", [1, 2, 3, 7])
def test_a_run_interrupted_and_resumed_equals_one_that_never_stopped_to_the_bit(run, batches):
    whole = run("whole", make_config())
    with pytest.raises(KeyboardInterrupt):
        run("broken", make_config(), progress=StopAfter(batches))
    resumed = run("broken", make_config())
    assert dataclasses.replace(resumed, model=whole.model) == whole
    assert read_log(resumed.model.parent) == read_log(whole.model.parent)
    for name in ("model.safetensors", "last.safetensors"):
        ours, theirs = (load_checkpoint(result.model.with_name(name)) for result in (resumed, whole))
        assert (ours.epoch, ours.metrics) == (theirs.epoch, theirs.metrics)
        for field in ("weights", "optimizer"):
            expected = getattr(theirs, field)
            assert set(getattr(ours, field)) == set(expected) != set()
            assert all(torch.equal(value, expected[key]) for key, value in getattr(ours, field).items())


def test_an_epoch_that_was_logged_but_not_saved_is_logged_once(run):
    whole = run("whole", make_config())
    with pytest.raises(KeyboardInterrupt):
        run("broken", make_config(), progress=StopAfter(5))
    log = whole.model.with_name("metrics.jsonl").read_text().splitlines(keepends=True)
    broken = whole.model.parent.with_name("broken")
    (broken / "metrics.jsonl").write_text("".join(log[:3])[:-20])
    run("broken", make_config())
    assert (broken / "metrics.jsonl").read_text() == "".join(log)


def test_a_finished_run_is_left_as_it_is(run):
    first = run("out", make_config(epochs=1))
    before = first.model.with_name("last.safetensors").stat().st_mtime_ns
    assert run("out", make_config(epochs=1)) == first
    assert first.model.with_name("last.safetensors").stat().st_mtime_ns == before


def test_a_run_of_another_config_is_not_continued(run):
    run("out", make_config(epochs=1))
    with pytest.raises(OutputExistsError, match="holds a run of another config; got a change of training; use another"):
        run("out", make_config(epochs=1, momentum=0.5))


def test_another_seed_gives_another_model(run):
    losses = [
        read_log(run(f"seed{seed}", make_config(epochs=1).model_copy(update={"seed": seed})).model.parent)
        for seed in (0, 1)
    ]
    assert losses[0][0]["loss_total"] != losses[1][0]["loss_total"]


@pytest.mark.parametrize(("augment", "differ"), [({"crop_px": 48}, True), (STILL, False)])
def test_every_epoch_sees_other_augmentations_of_the_same_images(run, augment, differ):
    still = make_config(augment, epochs=2, batch_size=8, learning_rate=1e-30, learning_rate_floor=0)
    params = {"dropout": 0, "background": "none", "barrier": False}
    config = RunConfig.model_validate(merge(still.model_dump(), {"model": {"params": params}}))
    first, second = (line["loss_image"] for line in read_log(run("out", config).model.parent))
    assert (abs(first - second) > 1e-5) == differ


def test_images_of_any_size_are_validated(run, samples):
    for index, sample in enumerate(samples[:3]):
        Image.fromarray(np.full((64 + 8 * index, 96, 3), 90, dtype=np.uint8)).save(sample.image)
    assert 0 <= run("out", make_config(epochs=1)).accuracy <= 100


def test_a_loss_that_is_no_longer_a_number_stops_the_run_with_a_remedy(run, tmp_path):
    with pytest.raises(DivergedError, match=r"not a number in epoch \d; got .*; lower training\.learning_rate"):
        run("out", make_config(learning_rate=1e30))
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 1e-3), (9, 1e-3), (10, 9e-4), (79, 1e-3 * 0.9**7), (870, 1e-3 * 0.9**87), (880, 1e-7)]
)
def test_the_learning_rate_falls_in_steps_to_its_floor(epoch, expected):
    assert learning_rate(TrainingConfig(), epoch) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 5))
def test_an_unbalanced_epoch_shows_every_sample_once(labels, epoch):
    assert sorted(epoch_order(labels, balance=False, seed=0, epoch=epoch)) == list(range(len(labels)))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 5))
def test_a_balanced_epoch_shows_every_class_equally_often_and_takes_turns_within_a_class(labels, epoch):
    order = epoch_order(labels, balance=True, seed=0, epoch=epoch)
    shown = collections.Counter(labels[index] for index in order)
    assert set(shown) == set(labels)
    assert len(set(shown.values())) == 1
    assert len(labels) <= len(order) < len(labels) + len(shown)
    turns = collections.Counter(order)
    for label in shown:
        times = [turns[index] for index, own in enumerate(labels) if own == label]
        assert max(times) - min(times) <= 1


def test_the_order_depends_on_seed_and_epoch():
    orders = {tuple(epoch_order([0] * 20, balance=False, seed=seed, epoch=e)) for seed in (0, 1) for e in (0, 1)}
    assert len(orders) == 4
