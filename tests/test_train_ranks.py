"""Several processes that train one model, on the CPU with gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from torch import nn

from tests.test_training import CPU, LISTS, make_config, read_log, without_batch_norm
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.config import RunConfig, merge
from wsi_maxmin.data import read_samples
from wsi_maxmin.errors import DivergedError, InputError, OutputExistsError, WorkerDiedError
from wsi_maxmin.pipelines.train import train_model
from wsi_maxmin.training import ALONE, Ranks, join_ranks, plan_ranks, train

pytestmark = pytest.mark.usefixtures("one_thread")

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def under_torchrun(monkeypatch, *values):
    for name, value in zip(TORCHRUN, values, strict=True):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("devices", [1, 2])
def test_a_process_that_was_started_alone_is_the_first_of_as_many_as_the_config_says(devices):
    ranks, device = plan_ranks(devices, "cpu")
    assert (ranks, device) == (Ranks(count=devices), CPU)
    assert ranks.first


def test_torchrun_says_which_process_this_is(monkeypatch):
    under_torchrun(monkeypatch, 5, 8, 1)
    for devices in (1, 8):
        ranks, _ = plan_ranks(devices, "cpu")
        assert ranks == Ranks(rank=5, count=8, place=1, torchrun=True)
    assert not ranks.first
    with pytest.raises(InputError, match=r"another number of processes .*; got 8, and training\.devices=4"):
        plan_ranks(4, "cpu")


def test_gpus_that_are_not_there_are_an_error_before_anything_starts(monkeypatch):
    monkeypatch.setattr("wsi_maxmin.training._ranks.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert plan_ranks(2, "cuda") == (Ranks(count=2), torch.device("cuda", 0))
    under_torchrun(monkeypatch, 3, 4, 1)
    assert plan_ranks(1, "cuda")[1] == torch.device("cuda", 1)
    for name in TORCHRUN:
        monkeypatch.delenv(name)
    for devices, name in ((3, "cuda"), (2, "cuda:1"), (2, "mps")):
        with pytest.raises(
            InputError, match=rf"not here; got {devices} times --device {name}; the number of GPUs is 2"
        ):
            plan_ranks(devices, name)


def test_a_process_alone_needs_none_of_it():
    layer, values = nn.BatchNorm2d(2), torch.tensor([1.0, 2.0])
    assert ALONE.wrap(layer) is layer
    assert ALONE.total(values) is values
    assert [ALONE.agree(decision, CPU) for decision in (True, False)] == [True, False]
    ALONE.average_buffers(layer)
    with join_ranks(ALONE, CPU, None), ALONE.hold_back(layer, until_later=True):
        assert not torch.distributed.is_initialized()


class Counting(nn.Module):
    """Buffers as a model has them: statistics, a schedule, a count."""

    def __init__(self, rank):
        super().__init__()
        self.register_buffer("statistic", torch.tensor([1.0, 4.0]) * (rank + 1))
        self.register_buffer("sigma", torch.tensor(0.1))
        self.register_buffer("batches", torch.tensor(7))


def meet(folder, ranks, device):
    """Do what ranks do together; leave what came of it."""
    model = Counting(ranks.rank)
    ranks.average_buffers(model)
    facts = {
        "total": ranks.total(torch.tensor([ranks.rank + 1.0])).item(),
        "statistic": model.statistic.tolist(),
        "sigma": float(model.sigma) == float(torch.tensor(0.1)),
        "batches": int(model.batches),
        "agreed": [ranks.agree(ranks.first, device), ranks.agree(not ranks.first, device)],
        "interrupts": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
    }
    (folder / f"{ranks.rank}.json").write_text(json.dumps(facts))


@pytest.mark.slow
def test_ranks_add_average_and_agree(tmp_path):
    """Three of them: the mean of three equal float32 values need not be that value, unless the sum is exact."""
    ranks, device = plan_ranks(3, "cpu")
    with join_ranks(ranks, device, partial(meet, tmp_path)):
        meet(tmp_path, ranks, device)
    facts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    for rank, fact in enumerate(facts):
        assert fact.pop("interrupts") == (rank > 0)
        expected = {"total": 6, "statistic": [2, 8], "sigma": True, "batches": 7, "agreed": [True, False]}
        assert fact == expected


def train_in(out, root, config, ranks, device):
    """Train, and leave the buffers that this rank ends with."""
    samples = read_samples(root, LISTS, "train", seed=0)
    kept = []
    average = Ranks.average_buffers

    def spy(self, model):
        average(self, model)
        kept.append({name: value.clone() for name, value in model.named_buffers()})

    Ranks.average_buffers = spy
    try:
        result = train(config, samples, samples, out, device=device, ranks=ranks)
    finally:
        Ranks.average_buffers = average
    torch.save(kept[-1] if kept else {}, out.with_name(f"{out.name}-{ranks.rank}.pt"))
    return result


@pytest.fixture
def run(tmp_path, labelled_folder):
    def start(name, config, count):
        (tmp_path / name).mkdir(exist_ok=True)
        work = partial(train_in, tmp_path / name, labelled_folder, config)
        ranks, device = plan_ranks(count, "cpu")
        with join_ranks(ranks, device, work):
            return work(ranks, device)

    return start


def without_images(root, folder, config, ranks, device):
    """Train while the images disappear after the first epoch."""
    samples = read_samples(root, LISTS, "train", seed=0)
    average = Ranks.average_buffers

    def remove(self, model):
        average(self, model)
        if self.first:
            for sample in samples:
                sample.image.unlink(missing_ok=True)

    Ranks.average_buffers = remove
    try:
        return train(config, samples, samples, folder, device=device, ranks=ranks)
    finally:
        Ranks.average_buffers = average


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loader processes are not forked")
def test_loader_processes_of_every_rank_share_what_it_keeps(tmp_path, labelled_folder):
    config = make_config(epochs=2, workers=1)
    work = partial(without_images, labelled_folder, tmp_path, config)
    ranks, device = plan_ranks(2, "cpu")
    with join_ranks(ranks, device, work):
        assert work(ranks, device).done == 2


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "accumulate"), [(3, 1), (1, 2)])
def test_two_processes_learn_what_one_learns_with_twice_the_batch(run, batch_size, accumulate):
    """Batches of 3 leave 2 of the 8 samples for the last one: a sample for each."""
    parts = without_batch_norm(epochs=3, batch_size=batch_size, accumulate=accumulate)
    whole = without_batch_norm(epochs=3, batch_size=2 * batch_size, accumulate=accumulate)
    two, one = (run(name, config, count) for name, config, count in (("two", parts, 2), ("one", whole, 1)))
    for got, expected in zip(read_log(two.model.parent), read_log(one.model.parent), strict=True):
        assert got == pytest.approx(expected, rel=1e-4)
    got, expected = (load_checkpoint(result.model) for result in (two, one))
    for name, value in expected.weights.items():
        torch.testing.assert_close(got.weights[name], value, rtol=1e-3, atol=1e-5)
    assert (got.facts["processes"], expected.facts["processes"]) == (2, 1)


@pytest.mark.slow
def test_running_statistics_are_the_same_on_all_ranks_and_the_first_alone_writes(run, tmp_path):
    result = run("two", make_config(epochs=2, batch_size=2), 2)
    first, second = (torch.load(tmp_path / f"two-{rank}.pt") for rank in (0, 1))
    assert {"mask_norm.low", "mask_norm.high", "encoder.body.bn1.running_var", "sigma"} <= set(first)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert first["mask_norm.low"] != 0
    assert [line["epoch"] for line in read_log(result.model.parent)] == [1, 2]
    names = {path.name for path in result.model.parent.iterdir()}
    assert names == {"model.safetensors", "last.safetensors", "metrics.jsonl"}


@pytest.mark.slow
def test_a_resumed_run_of_two_processes_equals_one_that_never_stopped_and_no_other_number_takes_it_up(run):
    config = make_config(epochs=2, batch_size=2)
    whole = run("whole", config, 2)
    limited = RunConfig.model_validate(merge(config.model_dump(), {"training": {"max_minutes": 1e-6}}))
    assert run("parts", limited, 2).stopped
    with pytest.raises(OutputExistsError, match="a change of the number of processes, from 2 to 1"):
        run("parts", config, 1)
    parts = run("parts", config, 2)
    assert read_log(parts.model.parent) == read_log(whole.model.parent)
    got, expected = (load_checkpoint(result.model.with_name("last.safetensors")) for result in (parts, whole))
    assert all(torch.equal(value, expected.weights[name]) for name, value in got.weights.items())


@pytest.mark.slow
def test_an_error_of_all_ranks_is_told_as_what_it_is(run):
    with pytest.raises(DivergedError, match="not a number in epoch"):
        run("out", make_config(learning_rate=1e30, batch_size=2), 2)


def end_or_wait(ranks, device):
    """Leave, as a process that was killed does; the first waits for it."""
    if not ranks.first:
        os._exit(3)
    ranks.total(torch.zeros(1))


@pytest.mark.slow
def test_a_rank_that_is_gone_ends_the_run_with_an_error():
    ranks, device = plan_ranks(2, "cpu")
    began = time.monotonic()
    with (
        pytest.raises(WorkerDiedError, match=r"has ended; got rank 1: exit code 3; .*--resume"),
        join_ranks(ranks, device, end_or_wait),
    ):
        end_or_wait(ranks, device)
    assert time.monotonic() - began < 60


def fail_alone(ranks, device):
    """Meet what the first rank does not: a file of one's own share that cannot be read."""
    if not ranks.first:
        raise InputError("an image cannot be read", got="7.png")
    ranks.total(torch.zeros(1))


@pytest.mark.slow
def test_an_error_of_another_rank_is_the_error_of_the_run():
    ranks, device = plan_ranks(2, "cpu")
    with (
        pytest.raises(InputError, match=r"^an image cannot be read; got 7\.png$"),
        join_ranks(ranks, device, fail_alone),
    ):
        fail_alone(ranks, device)


def wait_for_the_first(ranks, device):
    ranks.total(torch.zeros(1))


@pytest.mark.slow
def test_an_error_of_the_first_rank_alone_is_not_blamed_on_the_others():
    """Such as memory that is used up: the others then lose their connection to it."""
    ranks, device = plan_ranks(2, "cpu")
    with pytest.raises(RuntimeError, match=r"^out of memory$"), join_ranks(ranks, device, wait_for_the_first):
        raise RuntimeError("out of memory")


@pytest.mark.slow
def test_torchrun_and_the_config_s_devices_give_the_same_run(tmp_path, labelled_folder):
    config = tmp_path / "own.yaml"
    config.write_text(
        "data: {train: labels.csv, valid: labels.csv}\naugment: {crop_px: 48}\n"
        "model: {encoder: {name: test_resnet}}\ntraining: {epochs: 2, batch_size: 2, workers: 0}\n"
    )
    program = tmp_path / "program.py"
    program.write_text("from wsi_maxmin.cli import main\n\nmain()\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", program, "train", config]
    command += ["--data", labelled_folder, "--out", tmp_path / "torchrun", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best epoch") == 1
    train_model(str(config), labelled_folder, tmp_path / "devices", overrides=["training.devices=2"], device="cpu")
    for name in ("torchrun", "devices"):
        assert json.loads((tmp_path / name / "run.json").read_text())["processes"] == 2
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("torchrun", "devices")]
    assert logs[0] == logs[1]
