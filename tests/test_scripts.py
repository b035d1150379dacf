"""The scripts: a backlog that goes on where it was stopped, and a data set that is packed without changing a pixel."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_maxmin.checkpoint import Checkpoint, save_checkpoint, state_of
from wsi_maxmin.config import RunConfig, list_configs, load_config
from wsi_maxmin.data._dataset import Item, SampleDataset
from wsi_maxmin.data._samples import Sample
from wsi_maxmin.models import SegOutput, build_model

SCRIPTS = Path(__file__).parent.parent / "scripts"
BACKLOG = SCRIPTS / "gpu_backlog.sh"

# Stands for Python: it notes what it is asked to do, and does it but for runs whose name is in the file "stop".
FAKE = """#!{python}
import json, pathlib, sys
root = pathlib.Path({root!r})
arguments = sys.argv[1:]
with (root / "calls").open("a") as file:
    file.write(" ".join(arguments) + "\\n")
if "train" in arguments:
    out = pathlib.Path(arguments[arguments.index("--out") + 1])
    out.mkdir(parents=True, exist_ok=True)
    stopped = out.name in (root / "stop").read_text().split()
    (out / "run.json").write_text(json.dumps({{"status": "running" if stopped else "done"}}, indent=2))
if "evaluate" in arguments:
    out = pathlib.Path(arguments[arguments.index("--out") + 1])
    out.mkdir()
    (out / "scores.json").write_text("{{}}")
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """Return a program that the backlog takes for Python."""
    path = tmp_path / "python"
    path.write_text(FAKE.format(python=sys.executable, root=str(tmp_path)))
    path.chmod(0o755)
    (tmp_path / "stop").write_text("")
    return path


def backlog(fake: Path, *options: str, code: int = 0) -> list[str]:
    """Run it; return what it asked for since the last time."""
    calls = fake.parent / "calls"
    calls.write_text("")
    command = [str(BACKLOG), "--data", "glas", "--out", str(fake.parent / "runs"), *options]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHON": str(fake), "PATH": "/usr/bin:/bin"})
    assert done.returncode == code, done.stdout + done.stderr
    return calls.read_text().splitlines()


def trained(calls: list[str]) -> list[str]:
    return [call.partition("--out ")[2].split()[0].rpartition("/")[2] for call in calls if " train " in f" {call} "]


def test_every_row_is_trained_with_every_seed_and_scored_and_nothing_twice(fake: Path) -> None:
    first = backlog(fake, "--rows", "maxmin-sem cam-avg", "--seeds", "0 1")
    assert trained(first) == ["maxmin-sem-s0", "cam-avg-s0", "maxmin-sem-s1", "cam-avg-s1"]
    assert sum("evaluate" in call for call in first) == 4
    assert first[0].endswith("benchmarks/train.py")
    assert first[1].endswith("benchmarks/engines.py")
    assert backlog(fake, "--rows", "maxmin-sem cam-avg", "--seeds", "0 1") == []


def test_what_was_stopped_is_continued_and_only_then_scored(fake: Path) -> None:
    (fake.parent / "stop").write_text("cam-avg-s0")
    first = backlog(fake, "--rows", "cam-avg pn", "--seeds", "0", "--skip-throughput", "--max-minutes", "9")
    assert trained(first) == ["cam-avg-s0", "pn-s0"]
    assert sum("evaluate" in call for call in first) == 1
    assert "--resume" in first[0]
    minutes = float(first[0].partition("training.max_minutes=")[2].split()[0])
    assert 8 < minutes <= 9
    (fake.parent / "stop").write_text("")
    again = backlog(
        fake, "--rows", "cam-avg pn", "--seeds", "0", "--skip-throughput", "--set", "encoder=efficientnet-lite0"
    )
    assert trained(again) == ["cam-avg-s0"]
    assert "--set encoder=efficientnet-lite0" in again[0]
    assert "evaluate" in again[1]


def test_without_time_nothing_begins(fake: Path) -> None:
    assert backlog(fake, "--skip-throughput", "--max-minutes", "0") == []


def test_bad_usage_is_said_with_the_usage(fake: Path) -> None:
    assert backlog(fake, "--speed", "9", code=2) == []
    assert backlog(fake, "--jobs", "0", code=2) == []
    assert backlog(fake, "--rows", "cam-avg nope", code=2) == []
    done = subprocess.run([str(BACKLOG), "--out", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, "--data and one of" in done.stderr) == (2, True)
    help_text = subprocess.run([str(BACKLOG), "--help"], capture_output=True, text=True, check=True).stdout
    assert "Example: scripts/gpu_backlog.sh" in help_text


def plan() -> list[list[str]]:
    lines = (SCRIPTS / "glas_backlog.txt").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_every_run_of_the_plan_is_a_config_that_can_be_changed_so() -> None:
    names = [name for name, *_ in plan()]
    assert len(names) == len(set(names)) > 10
    for _, config, *changes in plan():
        assert config in list_configs()
        load_config(config, changes)


def test_several_runs_at_once_are_the_same_runs(fake: Path) -> None:
    (fake.parent / "stop").write_text("pn-s0")
    rows = [name for name, *_ in plan()[:7]] + ["pn"]
    calls = backlog(fake, "--rows", " ".join(rows), "--seeds", "0", "--skip-throughput", "--jobs", "3")
    assert sorted(trained(calls)) == sorted(f"{name}-s0" for name in rows)
    assert sum("evaluate" in call for call in calls) == len(rows) - 1
    assert (fake.parent / "runs" / "maxmin-sem-s0.log").read_text() == "== maxmin-sem-s0\n"


def test_a_plan_of_one_s_own_says_what_each_run_changes(fake: Path) -> None:
    own = fake.parent / "plan.txt"
    own.write_text("# a comment\n\nsharp glas/maxmin-sem model.params.omega=10 training.epochs=2\n")
    calls = backlog(fake, "--plan", str(own), "--seeds", "4", "--skip-throughput", "--set", "training.workers=1")
    assert trained(calls) == ["sharp-s4"]
    wanted = "--set training.workers=1 --set seed=4 --set model.params.omega=10 --set training.epochs=2"
    assert calls[0].endswith(wanted)


def test_a_run_that_fails_does_not_end_the_others(fake: Path) -> None:
    fake.write_text(
        fake.read_text().replace(
            "import json", "import sys; 'cam-avg-s0' in str(sys.argv) and sys.exit(1)\nimport json"
        )
    )
    for jobs in ("1", "2"):
        calls = backlog(
            fake, "--rows", "cam-avg pn wildcat", "--seeds", "0", "--skip-throughput", "--jobs", jobs, code=1
        )
        assert set(trained(calls)) <= {"pn-s0", "wildcat-s0"}
    assert (fake.parent / "runs" / "wildcat-s0" / "run.json").is_file()


@pytest.fixture(scope="module")
def packer() -> ModuleType:
    """Return the packing script as a module."""
    return script("pack_glas")


@pytest.mark.parametrize("suffix", [".bmp", ".png"])
def test_training_reads_the_same_pixels_before_and_after_packing(
    packer: ModuleType, tmp_path: Path, suffix: str
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "glas" / "folds").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)).save(tmp_path / "glas" / f"train_1{suffix}")
    truth = rng.integers(0, 9, (50, 70), np.uint8)
    Image.fromarray(truth).save(tmp_path / "glas" / f"train_1_anno{suffix}")
    (tmp_path / "glas" / "folds" / "train.csv").write_text("train_1.bmp,train_1_anno.bmp,benign\n")
    assert packer.pack(tmp_path / "glas", tmp_path / "out", 32) == 1
    read = [
        SampleDataset([Sample(image=path, mask=None, label=0, group="")], shorter_side_px=32)[0].image
        for path in (tmp_path / "glas" / f"train_1{suffix}", tmp_path / "out" / "train_1.png")
    ]
    assert read[0].shape == (3, 32, 44)
    assert torch.equal(*read)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "train_1_anno.png")), truth)
    assert (tmp_path / "out" / "folds" / "train.csv").is_file()


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finished_run(folder: Path, status: str = "done") -> Path:
    (folder / "scores").mkdir(parents=True)
    epoch = {"epoch": 1, "train_seconds": 2.04, "valid_seconds": 1.0, "images_per_second": 3.0}
    facts = {
        "status": status,
        "settings": {"command": "train", "name": "x", "notes": "n", "training": {"start_from": "/this machine/b-s0"}},
        "environment": {"packages": {"torch": "2"}, "platform": "this machine"},
        "device": "cuda",
        "best_epoch": 1,
        "epochs": [epoch, epoch | {"epoch": 2}],
    }
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "metrics.jsonl").write_text("{}\n")
    scores = {"error": 1.5, "f1_foreground": 70.0, "model": "x:0", "environment": {"platform": "this machine"}}
    (folder / "scores" / "scores.json").write_text(json.dumps(scores))
    (folder / "scores" / "images.csv").write_text("image,label\n")
    return folder


def test_finished_runs_are_gathered_beside_earlier_ones_and_without_the_machine(tmp_path: Path, capsys) -> None:
    gather, out = script("gather_runs"), tmp_path / "out"
    gather.main([str(finished_run(tmp_path / "a-s0")), "--out", str(out)])
    unscored = finished_run(tmp_path / "c-s0")
    (unscored / "scores" / "scores.json").unlink()
    more = [finished_run(tmp_path / "b-s1"), finished_run(tmp_path / "b-s2", "stopped"), unscored]
    gather.main([*map(str, more), "--out", str(out)])
    assert sorted(path.name for path in out.iterdir()) == [
        "a-s0.csv", "a-s0.jsonl", "b-s1.csv", "b-s1.jsonl", "runs.json",
    ]  # fmt: skip
    runs = json.loads((out / "runs.json").read_text())
    assert list(runs) == ["a-s0", "b-s1"]
    assert runs["b-s1"]["seconds"] == 6.1
    assert runs["b-s1"]["scores"] == {"error": 1.5, "f1_foreground": 70.0, "model": "x:0"}
    assert runs["b-s1"]["settings"]["training"]["start_from"] == "b-s0"
    assert "this machine" not in (out / "runs.json").read_text()
    left_out = capsys.readouterr().err
    assert "b-s2" in left_out
    assert "c-s0" in left_out


def test_a_slurm_job_is_one_worker_with_the_cores_and_the_gpu_that_were_asked_for(capsys) -> None:
    slurm = script("slurm_infer")
    options = ["--jobs", "8", "--gpus", "1", "--cores", "6", "--memory", "32GB", "--walltime", "02:30:00"]
    rest = ["--", "slides/", "--out", "heatmaps", "--dry-run"]
    assert slurm.main([*options, "--partition", "gpu", "--account", "p1", "--dry-run", *rest]) == 0
    job = capsys.readouterr().out
    directives = {line.removeprefix("#SBATCH ") for line in job.splitlines() if line.startswith("#SBATCH")}
    asked = {
        "-J wsi-maxmin",
        "-p gpu",
        "-A p1",
        "-n 1",
        "--cpus-per-task=6",
        "--mem=30G",
        "-t 02:30:00",
        "--gres=gpu:1",
    }
    assert directives == asked
    assert "export OMP_NUM_THREADS=6\n" in job
    worker = job.strip().splitlines()[-1]
    assert worker.startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://")
    assert "--nthreads 1 " in worker
    assert worker.endswith("--memory-limit 0 --no-dashboard")  # the last one of an option holds
    slurm.main(["--dry-run", *rest])
    assert "gres" not in capsys.readouterr().out
    assert slurm.parse(["--jobs", "2", *rest]).rest == rest


class Halves(torch.nn.Module):
    """Stands for a Max-Min: the left half is foreground, and the class is whether the image is brighter than grey."""

    def __init__(self, certainty: float) -> None:
        super().__init__()
        self.certainty = certainty

    def forward(self, image: torch.Tensor) -> SegOutput:
        mask = torch.zeros(len(image), 1, *image.shape[-2:])
        mask[..., : image.shape[-1] // 2] = 0.5
        return SegOutput(image_logits=None, cams=None, mask=mask)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        return image.float() / 255 - 0.5

    def classify(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros(len(pixels)), self.certainty * pixels.mean(dim=(1, 2, 3)).sign()], dim=1)


def test_scores_without_masks_are_those_of_the_binarised_regions() -> None:
    """The left half is white, the right one exactly grey: the background says nothing."""
    image = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    image[..., 4:] = 0
    right = Item(image, torch.empty(0), torch.tensor(1), torch.tensor(0))
    module, device = script("mask_free_scores"), torch.device("cpu")
    loss, error, entropy, background_error, share = module.score(Halves(2.0), right, device)
    assert loss == pytest.approx(np.log(1 + np.exp(-2)))
    assert (error, share) == (0, 0.5)
    posterior = 1 / (1 + np.exp(2))
    expected = -(posterior * np.log2(posterior) + (1 - posterior) * np.log2(1 - posterior))
    assert entropy == pytest.approx(expected, rel=1e-5)
    assert background_error == 100
    assert module.score(Halves(0.0), right, device)[2] == pytest.approx(1)


def test_scores_without_masks_are_taken_from_a_run_by_its_own_split(tmp_path: Path, capsys) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64), "white").save(tmp_path / name)
    (tmp_path / "valid.csv").write_text("a.png,normal\nb.png,tumor\n")
    encoder = {"name": "test_resnet"}
    for method in ("maxmin", "cam"):
        config = RunConfig.model_validate(
            {"data": {"train": "valid.csv", "valid": "valid.csv"}, "model": {"name": method, "encoder": encoder}}
        )
        weights = state_of(build_model(config.model, 2, positive=1))
        (tmp_path / method).mkdir()
        save_checkpoint(
            tmp_path / method / "model.safetensors",
            Checkpoint(config=config, weights=weights, epoch=1, metrics={}, optimizer={}, facts={}),
        )
    module = script("mask_free_scores")
    module.main([str(tmp_path / "maxmin"), "--data", str(tmp_path), "--device", "cpu"])
    header, row = capsys.readouterr().out.splitlines()
    assert header == "run,foreground_loss,foreground_error,background_entropy,background_error,foreground_share"
    assert row.startswith("maxmin,")
    assert all(np.isfinite(float(value)) for value in row.split(",")[1:])
    module.main([str(tmp_path / "cam"), str(tmp_path / "no"), "--data", str(tmp_path), "--device", "cpu"])
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [header]
    assert "is no Max-Min run: cam" in captured.err
    assert "no such model" in captured.err
