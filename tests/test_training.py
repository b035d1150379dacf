import contextlib
import dataclasses
import json
import sys
import types
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.config import DataConfig, RunConfig, merge
from wsi_maxmin.data import read_samples
from wsi_maxmin.errors import DivergedError, InputError, MissingExtraError, OutputExistsError
from wsi_maxmin.progress import Quiet
from wsi_maxmin.training import check_method, train
from wsi_maxmin.training._loop import _Limit

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


KINDS = {
    "plain": {},
    "accumulated": {"epochs": 2, "accumulate": 2, "batch_size": 2, "decay": 0.5, "decay_every": 1},
    "bf16": {"epochs": 2, "precision": "bf16", "repeat": 2},
    "fp16": {"epochs": 2, "precision": "fp16", "balance_classes": True},
}


@pytest.mark.parametrize(
    ("kind", "batches"),
    [("plain", 1), ("plain", 2), ("plain", 3), ("plain", 7), ("accumulated", 6), ("bf16", 6), ("fp16", 3)],
)
def test_a_run_interrupted_and_resumed_equals_one_that_never_stopped_to_the_bit(run, kind, batches):
    config = make_config(**KINDS[kind])
    whole = run("whole", config)
    with pytest.raises(KeyboardInterrupt):
        run("broken", config, progress=StopAfter(batches))
    assert_same(run("broken", config), whole)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_loader_processes_change_nothing_not_even_when_a_run_is_resumed(run):
    """They stay from epoch to epoch; a resumed run starts them anew."""
    whole = run("whole", make_config(epochs=3))
    with pytest.raises(KeyboardInterrupt):
        run("broken", make_config(epochs=3, workers=1), progress=StopAfter(3))
    assert_same(run("broken", make_config(epochs=3, workers=1)), whole)


def assert_same(ours, theirs):
    assert dataclasses.replace(ours, model=theirs.model) == theirs
    assert ours.model.with_name("metrics.jsonl").read_bytes() == theirs.model.with_name("metrics.jsonl").read_bytes()
    for name in ("model.safetensors", "last.safetensors"):
        mine, expected = (load_checkpoint(result.model.with_name(name)) for result in (ours, theirs))
        assert (mine.epoch, mine.metrics) == (expected.epoch, expected.metrics)
        for field in ("weights", "optimizer"):
            tensors = getattr(expected, field)
            assert set(getattr(mine, field)) == set(tensors) != set()
            assert all(torch.equal(value, tensors[key]) for key, value in getattr(mine, field).items())


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


def without_batch_norm(**training):
    """Return a config whose gradients do not depend on how its samples are put together."""
    encoder = {"name": "test_vit", "options": {"img_size": 48}}
    model = {"encoder": encoder, "params": {"mask_norm": "image", "dropout": 0}}
    values = merge(make_config(**training).model_dump(), {"model": model})
    return RunConfig.model_validate(values)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 2), (1, 5)])
def test_accumulated_batches_take_the_steps_of_one_as_large_as_all_of_them(run, batch_size, accumulate):
    """Steps of 5 of the 8 samples leave a smaller last one."""
    whole = read_log(run("whole", without_batch_norm(epochs=3, batch_size=batch_size * accumulate)).model.parent)
    parts = without_batch_norm(epochs=3, batch_size=batch_size, accumulate=accumulate)
    for got, expected in zip(read_log(run("parts", parts).model.parent), whole, strict=True):
        assert got == pytest.approx(expected, rel=1e-4)


def test_an_epoch_that_repeats_the_samples_augments_each_showing_in_its_own_way(run):
    """With no step worth the name, two rounds of still images lose the same, two of augmented ones do not."""
    losses = {}
    for augment, name in ((STILL, "still"), ({"crop_px": 48}, "moved")):
        for repeat in (1, 2):
            config = make_config(augment, epochs=1, batch_size=8, learning_rate=1e-30, repeat=repeat)
            values = merge(config.model_dump(), {"model": {"params": {"dropout": 0, "mask_norm": "image"}}})
            (line,) = read_log(run(f"{name} {repeat}", RunConfig.model_validate(values)).model.parent)
            losses[name, repeat] = line["loss_image"]
    assert losses["still", 2] == pytest.approx(losses["still", 1], abs=1e-6)
    assert abs(losses["moved", 2] - losses["moved", 1]) > 1e-5


def test_a_run_out_of_time_stops_after_an_epoch_and_goes_on_as_if_it_had_not(run):
    whole = run("whole", make_config(epochs=3))
    config = make_config(epochs=3, max_minutes=1e-6)
    for done in (1, 2):
        result = run("parts", config)
        assert (result.done, result.stopped) == (done, True)
    assert_same(run("parts", config), whole)
    assert not whole.stopped


def test_a_run_stops_before_an_epoch_that_would_take_it_past_its_end(monkeypatch):
    now = iter([0, 0, 60, 200, 250])
    monkeypatch.setattr("wsi_maxmin.training._loop.time.monotonic", lambda: next(now))
    limit = _Limit(minutes=6)
    assert not limit.ends_before_the_next()
    assert not limit.ends_before_the_next()
    assert limit.ends_before_the_next()


def test_time_without_end_stops_nothing():
    assert not _Limit(None).ends_before_the_next()


def test_a_training_starts_from_another_model_s_weights_and_its_own_schedules(run):
    first = run("first", make_config(epochs=2)).model
    model = {"params": {"sigma": 0.3, "barrier_t": 7.0}}
    config = RunConfig.model_validate(
        merge(make_config(epochs=1, start_from=str(first), learning_rate=1e-12).model_dump(), {"model": model})
    )
    second = load_checkpoint(run("second", config).model).weights
    before = load_checkpoint(first).weights
    for name, value in second.items():
        if name in ("sigma", "barrier_t"):
            continue
        if "running" not in name and "mask_norm" not in name and "num_batches" not in name:
            torch.testing.assert_close(value, before[name])
    assert second["sigma"] == pytest.approx(0.3)
    assert second["barrier_t"] == pytest.approx(7.07)


@pytest.mark.parametrize("change", [{"params": {"modalities": 2}}, {"name": "wildcat"}])
def test_weights_of_another_kind_of_model_are_refused(run, change):
    first = run("first", make_config(epochs=1)).model
    base = make_config(epochs=1, start_from=str(first)).model_dump()
    model = {**base["model"], "params": {}, **change}
    with pytest.raises(InputError, match="of another method, encoder or number of classes"):
        run("second", RunConfig.model_validate({**base, "model": model}))


def test_a_method_without_parameters_has_nothing_to_train(run):
    config = RunConfig.model_validate({"model": {"name": "constant"}})
    with pytest.raises(InputError, match=r"constant has nothing to train; evaluate its config instead"):
        run("out", config)


class Board:
    """Stands in for TensorBoard's writer."""

    written: ClassVar[list] = []

    def __init__(self, folder, purge_step):
        self.written.append((folder, purge_step))

    def add_scalar(self, name, value, step):
        self.written.append((name, value, step))

    def flush(self):
        pass

    def close(self):
        self.written.append("closed")


def test_tensorboard_gets_every_number_of_the_log(run, monkeypatch):
    board = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Board
    monkeypatch.setitem(sys.modules, board.__name__, board)
    for epochs in (1, 2):
        result = run("out", make_config(epochs=epochs, tensorboard=True))
    folder = str(result.model.parent / "tensorboard")
    lines = [{key: value for key, value in line.items() if key != "epoch"} for line in read_log(result.model.parent)]
    expected = [[(name, value, epoch) for name, value in line.items()] for epoch, line in enumerate(lines, start=1)]
    assert Board.written == [(folder, 1), *expected[0], "closed", (folder, 2), *expected[1], "closed"]


def test_tensorboard_writes_files_where_it_is_installed(run):
    pytest.importorskip("tensorboard")
    result = run("out", make_config(epochs=1, tensorboard=True))
    assert any(path.stat().st_size for path in (result.model.parent / "tensorboard").glob("events*"))


def test_a_missing_tensorboard_is_an_error_that_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r'got no tensorboard; pip install "wsi-maxmin\[tensorboard\]"'):
        run("out", make_config(tensorboard=True))
    with pytest.raises(MissingExtraError):
        check_method(make_config(tensorboard=True), CPU)
