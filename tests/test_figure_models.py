"""What figures run models for: a small model over eight images, through the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from wsi_maxmin.checkpoint import load_checkpoint, save_checkpoint
from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError
from wsi_maxmin.figures import pictures
from wsi_maxmin.figures._results import GLAS
from wsi_maxmin.metrics import count_pixels, dice_of
from wsi_maxmin.pipelines import _figure_models
from wsi_maxmin.pipelines._figure_models import evaluate_again, look_at
from wsi_maxmin.pipelines.evaluate import EvaluateSettings, evaluate_model
from wsi_maxmin.progress import Quiet
from wsi_maxmin.run_results import read_run, read_runs

pytestmark = pytest.mark.usefixtures("one_thread")
HOW = {"device": "cpu", "progress": Quiet()}


@pytest.fixture
def data(labelled_folder):
    """Return the labelled images as those of GlaS, with masks of half of each."""
    table = labelled_folder / "labels.csv"
    table.write_text(table.read_text().replace(",normal,", ",benign,").replace(",tumor,", ",malignant,"))
    for index in range(8):
        mask = np.zeros((64, 64), bool)
        mask[: 8 * index + 4] = True
        Image.fromarray(mask).save(labelled_folder / f"{index}_mask.png")
    return labelled_folder


@pytest.fixture
def run(tmp_path, tiny_model, data):
    """Return the folder of a finished and scored training on `data`."""
    folder = tmp_path / "runs" / "maxmin-sem-s0"
    folder.mkdir(parents=True)
    checkpoint = load_checkpoint(tiny_model)
    read_as = {"classes": GLAS.classes, "positive": "malignant", "valid": "labels.csv"}
    changes = {
        "data": checkpoint.config.data.model_copy(update=read_as),
        "model": checkpoint.config.model.model_copy(update={"params": {"mask_norm": "image", "sigma": 0.5}}),
        "augment": checkpoint.config.augment.model_copy(update={"crop_px": 416}),
    }  # fmt: skip
    checkpoint.weights["sigma"].fill_(0.5)
    config = checkpoint.config.model_copy(update=changes)
    save_checkpoint(folder / "model.safetensors", replace(checkpoint, config=config))
    facts = {
        "status": "done", "settings": config.model_dump(mode="json"), "environment": {"packages": {}}, "device": "cpu",
        "best_epoch": 1, "epochs": [{"train_seconds": 1, "valid_seconds": 1}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    settings = EvaluateSettings(workers=0, pictures=0)
    evaluate_model(str(folder), data, "valid", out=folder / "scores", device="cpu", settings=settings)
    return folder


def test_masks_and_scores_of_a_picture_are_those_of_the_evaluation(run, data):
    names = ["5.png", "2.png"]
    shown = look_at(data, [read_run(run)], "valid", names, **HOW)
    rows = {row["image"]: row for row in read_run(run).images}
    assert [picture.name for picture in shown] == names
    for picture in shown:
        np.testing.assert_array_equal(picture.image, np.asarray(Image.open(data / picture.name)))
        np.testing.assert_array_equal(picture.truth, np.asarray(Image.open(data / picture.name.replace(".", "_mask."))))
        counts = count_pixels(picture.masks["maxmin-sem"] >= 0.5, picture.truth)
        row = rows[picture.name]
        assert picture.scores["maxmin-sem"] == pytest.approx((row["f1_foreground"], row["f1_background"]))
        assert picture.scores["maxmin-sem"] == pytest.approx(tuple(100 * of for of in dice_of(counts)))


def test_data_are_read_as_the_scores_were_made(run, data):
    (data / "labels.csv").rename(data / "other.csv")
    with pytest.raises(InputError, match=r"labels\.csv"):
        look_at(data, [read_run(run)], "valid", ["3.png"], **HOW)
    assert look_at(data, [read_run(run)], "valid", ["3.png"], overrides=["data.valid=other.csv"], **HOW)


def test_large_images_are_shrunk_to_what_a_figure_shows(run, data, monkeypatch):
    monkeypatch.setattr(_figure_models, "_LONGEST_PX", 16)
    (picture,) = look_at(data, [read_run(run)], "valid", ["3.png"], **HOW)
    assert picture.image.shape == (16, 16, 3)
    assert picture.truth.shape == picture.masks["maxmin-sem"].shape == (16, 16)
    assert picture.truth.dtype == bool


def test_the_command_sweeps_one_model_and_draws_it_and_its_masks(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(_figure_models, "SWEPT", {"sigma": (0.0, 0.5), "omega": (5.0,)})
    call = ["figures", str(run.parent), "--out", str(tmp_path / "out"), "--data", str(data), "--device", "cpu"]
    call += ["--dpi", "60", "--only"]
    before = (run / "scores" / "scores.json").read_bytes()
    assert CliRunner().invoke(group, [*call, "10"]).exit_code == 2  # nothing was swept
    result = CliRunner().invoke(group, [*call, "9,10", "--sweep"])
    assert result.exit_code == 0, result.output
    (own,) = read_runs([run.parent])
    assert [of["changed"] for of in own.sweep] == [
        {f"model.params.{key}": value} for key, value in (("omega", 5), ("sigma", 0), ("sigma", 0.5))
    ]
    assert own.sweep[1]["predicted_fraction"] == 1
    assert own.sweep[2]["f1_foreground"] == own.scores["f1_foreground"]
    assert {of["model"] for of in own.sweep} == {own.scores["model"]}
    assert (run / "scores" / "scores.json").read_bytes() == before
    facts = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert facts["9"]["images"] == pictures.choose(pictures.CHOICES["9"], own)
    assert facts["10"]["sigma"] == [0, 0.5]


def test_a_value_that_was_scored_before_is_not_scored_again(run, data, monkeypatch):
    monkeypatch.setattr(_figure_models, "SWEPT", {"sigma": (0.25,)})
    evaluate_again(read_runs([run]), data, **HOW)
    first = (run / "sweeps" / "sigma-0.25" / "scores.json").stat().st_mtime_ns
    evaluate_again(read_runs([run]), data, **HOW)
    assert (run / "sweeps" / "sigma-0.25" / "scores.json").stat().st_mtime_ns == first


def test_what_cannot_be_looked_at_or_swept_is_said(run, data):
    own = read_run(run)
    with pytest.raises(InputError, match=r"scored images are not among the data; got 9\.png; check"):
        look_at(data, [own], "valid", ["9.png"], **HOW)
    with pytest.raises(InputError, match="--sweep needs the images; give --data"):
        evaluate_again([own], None, **HOW)
    with pytest.raises(InputError, match="no scored run of Max-Min SEM on GlaS with its model"):
        evaluate_again([], data, **HOW)
    other = replace(own, scores={**own.scores, "model": "tiny:0"})
    for call in (
        lambda: look_at(data, [other], "valid", ["3.png"], **HOW),
        lambda: evaluate_again([other], data, **HOW),
    ):
        with pytest.raises(
            InputError, match=r"are of another model; got tiny:.*; expected tiny:0; wsi-maxmin evaluate"
        ):
            call()
