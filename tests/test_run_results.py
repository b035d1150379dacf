"""Reading finished trainings: the same from their folders and from what was gathered of them."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from wsi_maxmin.errors import InputError
from wsi_maxmin.run_results import read_run, read_runs, read_scores

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "benchmarks" / "results" / "glas"
SCORES = {"error": 5.0, "samples": 2, "f1_foreground": 60.5, "f1_background": 40.25, "threshold": 0.5}


def write_run(folder: Path, *, seed: int = 0, status: str = "done", scored: bool = True) -> Path:
    """Write what `train` and `evaluate` leave."""
    folder.mkdir(parents=True)
    times = [
        {"epoch": 1, "train_seconds": 2.0, "valid_seconds": 1.0},
        {"epoch": 2, "train_seconds": 2.0, "valid_seconds": 1.0},
    ]
    facts = {
        "status": status,
        "settings": {"command": "train", "name": "maxmin-sem", "seed": seed, "training": {"batch_size": 4}},
        "environment": {"packages": {"torch": "2"}},
        "device": "cpu",
        "best_epoch": 2,
        "epochs": times,
    }
    (folder / "run.json").write_text(json.dumps(facts))
    lines = [json.dumps({"epoch": epoch, "loss_total": 1 / epoch}) for epoch in (1, 2)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "model.safetensors").write_bytes(b"weights")
    if scored:
        (folder / "scores").mkdir()
        (folder / "scores" / "scores.json").write_text(json.dumps(SCORES))
        (folder / "scores" / "images.csv").write_text(
            "image,label,predicted,f1_foreground,predicted_fraction\n7,benign,,60.5,0.25\n8,malignant,benign,,1\n"
        )
    return folder


def test_a_run_is_its_settings_losses_scores_and_images(tmp_path):
    run = read_run(write_run(tmp_path / "maxmin-sem-s3", seed=3))
    assert (run.name, run.seed, run.best_epoch, run.seconds, run.device) == ("maxmin-sem", 3, 2, 6.0, "cpu")
    assert [epoch["loss_total"] for epoch in run.epochs] == [1.0, 0.5]
    assert run.scores == SCORES
    first = {"image": "7", "label": "benign", "predicted": None, "f1_foreground": 60.5, "predicted_fraction": 0.25}
    assert run.images is not None
    assert run.images[0] == first
    assert run.images[1]["f1_foreground"] is None
    assert run.model == tmp_path / "maxmin-sem-s3" / "model.safetensors"


def test_an_unfinished_run_is_read_as_far_as_it_came_where_that_is_asked_for(tmp_path):
    folder = write_run(tmp_path / "run", status="interrupted", scored=False)
    facts = json.loads((folder / "run.json").read_text())
    del facts["best_epoch"]
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "best_epoch": 1}\n{"epoch": 2, "best_epoch": 1}\n')
    with pytest.raises(InputError, match="no finished training"):
        read_run(folder)
    run = read_run(folder, unfinished=True)
    assert (run.best_epoch, len(run.epochs), run.scores, run.images) == (1, 2, None, None)
    (folder / "metrics.jsonl").unlink()
    assert read_run(folder, unfinished=True).best_epoch == 0
    (folder / "run.json").write_text('{"status": "done"}')
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        read_run(folder)


def test_scores_are_read_without_their_training(tmp_path):
    scores, images = read_scores(write_run(tmp_path / "run") / "scores")
    assert scores == SCORES
    assert images is not None
    assert [row["image"] for row in images] == ["7", "8"]
    assert read_scores(tmp_path) == (None, None)


def test_folders_of_runs_are_looked_into_and_the_unfinished_left_out(tmp_path):
    write_run(tmp_path / "runs" / "b-s1", seed=1)
    write_run(tmp_path / "runs" / "b-s0")
    write_run(tmp_path / "runs" / "a-s0", status="stopped")
    unscored = write_run(tmp_path / "glas", scored=False)
    runs = read_runs([tmp_path / "runs", unscored])
    assert [(run.name, run.seed) for run in runs] == [("b", 0), ("b", 1), ("glas", 0)]
    assert runs[2].scores is runs[2].images is None
    assert read_runs([tmp_path / "runs" / "a-s0"]) == []


def test_gathered_runs_are_the_same_runs_without_their_models(tmp_path):
    spec = importlib.util.spec_from_file_location("gather_runs", ROOT / "scripts" / "gather_runs.py")
    gather = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gather)
    folder = write_run(tmp_path / "maxmin-sem-s3", seed=3)
    for value in (0.1, 0.5):
        (folder / "sweeps" / f"sigma-{value}").mkdir(parents=True)
        swept = SCORES | {
            "changed": {"model.params.sigma": value},
            "predicted_fraction": 0.5,
            "split": "valid",
            "model": "a",
        }
        (folder / "sweeps" / f"sigma-{value}" / "scores.json").write_text(json.dumps(swept))
    gather.main([str(folder), "--out", str(tmp_path / "gathered")])
    (gathered,), (own,) = read_runs([tmp_path / "gathered"]), read_runs([folder])
    for name in ("name", "seed", "epochs", "best_epoch", "seconds", "device", "packages", "scores", "images"):
        assert getattr(gathered, name) == getattr(own, name), name
    assert [of["changed"]["model.params.sigma"] for of in gathered.sweep] == [0.1, 0.5]
    for kept, whole in zip(gathered.sweep, own.sweep, strict=True):
        assert kept.items() <= whole.items()
    assert gathered.settings["training"] == own.settings["training"]
    assert gathered.folder is gathered.model is None


def test_the_results_of_this_repository_are_read():
    runs = {(run.name, run.seed): run for run in read_runs([COMMITTED])}
    sem = [runs["maxmin-sem", seed] for seed in (0, 1, 2)]
    assert [round(run.scores["f1_foreground"], 2) for run in sem] == [57.57, 60.50, 59.86]
    for run in runs.values():
        assert [epoch["epoch"] for epoch in run.epochs] == list(range(1, len(run.epochs) + 1))
        assert bool(run.epochs) == (run.name != "all-ones")
        assert run.scores["masks"] == len(run.images) == 18


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda run: (run / "scores" / "scores.json").write_text("{"), "scores.json is damaged; expected JSON"),
        (lambda run: (run / "metrics.jsonl").write_text('{"epoch"'), "metrics.jsonl is damaged; expected a JSON"),
        (lambda run: (run / "scores" / "images.csv").write_text("image,f1\n7,high\n"), "images.csv is damaged; got"),
        (lambda run: (run / "run.json").write_text('{"status": "done"}'), "run.json is damaged; got no 'settings'"),
        (lambda run: (run / "run.json").write_text("{"), "no finished training"),
        (
            lambda run: (run / "scores" / "scores.json").write_text('{"changed": {"model.params.sigma": 0.5}}'),
            r"is of the model with other parameters; got .*0\.5.*; wsi-maxmin evaluate .*a-s0 --data DIR",
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, break_it, message):
    run = write_run(tmp_path / "a-s0")
    break_it(run)
    with pytest.raises(InputError, match=message):
        read_run(run)


def test_a_damaged_file_of_gathered_runs_is_named(tmp_path):
    (tmp_path / "runs.json").write_text('{"a-s0": {"settings": {"seed": 0}}}')
    with pytest.raises(InputError, match=r"runs\.json: a-s0 is damaged; got no 'best_epoch'"):
        read_runs([tmp_path])


def test_two_runs_of_one_name_and_seed_are_refused(tmp_path):
    first = write_run(tmp_path / "one" / "a-s0")
    shutil.copytree(first, tmp_path / "two" / "a-s0")
    with pytest.raises(InputError, match="two runs are called a with seed 0"):
        read_runs([first, tmp_path / "two"])
    shutil.copytree(first, tmp_path / "one" / "a")
    with pytest.raises(InputError, match="two runs are called a with seed 0"):
        read_runs([tmp_path / "one"])
    assert len(read_runs([first, first])) == 1


def test_a_folder_without_runs_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"no runs; got .*; wsi-maxmin train CONFIG"):
            read_runs([folder])


def test_the_folder_of_reproduce_is_read_as_its_runs(tmp_path):
    write_run(tmp_path / "out" / "runs" / "maxmin-sem-s0")
    write_run(tmp_path / "out" / "runs" / "maxmin-sem-s1", seed=1, status="interrupted")
    (tmp_path / "out" / "tables").mkdir()
    assert read_runs([tmp_path / "out"]) == read_runs([tmp_path / "out" / "runs"])
    assert [run.seed for run in read_runs([tmp_path / "out"])] == [0]
