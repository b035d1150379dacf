"""The bundled configs: what each row of the published tables is, and the commands that show it."""

import pytest
import yaml
from click.testing import CliRunner

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.cli import group
from wsi_maxmin.config import RunConfig, list_configs, load_config
from wsi_maxmin.models import build_model

pytestmark = pytest.mark.usefixtures("one_thread")

PARAMETERS = {
    "all-ones": 0,
    "pn": 11_330_122,
    "erase": 11_326_016,
    "cam-avg": 11_177_538,
    "cam-max": 11_177_538,
    "cam-lse": 11_177_538,
    "grad-cam": 11_177_538,
    "wildcat": 11_180_616,
    "deep-mil": 11_243_460,
    "u-net": 14_154_706,
    **{f"maxmin-{row}": 11_335_252 for row in ("eem", "sem", "eem-released", "sem-released", "fg", "fg-eem", "fg-sem")},
}
TRUNK, CHANNELS = 11_324_992, 512
P512_PARAMETERS = {
    **PARAMETERS,
    **dict.fromkeys(("maxmin-eem", "maxmin-sem"), TRUNK + 2 * (CHANNELS + 1) * 2 * 4),  # four modalities, not five
    "maxmin-sem-released": TRUNK + (CHANNELS + 1) * (2 * 4 + 5),
}
ROWS = {name for name in PARAMETERS if not name.startswith("maxmin")} | {"maxmin-eem", "maxmin-sem"}


@pytest.mark.parametrize("name", [name for name in list_configs() if not name.startswith("camelyon16-demo")])
def test_every_config_builds_a_model_of_exactly_the_published_number_of_parameters(name):
    folder, row = name.split("/")
    model = build_model(load_config(name).model, 2, load_encoder_weights=False)
    expected = PARAMETERS if folder == "glas" else P512_PARAMETERS
    assert sum(parameter.numel() for parameter in model.parameters()) == expected[row]


@pytest.mark.parametrize("folder", ["glas", "camelyon16-p512"])
def test_every_row_of_the_tables_has_a_config(folder):
    assert len(ROWS) == 12
    assert {f"{folder}/{row}" for row in ROWS} <= set(list_configs())


def test_every_row_of_the_ablation_has_a_config():
    switches = {
        row: [load_config(f"glas/maxmin-{row}").model.params.get(key) for key in ("background", "barrier")]
        for row in ("fg", "fg-eem", "eem", "fg-sem", "sem")
    }
    # None is the default: SEM, with the size barrier.
    assert switches == {
        "fg": ["none", False],
        "fg-eem": ["eem", False],
        "eem": ["eem", None],
        "fg-sem": [None, False],
        "sem": [None, None],
    }


def schedule(name):
    t = load_config(name).training
    return t.epochs, t.repeat, t.batch_size, t.learning_rate, t.decay, t.decay_every, t.weight_decay


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("glas/maxmin-sem glas/maxmin-eem-released glas/maxmin-fg", (80, 1, 4, 1e-3, 0.9, 10, 1e-4)),
        ("camelyon16-p512/maxmin-sem camelyon16-p512/maxmin-eem", (20, 1, 8, 1e-3, 0.1, 10, 1e-4)),
        ("camelyon16-p512/maxmin-sem-released", (20, 1, 4, 1e-3, 0.9, 10, 1e-4)),
        ("glas/cam-avg glas/grad-cam glas/wildcat glas/deep-mil", (160, 8, 32, 1e-2, 0.1, 80, 1e-4)),
        ("camelyon16-p512/cam-lse camelyon16-p512/grad-cam", (20, 1, 8, 1e-3, 0.1, 10, 1e-4)),
        ("glas/pn glas/erase camelyon16-p512/pn camelyon16-p512/erase", (400, 1, 8, 1e-3, 0.1, 40, 1e-5)),
        ("glas/u-net", (960, 1, 16, 0.1, 0.1, 320, 1e-4)),
        ("camelyon16-p512/u-net", (90, 1, 16, 0.1, 0.1, 30, 1e-4)),
    ],
)
def test_the_schedules_are_the_published_ones(names, expected):
    for name in names.split():
        assert schedule(name) == expected, name
        assert load_config(name).training.learning_rate_floor == 1e-7


def test_grad_cam_trains_as_cam_avg_does():
    for folder in ("glas", "camelyon16-p512"):
        one, other = (load_config(f"{folder}/{row}") for row in ("grad-cam", "cam-avg"))
        assert one.training == other.training
        assert one.model.encoder == other.model.encoder


def test_max_min_s_parameters_are_those_of_the_paper_and_of_the_released_code():
    def params(name):
        config = load_config(name)
        return build_model(config.model, 2, load_encoder_weights=False).params

    paper, released = params("glas/maxmin-sem"), params("glas/maxmin-sem-released")
    assert (paper.mask_norm, paper.classifier_scale, paper.sigma, paper.sigma_step) == ("image", 1, 0.15, 0)
    assert (released.mask_norm, released.classifier_scale) == ("batch", 0.8)
    assert (released.sigma, released.sigma_step, released.sigma_cap) == (0.15, 0.001, 0.2)
    for p in (paper, released):
        assert (p.modalities, p.k_max, p.k_min, p.dropout, p.omega) == (5, 0.3, 0, 0.1, 5)
        assert (p.background_weight, p.barrier_t, p.barrier_growth, p.barrier_cap) == (1e-7, 5, 1.01, 10)
    p = params("camelyon16-p512/maxmin-sem")
    assert (p.modalities, p.k_max, p.k_min, p.alpha, p.dropout, p.mask_norm) == (4, 0.1, 0.1, 0.6, 0, "running")
    assert (p.sigma, p.sigma_step, p.omega, p.background_weight) == (0.15, 0, 5, 1e-7)
    assert (p.barrier_t, p.barrier_growth, p.barrier_cap) == (10, 1.1, 30)


def test_images_are_prepared_as_published():
    glas, p512 = load_config("glas/maxmin-sem"), load_config("camelyon16-p512/maxmin-sem")
    assert (glas.data.shorter_side_px, glas.augment.crop_px) == (432, 416)
    assert (glas.augment.horizontal_flip, glas.augment.vertical_flip, glas.augment.rotate_90) == (0.5, 0.5, False)
    assert (p512.data.shorter_side_px, p512.augment.crop_px) == (None, 416)
    assert (p512.augment.horizontal_flip, p512.augment.vertical_flip, p512.augment.rotate_90) == (0.5, 0, True)
    assert glas.augment.jitter == p512.augment.jitter == (0.5, 0.5, 0.5, 0.05)
    assert (glas.model.pixel_mean, glas.model.pixel_std) == ((0.5,) * 3, (0.5,) * 3)
    assert (p512.model.pixel_mean, p512.model.pixel_std) == ((0,) * 3, (1,) * 3)
    assert p512.data.unmasked_is_background


@pytest.mark.parametrize("row", ["cam-avg", "cam-max", "cam-lse", "grad-cam", "wildcat", "deep-mil", "erase", "pn"])
def test_masks_follow_the_label_on_glas_and_the_positive_class_on_p512(row):
    glas, p512 = (
        build_model(load_config(f"{folder}/{row}").model, 2, load_encoder_weights=False)
        for folder in ("glas", "camelyon16-p512")
    )
    assert (glas.rule, p512.rule) == ("label", "positive")


@pytest.mark.parametrize("name", [name for name in list_configs() if not name.endswith(("all-ones", "u-net"))])
def test_every_config_with_an_encoder_runs_on_the_weights_that_pip_installs(name):
    config = load_config(name, ["encoder=efficientnet-lite0"])
    model = build_model(config.model, 2)
    assert model.encoder.channels == 1280
    assert model.pixel_mean.flatten().tolist() == [0.5] * 3


def test_a_network_of_its_own_takes_no_encoder():
    config = load_config("glas/u-net", ["encoder=efficientnet-lite0"])
    with pytest.raises(ValueError, match=r"unet has no encoder; got efficientnet_lite0"):
        build_model(config.model, 2)


@pytest.fixture
def run():
    def invoke(*arguments, code=0):
        result = CliRunner().invoke(group, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_configs_lists_each_on_one_line_with_its_method_its_weights_and_its_summary(run):
    lines = run("configs").stdout.splitlines()
    assert len(lines) == 1 + len(list_configs())
    for line, name in zip(lines[1:], list_configs(), strict=True):
        config = load_config(name)
        assert line.split()[:2] == [name, config.model.name]
        assert line.endswith(config.summary)
    (line,) = (line for line in lines if line.startswith("glas/maxmin-sem "))
    assert line.split()[2:4] == ["resnet18", "none"]
    assert "efficientnet-lite0" in run("configs").stderr


def test_configs_prints_a_config_that_loads_as_the_same_one(run, tmp_path):
    overrides = ["--set", "training.epochs=3", "--set", "encoder=efficientnet-lite0"]
    printed = run("configs", "glas/maxmin-eem", *overrides).stdout
    assert yaml.safe_load(printed)["training"]["epochs"] == 3
    (tmp_path / "own.yaml").write_text(printed, encoding="utf-8")
    expected = load_config("glas/maxmin-eem", ["training.epochs=3", "encoder=efficientnet-lite0"])
    assert load_config(str(tmp_path / "own.yaml")) == expected


def test_configs_says_which_there_are_and_refuses_a_change_of_none(run):
    assert "did you mean glas/maxmin-sem?" in run("configs", "glas/maxmin-sen", code=2).stderr
    assert "NAME" in run("configs", "--set", "seed=1", code=2).stderr
    said = run("configs", "glas/wildcat", "--set", "training.repeats=1", code=2).stderr
    assert "training.repeats: unknown key; did you mean 'repeat'?" in said
    assert "training.repeat: got 0" in run("configs", "glas/wildcat", "--set", "training.repeat=0", code=2).stderr


OWN = """\
data: {train: train.csv, classes: [stroma, tumor, necrosis], positive: tumor, valid_fraction: 0.34}
augment: {crop_px: 32}
model: {encoder: {name: test_resnet}}
training: {epochs: 1, batch_size: 3, workers: 0}
slide: {mpp: 0.5, tile_px: 64}
"""


def test_five_lines_train_on_three_classes_of_one_s_own(run, tmp_path, colours):
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    out = tmp_path / "run"
    run("train", tmp_path / "own.yaml", "--data", colours, "--out", out, "--device", "cpu")
    config = load_checkpoint(out / "model.safetensors").config
    assert config.data.classes == ("stroma", "tumor", "necrosis")
    assert RunConfig.model_validate(yaml.safe_load((out / "config.yaml").read_text())) == config
    assert "stroma, tumor, necrosis" in run("models", out).stdout


@pytest.fixture
def colours(tmp_path):
    """Return a folder of nine plain images in three classes, and ``train.csv`` of `image,label`."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    rows = ["label,group,image"]
    for index in range(9):
        label, colour = (("stroma", "green"), ("tumor", "red"), ("necrosis", "blue"))[index % 3]
        Image.new("RGB", (40, 36), colour).save(folder / f"{index}.png")
        rows.append(f"{label},patient {index},{index}.png")
    (folder / "train.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder
