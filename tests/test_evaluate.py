"""Scores of a model whose mask is the red channel of the image, so that all of them follow by pencil."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.test_models import METHODS, WITHOUT_CLASS, WITHOUT_ENCODER
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, state_of
from wsi_maxmin.cli import group
from wsi_maxmin.config import ModelConfig, RunConfig
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import SegOutput, WeakSegmenter, build_model
from wsi_maxmin.pipelines import evaluate
from wsi_maxmin.pipelines.evaluate import EvaluateSettings, evaluate_model

pytestmark = pytest.mark.usefixtures("one_thread")


class Red(WeakSegmenter):
    """The soft mask is the red channel, its complement that of class 0; the class is tumor where there is green."""

    def __init__(self, *, tiles=True, classifies=True):
        super().__init__(None, ModelConfig(pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1)))
        self.tiles, self.classifies, self.batches = tiles, classifies, []

    def segment(self, image):
        self.batches.append(len(image))
        red, green = image[:, [0]], image[:, [1]]
        tumour = green.mean(dim=(1, 2, 3))
        logits = torch.stack([1e-3 - tumour, tumour], dim=1)
        return SegOutput(image_logits=logits if self.classifies else None, cams=None, mask=red)

    def mask_for(self, output, label):
        return torch.where(label.view(-1, 1, 1, 1) == 1, output.mask, 1 - output.mask)

    @property
    def refuses_tiles(self):
        return None if self.tiles else "masks depend on the batch"

    def loss(self, output, label, truth=None):
        raise NotImplementedError


class Folder:
    """Images, masks and their list; rows are the red channel, the truth and so on."""

    def __init__(self, path):
        self.path, self.rows = path, ["image,mask,label"]

    def add(self, red, truth, *, label="tumor", green=1):
        """Add an image of rows of red values in [0, 255] and a truth of rows of 0 and 1, or None."""
        red = np.array(red, np.uint8)
        pixels = np.stack([red, np.full_like(red, green), np.zeros_like(red)], axis=-1)
        name = f"{len(self.rows) - 1}"
        Image.fromarray(pixels).save(self.path / f"{name}.png")
        if truth is not None:
            Image.fromarray(np.array(truth, bool)).save(self.path / f"{name}_mask.png")
        self.rows.append(f"{name}.png,{'' if truth is None else f'{name}_mask.png'},{label}")
        (self.path / "list.csv").write_text("\n".join(self.rows))
        return self


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return Folder(tmp_path / "data")


@pytest.fixture
def score(folder, monkeypatch):
    """Return a function that evaluates `Red` on the folder."""

    class Loaded:
        config = RunConfig.model_validate({"data": {"valid": "list.csv"}, "training": {"workers": 0}})

        def __init__(self, network):
            self.network = network

        def build(self):
            return self.network.eval()

        def fingerprint(self):
            return "red"

    def call(network=None, *, out=None, **settings):
        monkeypatch.setattr(evaluate, "load_evaluated", lambda _: Loaded(network or Red()))
        settings = EvaluateSettings(**settings)
        return evaluate_model("red", folder.path, "valid", out=out, device="cpu", settings=settings)

    return call


def test_scores_match_pencil_and_paper(folder, score, tmp_path):
    folder.add([[255, 255], [0, 0]], [[1, 0], [1, 0]])
    # Called normal, it is masked by the complement of its red.
    folder.add([[0, 255, 255, 255]], [[0, 0, 0, 0]], label="normal", green=0)
    scores = score(out=tmp_path / "out")
    assert (scores["error"], scores["samples"], scores["masks"]) == (0, 2, 2)
    assert scores["f1_foreground"] == pytest.approx(50)
    assert scores["f1_background"] == pytest.approx(100 * (1 / 2 + 6 / 7) / 2)
    # Of 6 background pixels 2 were called foreground, of 2 foreground pixels 1.
    assert scores["pixel_confusion"] == [[4 / 6, 1 / 2], [2 / 6, 1 / 2]]
    assert (scores["predicted_fraction"], scores["true_fraction"]) == (0.375, 0.25)
    table = pd.read_csv(tmp_path / "out" / "images.csv")
    assert list(table) == [
        "image", "label", "predicted", "f1_foreground", "f1_background", "predicted_fraction", "true_fraction"
    ]  # fmt: skip
    assert table["image"].tolist() == ["0.png", "1.png"]
    assert table["predicted"].tolist() == ["tumor", "normal"]
    assert table["predicted_fraction"].tolist() == [0.5, 0.25]
    assert table["true_fraction"].tolist() == [0.5, 0]
    assert table["f1_foreground"].isna().tolist() == [False, True]


def test_the_threshold_is_reached_by_what_equals_it_and_can_be_chosen(folder, score, tmp_path):
    # 51 / 255 is 0.2 to the last bit of float32.
    folder.add([[255, 102, 51, 0]], [[1, 1, 1, 0]])
    assert score()["f1_foreground"] == pytest.approx(100 * 2 / 4)
    assert score(threshold=0.2)["f1_foreground"] == pytest.approx(100)
    scores = score(threshold=0.21, out=tmp_path / "out")
    assert (scores["threshold"], scores["f1_foreground"]) == (0.21, pytest.approx(100 * 4 / 5))
    table = pd.read_csv(tmp_path / "out" / "thresholds.csv").set_index("threshold")
    assert len(table) == 20
    assert table.loc[0.21, "f1_foreground"] == scores["f1_foreground"]
    assert table.loc[0.2, "mean"] == 100
    assert scores["best_threshold"] == {
        "threshold": 0.2, "f1_foreground": 100.0, "f1_background": 100.0, "mean": 100.0, "chosen_on": "valid"
    }  # fmt: skip


def test_a_mask_of_a_class_goes_by_the_predicted_or_by_the_true_label(folder, score):
    folder.add([[255, 0, 0, 0]], [[1, 0, 0, 0]], label="tumor", green=0)
    right, wrong = score(label_source="true"), score()
    assert (right["error"], wrong["error"]) == (100, 100)
    assert (right["f1_foreground"], wrong["f1_foreground"]) == (100, 0)
    assert (right["label_source"], wrong["label_source"]) == ("true", "predicted")


def test_a_method_without_classes_has_its_own_mask_and_no_error(folder, score, tmp_path):
    folder.add([[255, 0, 0, 0]], [[1, 0, 0, 0]], label="normal")
    scores = score(Red(classifies=False), out=tmp_path / "out")
    assert (scores["error"], scores["f1_foreground"], scores["label_source"]) == (None, 100, "none")
    assert pd.read_csv(tmp_path / "out" / "images.csv")["predicted"].isna().all()
    assert score(Red(classifies=False), label_source="true")["f1_foreground"] == 0


def test_the_soft_mask_is_brought_to_the_size_of_the_ground_truth(folder, score, tmp_path):
    truth = np.zeros((2, 8), bool)
    truth[:, :4] = True
    folder.add([[255, 255, 0, 0]], truth)
    scores = score(out=tmp_path / "out")
    # Between the columns 1 and 2 the values at 8 columns are 255, 255, 255, 191, 64, 0, 0, 0 over 255.
    assert scores["f1_foreground"] == 100
    assert score(threshold=0.8)["predicted_fraction"] == 3 / 8
    assert pd.read_csv(tmp_path / "out" / "images.csv")["true_fraction"].tolist() == [0.5]


def test_an_image_without_ground_truth_counts_for_the_error_and_has_a_predicted_size(folder, score, tmp_path):
    folder.add([[255, 0]], None)
    folder.add([[255, 255]], [[1, 1]], green=0, label="tumor")
    scores = score(label_source="true", out=tmp_path / "out")
    assert (scores["samples"], scores["masks"], scores["error"]) == (2, 1, 50)
    table = pd.read_csv(tmp_path / "out" / "images.csv")
    assert table["predicted_fraction"].tolist() == [0.5, 1]
    assert table["true_fraction"].isna().tolist() == [True, False]
    assert (scores["predicted_fraction"], scores["f1_background"]) == (1, None)


@pytest.fixture
def mixed(folder):
    """Fill the folder with images of three sizes in turn, some without ground truth."""
    rng = np.random.default_rng(0)
    for index in range(11):
        height, width = ((4, 6), (5, 5), (4, 6), (7, 3))[index % 4]
        truth = None if index == 5 else rng.random((height, width)) < rng.random()
        label = "tumor" if index % 3 else "normal"
        folder.add(rng.integers(0, 256, (height, width)), truth, label=label, green=index % 2)
    return folder


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_scores_and_tables_are_the_same_for_every_batch_size_and_number_of_workers(mixed, score, tmp_path):
    scores, tables = [], []
    for number, (batch_size, workers) in enumerate([(1, 0), (3, 0), (4, 1), (64, 0)]):
        out = tmp_path / str(number)
        scores.append(score(out=out, batch_size=batch_size, workers=workers))
        tables.append([(out / name).read_bytes() for name in ("images.csv", "thresholds.csv")])
    assert all(one == scores[0] for one in scores)
    assert all(one == tables[0] for one in tables)


def test_images_of_one_size_share_a_pass_unless_masks_depend_on_the_batch(mixed, score):
    free, bound = Red(), Red(tiles=False)
    assert score(free, batch_size=4) == score(bound, batch_size=4)
    # Of four in turn two have one size; of the second four one of those has no ground truth.
    assert sorted(free.batches, reverse=True)[:2] == [2, 2]
    assert sum(free.batches) == 11
    assert bound.batches == [1] * 11


def test_a_network_scores_the_same_in_batches_as_alone(labelled_folder, tiny_model):
    for index in range(8):
        Image.fromarray(np.arange(64 * 64).reshape(64, 64) % (index + 2) == 0).save(
            labelled_folder / f"{index}_mask.png"
        )
    options = {"overrides": ["data.valid=labels.csv"], "device": "cpu"}
    alone, together = (
        evaluate_model(
            str(tiny_model), labelled_folder, "valid", settings=EvaluateSettings(batch_size=size, workers=0), **options
        )
        for size in (1, 8)
    )
    for name in ("f1_foreground", "f1_background", "predicted_fraction"):
        assert together[name] == pytest.approx(alone[name], abs=0.05)
    assert together["error"] == alone["error"]


def test_a_soft_mask_that_is_not_a_number_names_its_image(folder, score, monkeypatch):
    folder.add([[0, 0]], [[1, 0]]).add([[7, 7]], [[1, 0]])

    def segment(self, image):
        mask = image[:, [0]]
        return SegOutput(image_logits=None, cams=None, mask=torch.where(mask > 0, torch.nan, mask))

    monkeypatch.setattr(Red, "segment", segment)
    with pytest.raises(InputError, match=r"the soft mask of 1\.png is not a number"):
        score(label_source="predicted")


def test_a_ground_truth_of_another_shape_than_its_image_is_an_error(folder, score):
    folder.add([[0, 0, 0, 0]], [[1, 0, 0], [1, 0, 0]])
    with pytest.raises(InputError, match=r"0\.png has another shape than its image; got 3×2 px; expected .* 4×1 px"):
        score()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named_in_one_line(folder, score, workers):
    folder.add([[0, 0]], [[1, 0]]).add([[0, 0]], [[1, 0]])
    (folder.path / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"^an image cannot be read; got \S*1\.png") as caught:
        score(workers=workers)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_missing_mask_is_an_error_before_anything_is_run(folder, score):
    folder.add([[0, 0]], [[1, 0]]).add([[0, 0]], [[1, 0]])
    (folder.path / "1_mask.png").unlink()
    network = Red()
    with pytest.raises(InputError, match=r"a ground-truth mask is missing; got \S*1_mask\.png"):
        score(network)
    assert not network.batches


@pytest.mark.parametrize("broken", [{"threshold": 1.5}, {"threshold": float("nan")}, {"batch_size": 0}])
def test_settings_that_mean_nothing_are_refused(broken):
    with pytest.raises(InputError, match="no such"):
        EvaluateSettings(**broken)


def test_scores_are_written_last_and_not_beside_files_of_another_evaluation(folder, score, tmp_path, monkeypatch):
    folder.add([[255, 0]], [[1, 0]])
    out = tmp_path / "out"
    score(out=out)
    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "draw_pictures", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score(out=out, threshold=0)
    assert not (out / "scores.json").exists()
    assert pd.read_csv(out / "images.csv")["predicted_fraction"].tolist() == [1]
    assert not list(out.glob(".*.partial"))
    scores = score(out=out)
    written = json.loads((out / "scores.json").read_text())
    assert written.items() >= scores.items()
    assert (written["model"], written["split"], written["pictures"]) == ("red", "valid", [])


def test_a_config_of_a_method_without_parameters_is_a_model(folder, tmp_path):
    config = tmp_path / "half.yaml"
    config.write_text(
        "data: {valid: list.csv}\nmodel: {name: constant, params: {value: 0.5}}\ntraining: {workers: 0}\n"
    )
    folder.add([[0, 0, 0, 0]], [[1, 0, 0, 0]])
    one = evaluate_model(str(config), folder.path, "valid", device="cpu")
    assert one["f1_foreground"] == pytest.approx(100 * 2 / 5)
    none = evaluate_model(str(config), folder.path, "valid", device="cpu", settings=EvaluateSettings(threshold=0.51))
    assert (none["f1_foreground"], none["f1_background"]) == (0, pytest.approx(100 * 6 / 7))


def test_a_config_of_a_method_that_must_be_trained_is_no_model(tmp_path):
    config = tmp_path / "untrained.yaml"
    config.write_text("model: {encoder: {name: test_resnet}}\n")
    with pytest.raises(
        InputError, match=r"a config is no trained model; got .* has [\d,]+ parameters; .* train .*yaml"
    ):
        evaluate_model(str(config), tmp_path, "valid", device="cpu")


def test_an_unknown_model_is_told_what_there_is(tmp_path):
    with pytest.raises(InputError, match=r"no such model; got nonsense; expected .*camelyon16-demo, or the config"):
        evaluate_model("nonsense", tmp_path, "valid", device="cpu")


@pytest.mark.parametrize("classes", ["[tumor, normal]", "[a, b, tumor]", "[normal, tumor, other]"])
def test_classes_of_another_number_or_order_than_the_model_s_are_refused(tiny_model, tmp_path, classes):
    with pytest.raises(InputError, match=r"the model tells other classes apart; .* the 2 classes normal, tumor"):
        evaluate_model(str(tiny_model), tmp_path, "valid", overrides=[f"data.classes={classes}"], device="cpu")


def test_classes_may_have_other_names(tiny_model, labelled_folder):
    listed = labelled_folder / "labels.csv"
    listed.write_text(listed.read_text().replace("tumor", "cancer").replace("_mask", "_none"))
    rows = [
        ",".join([cells[0], "", *cells[2:]])
        for cells in (row.split(",") for row in listed.read_text().splitlines()[1:])
    ]
    listed.write_text("\n".join(rows))
    overrides = ["data.valid=labels.csv", "data.classes=[normal, cancer]", "data.positive=cancer"]
    settings = EvaluateSettings(workers=0)
    scores = evaluate_model(
        str(tiny_model), labelled_folder, "valid", overrides=overrides, device="cpu", settings=settings
    )
    assert (scores["samples"], scores["masks"]) == (8, 0)
    with pytest.raises(InputError, match="unknown label; got 'cancer'"):
        evaluate_model(str(tiny_model), labelled_folder, "valid", overrides=overrides[:1], device="cpu")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("source", ["true", "predicted"])
def test_every_method_is_scored_from_its_checkpoint_whatever_the_label_source(name, source, tmp_path, folder):
    rng = np.random.default_rng(0)
    for size in ((64, 96), (80, 64), (64, 96)):
        folder.add(rng.integers(0, 256, size), rng.random(size) < 0.5)
    encoder = {} if name in WITHOUT_ENCODER else {"encoder": {"name": "test_resnet"}}
    config = RunConfig.model_validate({"data": {"valid": "list.csv"}, "model": {"name": name, **encoder}})
    weights = state_of(build_model(config.model, 2))
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint(config=config, weights=weights, epoch=1, metrics={}, optimizer={}, facts={}))
    settings = EvaluateSettings(workers=0, label_source=source)
    scores = evaluate_model(str(path), folder.path, "valid", device="cpu", settings=settings)
    assert scores["masks"] == 3
    assert scores["samples"] == (0 if name in WITHOUT_CLASS else 3)
    assert (scores["label_source"] == "none") == (name in WITHOUT_CLASS and source == "predicted")
    assert 0 <= scores["f1_foreground"] <= 100


@pytest.mark.data
@pytest.mark.parametrize(("split", "expected"), [("train", 65.66), ("valid", 63.98)])
def test_the_bundled_all_ones_scores_the_known_values_on_glas(data_dir, split, expected):
    lists = ["data.train=folds/train.csv", "data.valid=folds/valid.csv"]
    settings = EvaluateSettings(workers=0)
    scores = evaluate_model("glas/all-ones", data_dir / "glas", split, overrides=lists, device="cpu", settings=settings)
    assert scores["f1_foreground"] == pytest.approx(expected, abs=0.005)
    assert (scores["f1_background"], scores["error"]) == (0, None)


@pytest.mark.data
def test_real_p512_patches_score_what_their_names_say(data_dir, tmp_path):
    patches = sorted((data_dir / "camelyon16" / "patches512").rglob("Patch_file_*.png"))
    rows, fractions = [], []
    for patch in patches:
        tumour = "_metastatic_" in patch.name
        mask = patch.with_name(patch.name.replace("Patch_file", "mask_file")) if tumour else ""
        rows.append(f"{patch},{mask},{'tumor' if tumour else 'normal'}")
        if tumour:
            fractions.append(float(patch.name.partition("_metastatic_")[2].partition("_")[0]))
    (tmp_path / "list.csv").write_text("\n".join(rows))
    config = tmp_path / "ones.yaml"
    config.write_text("data: {valid: list.csv, unmasked_is_background: true}\nmodel: {name: constant}\n")
    scores = evaluate_model(str(config), tmp_path, "valid", device="cpu", settings=EvaluateSettings(workers=0))
    assert (scores["masks"], len(fractions)) == (8, 4)
    assert scores["f1_foreground"] == pytest.approx(100 * np.mean([2 * f / (1 + f) for f in fractions]), abs=0.01)
    assert scores["f1_background"] == 0


def test_the_command_prints_scores_and_says_where_the_best_threshold_was_chosen(folder, tmp_path):
    config = tmp_path / "ones.yaml"
    config.write_text("data: {valid: list.csv}\nmodel: {name: constant}\ntraining: {workers: 0}\n")
    folder.add([[0, 0]], [[1, 0]])
    options = ["evaluate", str(config), "--data", str(folder.path), "--device", "cpu"]
    result = CliRunner().invoke(group, [*options, "--threshold", "0.4", "--label-source", "true"])
    assert result.exit_code == 0, result.output
    assert "error               –" in result.output
    assert "f1_foreground       66.67" in result.output
    assert "pixel_confusion     [[0.00, 0.00], [1.00, 1.00]]" in result.output
    assert "best_threshold      threshold 0.50, " in result.output
    assert ", chosen_on valid" in result.output
    out = tmp_path / "out"
    assert CliRunner().invoke(group, [*options, "--pictures", "none"]).exit_code == 0
    assert CliRunner().invoke(group, [*options, "--out", str(out), "--pictures", "none"]).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["images.csv", "scores.json", "thresholds.csv"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--pictures", "3"], "--pictures needs --out"),
        (["--pictures", "all"], "--pictures needs --out"),
        (["--pictures", "some", "--out", "o"], "expected a number, all or none"),
        (["--threshold", "1.2"], "0<=x<=1"),
        (["--label-source", "both"], "'predicted', 'true'"),
        (["--batch-size", "0"], "x>=1"),
    ],
)
def test_options_that_mean_nothing_are_bad_usage(options, expected, tmp_path):
    result = CliRunner().invoke(group, ["evaluate", "model", "--data", str(tmp_path), *options])
    assert (result.exit_code, expected in result.output) == (2, True), result.output


@pytest.fixture
def scored_maxmin(labelled_folder, tiny_model):
    """Return a function that scores the tiny Max-Min, whose mask is normalised an image, with given parameters."""
    for index in range(8):
        Image.fromarray(np.arange(64 * 64).reshape(64, 64) % 2 == 0).save(labelled_folder / f"{index}_mask.png")
    checkpoint = load_checkpoint(tiny_model)
    model = checkpoint.config.model.model_copy(update={"params": {"mask_norm": "image", "sigma": 0.4}})
    checkpoint.weights["sigma"].fill_(0.6)  # where the schedule of a training ended
    path = labelled_folder / "model.safetensors"
    save_checkpoint(path, replace(checkpoint, config=checkpoint.config.model_copy(update={"model": model})))

    def call(**params):
        overrides = ["data.valid=labels.csv", *(f"model.params.{name}={value}" for name, value in params.items())]
        settings = EvaluateSettings(workers=0, pictures=0)
        return evaluate_model(str(path), labelled_folder, "valid", overrides=overrides, device="cpu", settings=settings)

    return call


def test_another_sigma_empties_or_fills_the_mask_and_is_said_in_the_scores(scored_maxmin):
    own = scored_maxmin()
    assert 0 < own["predicted_fraction"] < 1
    assert "changed" not in own
    empty, full = scored_maxmin(sigma=1.01), scored_maxmin(sigma=-0.01)
    assert (empty["predicted_fraction"], full["predicted_fraction"]) == (0, 1)
    assert empty["changed"] == {"model.params.sigma": 1.01}
    # The config's own value is where the schedule began, and the model has moved on from there.
    assert scored_maxmin(sigma=0.4)["predicted_fraction"] > own["predicted_fraction"]
    assert scored_maxmin(sigma=0.6)["predicted_fraction"] == own["predicted_fraction"]


def test_omega_changes_the_soft_mask_and_not_where_it_reaches_one_half(scored_maxmin):
    gentle, steep = scored_maxmin(omega=0.1), scored_maxmin(omega=1000)
    assert gentle["predicted_fraction"] == pytest.approx(steep["predicted_fraction"], abs=1e-3)
    # At 0.9 a gentle mask has no foreground at all; best_threshold tells them apart.
    assert gentle["best_threshold"] != steep["best_threshold"]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"modalities": 3}, "a trained model keeps its parameters; got --set model.params.modalities=3; expected"),
        (
            {"mask_norm": "none", "sigma": 0.1},
            "got --set model.params.mask_norm=none; expected model.params.sigma, model",
        ),
        ({"omega": -1}, "omega: got -1"),
    ],
)
def test_what_weights_depend_on_cannot_be_set_anew(scored_maxmin, params, says):
    with pytest.raises(InputError, match=says):
        scored_maxmin(**params)
