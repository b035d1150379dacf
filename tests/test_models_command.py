"""``wsi-maxmin models``: what ships, and whether a given model can be used."""

import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from wsi_maxmin.assets import model_card, model_names
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, state_of
from wsi_maxmin.cli import group
from wsi_maxmin.config import RunConfig
from wsi_maxmin.models import build_model, plugins

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run():
    def invoke(*arguments, code=0):
        result = CliRunner().invoke(group, ["models", *map(str, arguments)])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return invoke


def test_models_lists_every_bundled_one_with_its_licences_and_its_card(run):
    listed = json.loads(run("--json").stdout)
    assert [facts["name"] for facts in listed] == model_names()
    (demo,) = (facts for facts in listed if facts["name"] == "camelyon16-demo")
    assert (demo["method"], demo["encoder"]) == ("maxmin", "efficientnet_lite0")
    assert (demo["mpp"], demo["tile_px"]) == (0.243, 512)
    assert "states no licence" in demo["notes"]
    assert "CC0" in Path(demo["card"]).read_text(encoding="utf-8")
    assert "states no licence" in run().stdout


@pytest.mark.parametrize("name", model_names())
def test_every_bundled_model_has_a_card(name):
    assert model_card(name).is_file()


def test_a_model_is_checked_and_its_facts_are_shown(run, tiny_model):
    facts = json.loads(run(tiny_model, "--json").stdout)
    assert (facts["name"], facts["encoder"], facts["classes"]) == ("tiny", "test_resnet", ["normal", "tumor"])
    assert facts["parameters"] == sum(value.numel() for value in load_checkpoint(tiny_model).build().parameters())
    assert facts["slides"] == "yes"
    assert "finite" in run(tiny_model).stdout


@pytest.mark.parametrize("method", plugins.names())
def test_a_model_of_every_method_passes_the_check(run, tmp_path, method):
    facts = json.loads(run(save(tmp_path, method), "--json").stdout)
    assert (facts["encoder"] is None) == (method in ("constant", "unet"))


def test_a_model_whose_masks_depend_on_their_batch_says_that_it_is_not_for_slides(run, tmp_path):
    assert "no: mask_norm: batch" in run(save(tmp_path, "maxmin", mask_norm="batch")).stdout


def save(folder, method, *, weights=None, **params):
    encoder = {} if method in ("constant", "unet") else {"encoder": {"name": "test_resnet"}}
    config = RunConfig.model_validate(
        {"model": {"name": method, "params": params, **encoder}, "slide": {"mpp": 0.25, "tile_px": 64}}
    )
    torch.manual_seed(0)
    state = state_of(build_model(config.model, 2)) | (weights or {})
    path = folder / "model.safetensors"
    save_checkpoint(path, Checkpoint(config=config, weights=state, epoch=1, metrics={}, optimizer={}, facts={}))
    return path


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(run, tmp_path, value):
    path = save(tmp_path, "maxmin", weights={"sigma": torch.tensor(value)})
    error = run(path, code=2).stderr
    assert "weights that are not finite; got 1 tensors, first sigma" in error


def test_outputs_that_are_no_numbers_are_refused(run, tmp_path):
    huge = torch.full((10, 96, 1, 1), 3e38)
    path = save(tmp_path, "maxmin", weights={"localizer.conv.weight": huge})
    assert "gives outputs that cannot be used; got" in run(path, code=2).stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: record.pop("config"), "is not whole; got no config"),
        (lambda record: record.pop("metrics"), "is not whole; got no metrics"),
        (lambda record: record.update(format="other/3"), "format other/3"),
        (lambda record: record["config"]["slide"].update(tile_px=1), "slide.tile_px: got 1"),
        (lambda record: record["config"]["model"].update(name="nonsense"), "unknown method; got 'nonsense'"),
        (lambda record: record["config"]["model"].update(params={"sigmas": 1}), "sigmas: unknown key"),
        (lambda record: record["config"]["model"]["encoder"].update(name="test_vit"), "do not fit its own config"),
    ],
)
def test_a_record_that_does_not_fit_is_one_line_and_code_2(run, tmp_path, tiny_model, change, says):
    checkpoint = load_checkpoint(tiny_model)
    record = {"format": "wsi-maxmin/1", **dataclasses.asdict(checkpoint), "config": checkpoint.config.model_dump()}
    record = {key: record[key] for key in ("format", "config", "epoch", "metrics", "facts")}
    change(record)
    tensors = {f"model.{name}": value for name, value in checkpoint.weights.items()}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"wsi_maxmin": json.dumps(record)})
    error = run(tmp_path / "m.safetensors", code=2).stderr
    assert says in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("text", ["not json", "[1]", "null"])
def test_a_record_that_is_no_record_is_refused(run, tmp_path, text):
    save_file({"w": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"wsi_maxmin": text})
    assert run(tmp_path / "m.safetensors", code=2).stderr.startswith("error: ")


class Bomb:
    """Make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pkl"])
def test_a_file_that_would_run_code_is_refused_without_running_it(run, tmp_path, write, suffix):
    path, trace = tmp_path / f"model{suffix}", tmp_path / "trace"
    write({"weight": Bomb(trace)}, path)
    assert "the model cannot be read" in run(path, code=2).stderr
    assert not trace.exists()


def test_an_unknown_model_says_which_ship(run):
    assert "camelyon16-demo" in run("nonsense", code=2).stderr
