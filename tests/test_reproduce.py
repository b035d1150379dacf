"""``wsi-maxmin reproduce``: what it plans, trains, skips, continues, survives and writes, on tiny images."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.conftest import contents
from tests.test_run_results import COMMITTED
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.cli import group
from wsi_maxmin.config import EncoderConfig
from wsi_maxmin.errors import InputError
from wsi_maxmin.paper import load_protocol
from wsi_maxmin.pipelines._row_runs import Workplace, row_runs
from wsi_maxmin.pipelines.reproduce import ReproduceSettings, Reproduction
from wsi_maxmin.run_results import read_runs
from wsi_maxmin.training import _loop

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = (
    "encoder=efficientnet-lite0", "model.encoder.name=test_resnet", "model.encoder.weights=none",
    "data.shorter_side_px=40", "augment.crop_px=32", "training.epochs=2", "training.repeat=1", "training.workers=0",
)  # fmt: skip
DOCUMENTED = COMMITTED.parents[2] / "docs" / "reproduction.md"
ROWS = ("all-ones", "maxmin-sem", "cam-avg", "grad-cam")


def write_glas(folder):
    """Write twelve images as GlaS has them: four to train on, two for validation, two for the test, in lists."""
    (folder / "folds").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [*(f"train_{index}" for index in range(1, 7)), "testA_1", "testA_2"]
    rows = []
    for index, name in enumerate(names):
        grade = ("benign", "malignant")[index % 2]
        pixels = rng.integers(60, 120, (48, 64, 3)) + np.array([0, 0, 60 * (index % 2)])
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
        truth = np.zeros((48, 64), np.uint8)
        truth[:, : 16 * (1 + index % 3)] = 1
        Image.fromarray(truth).save(folder / f"{name}_anno.png")
        rows.append(f"{name}.bmp,{name}_anno.bmp,{grade}")
    for split, part in {"train": rows[:4], "valid": rows[4:6], "test": rows[6:]}.items():
        (folder / "folds" / f"{split}.csv").write_text("\n".join(part))
    grades = [f"{row.partition('.')[0]}, {index}, {row.rpartition(',')[2]}" for index, row in enumerate(rows)]
    (folder / "Grade.csv").write_text("\r".join(["name, patient ID, grade (GlaS)", *grades]))
    return folder


@pytest.fixture(scope="module")
def glas(tmp_path_factory):
    return write_glas(tmp_path_factory.mktemp("data") / "glas")


def make(glas, out, *, runs=(), **settings):
    settings = {"rows": ROWS, "seeds": (0, 1), "overrides": TINY, "device": "cpu", "time_inference": False} | settings
    return Reproduction("glas", glas, out, runs=runs, settings=ReproduceSettings(**settings))


def states(work):
    return {plan.run.name: plan.in_words() for plan in work.plan()[0]}


def outcomes(result):
    return {outcome.name: outcome.status for outcome in result.outcomes}


@pytest.fixture(scope="module")
def finished(glas, tmp_path_factory):
    """Return a folder in which the rows were run with two seeds, and what the run came to."""
    out = tmp_path_factory.mktemp("reproduced") / "out"
    return out, make(glas, out).run()


@pytest.fixture
def run(glas):
    """Return a function that runs the command."""

    def start(*options, code=0, data=glas):
        where = ["--data", data] if data else []
        command = ["reproduce", "glas", *where, "--device", "cpu", "--no-time-inference", *options]
        done = CliRunner().invoke(group, list(map(str, command)))
        assert done.exit_code == code, done.output
        return done

    return start


def sets(*overrides):
    return [word for override in overrides for word in ("--set", override)]


def test_a_dry_run_says_what_is_missing_and_how_long_it_takes_and_writes_nothing(run, tmp_path):
    said = run("--out", tmp_path / "out", "--rows", "cam-avg,all-ones", *sets(*TINY), "--dry-run").stdout
    first, ones, *runs, together, measured, where = said.splitlines()
    assert first.split() == ["run", "state", "expected"]
    assert ones.split("  ") == ["all-ones-s0", "to make"]
    assert [line.split()[0] for line in runs] == ["cam-avg-s0", "cam-avg-s1", "cam-avg-s2"]
    for line in runs:
        assert re.search(r"to train, 2 epochs  about \d+ s$", line)
    assert re.search(r"^together +about \d+ s$", together)
    assert measured == "measured now, on a few images: too long where other work runs beside it"
    assert where == "on cpu, scored on test"
    assert not list(tmp_path.iterdir())


def test_a_plan_says_that_inference_is_timed_and_not_that_times_of_done_epochs_were_measured_now(
    glas, finished, tmp_path
):
    out, _ = finished
    shutil.copytree(out / "runs" / "cam-avg-s0", tmp_path / "runs" / "cam-avg-s0")
    options = {"rows": ("cam-avg",), "seeds": (0,), "overrides": (*TINY, "training.epochs=3")}
    (_, table) = make(glas, tmp_path, time_inference=None, **options).plan()
    assert "measured now" not in table
    assert table.endswith(
        "then inference times (Table 3), not in the expected time; --no-time-inference leaves them out"
    )
    assert "inference" not in make(glas, tmp_path, **options).plan()[1]
    # Measured once, they are not measured again.
    shutil.copyfile(COMMITTED / "inference.json", tmp_path / "inference.json")
    assert "inference" not in make(glas, tmp_path, time_inference=None, **options).plan()[1]


def test_a_dry_run_says_what_would_fail(run, tmp_path):
    bad = [*TINY, "model.encoder.name=nonsense"]
    said = run("--out", tmp_path, "--rows", "maxmin-sem", "--seeds", "0", *sets(*bad), "--dry-run", code=1).stdout
    assert "fails: " in said
    assert "timm knows no such encoder" in said


def test_runs_have_the_form_of_trainings_with_their_scores(glas, finished):
    out, result = finished
    assert set(outcomes(result).values()) == {"done"}
    runs = {(run.name, run.seed): run for run in read_runs([out / "runs"])}
    trained = [(row, seed) for row in ("cam-avg", "grad-cam", "maxmin-sem") for seed in (0, 1)]
    assert sorted(runs) == [("all-ones", 0), *trained]
    for run in runs.values():
        assert (run.scores["split"], run.scores["label_source"], len(run.images)) == ("test", "true", 2)
    sem = runs["maxmin-sem", 1]
    assert (len(sem.epochs), sem.settings["data"]["train"], sem.settings["seed"]) == (2, "folds/train.csv", 1)
    assert sem.settings["data"]["test"] is None  # of the training; a list of the test images is no part of it
    ones = runs["all-ones", 0]
    truths = [image["true_fraction"] for image in ones.images]
    assert ones.scores["f1_foreground"] == pytest.approx(np.mean([200 * t / (1 + t) for t in truths]))
    assert (ones.scores["f1_background"], ones.epochs, ones.model) == (0, (), None)


def test_grad_cam_has_the_weights_of_cam_avg_of_the_same_seed(finished):
    out, _ = finished
    for seed in (0, 1):
        avg, grad = (
            load_checkpoint(out / "runs" / f"{row}-s{seed}" / "model.safetensors") for row in ("cam-avg", "grad-cam")
        )
        assert (grad.config.model.name, grad.config.name, grad.epoch) == ("gradcam", "grad-cam", avg.epoch)
        assert all((grad.weights[name] == value).all() for name, value in avg.weights.items())
        source, facts = (
            json.loads((out / f"runs/{row}-s{seed}/run.json").read_text()) for row in ("cam-avg", "grad-cam")
        )
        assert (facts["weights_of"], facts["epochs"]) == (f"cam-avg-s{seed}", [])
        assert (facts["environment"], facts["device"]) == (source["environment"], source["device"])


def test_tables_have_every_row_and_the_scores_of_the_runs(finished):
    out, result = finished
    assert sorted(path.name for path in (out / "tables").iterdir()) == [
        f"table{number}.{suffix}" for number in (1, 3, 4) for suffix in ("csv", "md", "tex")
    ]
    table = pd.read_csv(out / "tables" / "table1.csv").set_index("row")
    assert len(table) == 12
    scores = [json.loads((out / f"runs/maxmin-sem-s{seed}/scores/scores.json").read_text()) for seed in (0, 1)]
    sem = table.loc["Max-Min, SEM"]
    assert (sem["seeds"], sem["scored on"]) == ("0, 1", "2 test")
    assert float(sem["F1−"]) == pytest.approx(np.mean([score["f1_background"] for score in scores]), abs=0.006)
    assert float(sem["F1− sd"]) == pytest.approx(np.std([s["f1_background"] for s in scores], ddof=1), abs=0.006)
    assert table.loc["U-Net", "seeds"] == "not run"
    report = result.report.read_text(encoding="utf-8")
    for number in (1, 3, 4):
        assert (out / "tables" / f"table{number}.md").read_text(encoding="utf-8") in report
    assert "Scored on 2 test images; the paper's figures are of its 80 test images: every row that was run." in report
    assert "`training.epochs` is 2, not 160 as in the config of the row: Grad-CAM, CAM-Avg." in report
    assert str(out) not in report


def test_what_is_done_is_not_done_again(glas, finished):
    out, _ = finished
    before = contents(out)
    work = make(glas, out)
    assert set(states(work).values()) == {"done"}
    assert set(outcomes(work.run()).values()) == {"kept"}
    assert contents(out) == before


def test_finished_runs_of_elsewhere_are_used_as_they_are(glas, finished, tmp_path):
    out, _ = finished
    work = make(glas, tmp_path / "new", runs=[out], rows=("cam-avg",), seeds=(1, 2))
    assert states(work) == {"cam-avg-s1": "given", "cam-avg-s2": "to train, 2 epochs"}
    work.run()
    assert [path.name for path in (tmp_path / "new" / "runs").iterdir()] == ["cam-avg-s2"]
    table = pd.read_csv(tmp_path / "new" / "tables" / "table1.csv").set_index("row")
    assert table.loc["CAM-Avg", "seeds"] == "1, 2"
    # The other way round there are two of that name.
    with pytest.raises(InputError, match="two runs are called cam-avg with seed 2"):
        make(glas, tmp_path / "new", runs=[tmp_path / "new" / "runs", _copy(tmp_path / "new" / "runs", tmp_path)])


def _copy(runs, tmp_path):
    return shutil.copytree(runs, tmp_path / "copied")


def test_grad_cam_takes_the_weights_of_a_run_of_elsewhere_or_says_what_it_waits_for(glas, finished, tmp_path):
    out, _ = finished
    given = shutil.copytree(out / "runs" / "cam-avg-s0", tmp_path / "runs" / "cam-avg-s0")
    result = make(glas, tmp_path / "out", runs=[given.parent], rows=("grad-cam",), tables_only=True).run()
    assert outcomes(result) == {"cam-avg-s0": "kept", "grad-cam-s0": "done", "grad-cam-s1": "left out"}
    assert result.outcomes[-1].why == "its weights are those of cam-avg-s1, which is not here"


def test_a_run_out_of_time_goes_on_and_ends_as_if_it_had_never_stopped(glas, finished, tmp_path):
    whole, _ = finished
    options = {"rows": ("cam-avg", "grad-cam"), "seeds": (0, 1)}
    result = make(glas, tmp_path, max_minutes=1e-4, **options).run()
    assert outcomes(result) == {
        "cam-avg-s0": "stopped", "grad-cam-s0": "left out", "cam-avg-s1": "left out", "grad-cam-s1": "left out"
    }  # fmt: skip
    assert result.outcomes[0].why == "out of time after 1 of 2 epochs"
    assert result.outcomes[2].why == "out of time"
    assert "| CAM-Avg | not run |" in result.report.read_text(encoding="utf-8")
    work = make(glas, tmp_path, **options)
    assert states(work)["cam-avg-s0"] == "to continue, 1 of 2 epochs done"
    assert set(outcomes(work.run()).values()) == {"done"}
    for name in ("cam-avg-s0", "grad-cam-s1"):
        assert contents(tmp_path / "runs" / name) == contents(whole / "runs" / name)


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(run, tmp_path, monkeypatch):
    keep, kept = _loop._keep, []

    def break_off(*args):
        if kept:
            raise KeyboardInterrupt
        kept.append(keep(*args))

    options = ["--out", tmp_path, "--rows", "maxmin-sem", "--seeds", "0", *sets(*TINY)]
    with monkeypatch.context() as patch:
        patch.setattr(_loop, "_keep", break_off)
        assert "interrupted; the same command goes on" in run(*options, code=130).stderr
    assert json.loads((tmp_path / "runs" / "maxmin-sem-s0" / "run.json").read_text())["status"] == "interrupted"
    done = run(*options)
    assert "to continue, 1 of 2 epochs done" in done.stderr
    assert "maxmin-sem-s0         done" in done.stdout


def test_a_row_that_fails_does_not_end_the_others(run, tmp_path):
    strange = tmp_path / "runs" / "maxmin-sem-s0"
    strange.mkdir(parents=True)
    (strange / "notes.txt").write_text("mine")
    options = ["--out", tmp_path, "--rows", "maxmin-sem,cam-avg", "--seeds", "0", *sets(*TINY)]
    done = run(*options, code=1)
    said = done.stdout.splitlines()
    assert said[0].split()[:2] == ["maxmin-sem-s0", "failed"]
    assert "holds no run of train" in said[0]
    assert said[1].split()[:2] == ["cam-avg-s0", "done"]
    assert f"tracebacks: {tmp_path / 'failures.log'}" in done.stderr
    assert "OutputExistsError" in (tmp_path / "failures.log").read_text()
    table = pd.read_csv(tmp_path / "tables" / "table1.csv").set_index("row")
    assert (table.loc["Max-Min, SEM", "seeds"], table.loc["CAM-Avg", "seeds"]) == ("not run", "0")
    assert (strange / "notes.txt").read_text() == "mine"


def test_runs_of_other_settings_are_refused_and_said_to_be_beforehand_and_stay_as_they_are(run, finished, tmp_path):
    out, _ = finished
    for name in ("cam-avg-s0", "grad-cam-s0"):
        shutil.copytree(out / "runs" / name, tmp_path / "runs" / name)
    before = contents(tmp_path / "runs")
    why = (
        "it was started with other settings; got training.momentum=0.5; expected training.momentum=0.9; "
        "repeat the earlier ones, or give another --out"
    )
    of_source = "its weights are those of cam-avg-s0, which was started with other settings"
    options = ["--out", tmp_path, "--rows", "grad-cam", "--seeds", "0", *sets(*TINY, "training.momentum=0.5")]
    planned = run(*options, "--dry-run", code=1).stdout.splitlines()
    assert planned[1].split(maxsplit=2) == ["cam-avg-s0", "refused", f"fails: {why}"]
    assert planned[2].split(maxsplit=2) == ["grad-cam-s0", "refused", f"fails: {of_source}"]
    said = run(*options, code=1).stdout.splitlines()
    assert said[0].split(maxsplit=2) == ["cam-avg-s0", "failed", why]
    assert said[1].split(maxsplit=2) == ["grad-cam-s0", "failed", of_source]
    assert contents(tmp_path / "runs") == before
    table = pd.read_csv(tmp_path / "tables" / "table1.csv").set_index("row")
    assert set(table.loc[["CAM-Avg", "Grad-CAM"], "scored on"]) == {"2 test"}
    # Tables alone take nothing from them either.
    assert run(*options, "--tables-only").stdout == f"{tmp_path / 'README.md'}\n"
    assert contents(tmp_path / "runs") == before


def test_a_finished_run_keeps_its_scores_where_it_cannot_go_on(glas, finished, tmp_path):
    out, _ = finished
    shutil.copytree(out / "runs" / "cam-avg-s0", tmp_path / "runs" / "cam-avg-s0")
    before = contents(tmp_path / "runs")
    data = shutil.copytree(glas, tmp_path / "glas")
    (data / "train_1.png").write_bytes(b"broken")
    work = make(data, tmp_path, rows=("cam-avg",), seeds=(0,), overrides=(*TINY, "training.epochs=3"))
    assert outcomes(work.run()) == {"cam-avg-s0": "failed"}
    assert contents(tmp_path / "runs") == before


def test_more_epochs_are_no_other_settings_and_what_took_the_weights_is_made_anew(glas, finished, tmp_path):
    out, _ = finished
    for name in ("cam-avg-s0", "grad-cam-s0"):
        shutil.copytree(out / "runs" / name, tmp_path / "runs" / name)
    options = {"seeds": (0,), "overrides": (*TINY, "training.epochs=3")}
    # An interruption between the two rows: the second must not be taken for done.
    longer = make(glas, tmp_path, rows=("cam-avg",), **options)
    assert states(longer) == {"cam-avg-s0": "to continue, 2 of 3 epochs done"}
    longer.run()
    both = make(glas, tmp_path, rows=("grad-cam",), **options)
    assert states(both) == {"cam-avg-s0": "done", "grad-cam-s0": "to make"}
    both.run()
    assert states(make(glas, tmp_path, rows=("grad-cam",), **options))["grad-cam-s0"] == "done"


def test_without_test_images_validation_is_scored_and_every_table_says_so(run, glas, tmp_path):
    data = shutil.copytree(glas, tmp_path / "glas")
    for image in data.glob("testA_*"):
        image.unlink()
    done = run("--out", tmp_path / "out", "--tables-only", "--rows", "all-ones", data=data)
    assert "has no test images; scored on validation" in done.stderr
    text = (tmp_path / "out" / "tables" / "table1.md").read_text(encoding="utf-8")
    assert "| All ones | – | 2 valid | – |" in text
    assert "Scored on 2 validation images, which also choose the epoch" in text


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("testA_1.png", r"an image of the list is missing; got testA_1\.bmp"),
        ("testA_1_anno.png", r"a ground-truth mask is missing; got .*testA_1_anno"),
    ],
)
def test_what_is_lost_of_the_scored_images_is_an_error_before_the_first_epoch(
    run, glas, finished, tmp_path, lost, says
):
    data = shutil.copytree(glas, tmp_path / "glas")
    (data / lost).unlink()
    for options in ((), ("--dry-run",)):
        asked = ["--out", tmp_path / "out", "--rows", "cam-avg", "--split", "test", *sets(*TINY), *options]
        said = run(*asked, data=data, code=2).stderr
        assert re.search(f"the test images in {data} cannot be scored: {says}.*; restore them, or give --split v", said)
    assert not (tmp_path / "out").exists()
    # What is done needs no images.
    assert set(states(make(data, finished[0], split="test")).values()) == {"done"}


def test_another_split_or_label_source_is_scored_anew(glas, finished, tmp_path):
    out, _ = finished
    shutil.copytree(out / "runs" / "maxmin-sem-s0", tmp_path / "runs" / "maxmin-sem-s0")
    for options in ({"split": "valid"}, {"label_source": "predicted"}):
        work = make(glas, tmp_path, rows=("maxmin-sem",), seeds=(0,), tables_only=True, **options)
        assert states(work) == {"maxmin-sem-s0": "to score"}
        assert outcomes(work.run()) == {"maxmin-sem-s0": "done"}
    (sem,) = read_runs([tmp_path / "runs"])
    assert (sem.scores["split"], sem.scores["label_source"]) == ("test", "predicted")
    report = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "those of the predicted label, the paper's of the true one" in report


def test_a_choice_of_encoder_is_nothing_to_a_method_that_has_none(glas, tmp_path):
    work = make(glas, tmp_path, rows=("u-net", "pn"), seeds=(3,))
    pn, unet = (run.config() for run in work._runs)
    assert (pn.model.encoder.name, unet.model.encoder) == ("test_resnet", EncoderConfig())
    assert (unet.training.epochs, unet.augment.crop_px, unet.seed) == (2, 32, 3)


def test_the_committed_tables_and_those_of_the_documentation_are_what_the_command_writes_without_data(run, tmp_path):
    done = run("--out", tmp_path, "--tables-only", "--runs", COMMITTED, data=None)
    assert done.stdout == f"{tmp_path / 'README.md'}\n"
    assert not (tmp_path / "runs").exists()
    assert contents(tmp_path / "tables") == contents(COMMITTED / "tables")
    documented = DOCUMENTED.read_text(encoding="utf-8")
    for path in (tmp_path / "tables").glob("*.md"):
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        assert "\n".join(rows) in documented, path.name
    assert "--data is needed to train" in run("--out", tmp_path, data=None, code=2).stderr


def test_what_was_measured_is_kept_for_the_tables(glas, tmp_path, monkeypatch):
    measured = []

    def measure(device, *, progress):
        measured.append(device.type)
        return json.loads((COMMITTED / "inference.json").read_text())

    monkeypatch.setattr("wsi_maxmin.pipelines.reproduce.measure_inference", measure)
    options = {"rows": ("all-ones",), "seeds": (0,)}
    result = make(glas, tmp_path, time_inference=None, **options).run()
    assert outcomes(result) == {"all-ones-s0": "done", "inference times": "done"}
    assert "not measured" not in result.report.read_text(encoding="utf-8")
    make(glas, tmp_path, time_inference=None, **options).run()
    assert measured == ["cpu"]
    make(glas, tmp_path, time_inference=True, tables_only=True, **options).run()
    assert measured == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "sem"], "no such row; got sem; expected some of all-ones"),
        (["--seeds", "0,x"], "got '0,x'; expected whole numbers"),
        (["--runs", "nowhere"], "no runs; got nowhere"),
        (["--set", "training.epoch=3"], "training.epoch: unknown key; did you mean 'epochs'?"),
    ],
)
def test_bad_usage_ends_with_2_before_anything_is_written(run, tmp_path, options, message):
    assert message in run("--out", tmp_path / "out", *options, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_data_that_are_not_there_or_others_are_said_to_be_once_with_what_they_should_be(run, tmp_path):
    said = run("--out", tmp_path / "out", "--dry-run", data=tmp_path / "none", code=2).stderr
    what = "the folder of GlaS, with Grade.csv and the images"
    assert f"no such folder of data; got {tmp_path / 'none'}; expected {what}; give it with --data" in said
    (tmp_path / "slides").mkdir()
    said = run("--out", tmp_path / "out", "--dry-run", data=tmp_path / "slides", code=2)
    assert said.stdout == ""
    (line,) = said.stderr.splitlines()
    assert f"{tmp_path / 'slides'} does not hold the data of glas: no such list of samples; got " in line
    assert line.endswith(f"Grade.csv; expected a CSV file; give --data {what}")


def test_the_rows_of_p512_read_its_own_lists(tmp_path):
    protocol = load_protocol("camelyon16-p512")
    place = Workplace(
        protocol=protocol, data=tmp_path, folder=tmp_path, overrides=(), device=torch.device("cpu"), split="test",
        label_source="predicted",
    )  # fmt: skip
    runs = row_runs(place, protocol.order, (0,))
    assert [run.ordered for run in runs] == list(protocol.order)
    data = runs[1].config().data
    assert data.train.endswith("p512_split0_fold0_train.csv.gz")
