import dataclasses
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wsi_maxmin.checkpoint import Checkpoint, for_use, load_checkpoint, save_checkpoint, state_of
from wsi_maxmin.config import RunConfig
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import build_model

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = RunConfig.model_validate(
    {"model": {"encoder": {"name": "test_resnet"}}, "notes": "CC0", "slide": {"mpp": 0.25}}
)


def images():
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def checkpoint():
    """Return a model after one step of running statistics and schedules, as training would keep it."""
    torch.manual_seed(0)
    model = build_model(CONFIG.model, 2).to(memory_format=torch.channels_last)
    model(images())
    model.end_epoch()
    momentum = {name: torch.randn_like(value) for name, value in model.named_parameters()}
    return Checkpoint(
        config=CONFIG,
        weights=state_of(model),
        epoch=3,
        metrics={"valid_accuracy": 87.5, "epoch": 3},
        optimizer=momentum,
        facts={"train": 8},
    )


def assert_same(got, expected):
    for field in dataclasses.fields(Checkpoint):
        ours, theirs = getattr(got, field.name), getattr(expected, field.name)
        if field.name in ("weights", "optimizer"):
            assert set(ours) == set(theirs)
            assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        else:
            assert ours == theirs


def test_a_checkpoint_comes_back_as_it_was_saved_and_leaves_no_partial_file(tmp_path, checkpoint):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"an older one")
    save_checkpoint(path, checkpoint)
    assert_same(load_checkpoint(path), checkpoint)
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_builds_a_model_in_eval_mode_that_gives_the_same_masks(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    model = load_checkpoint(tmp_path / "model.safetensors").build()
    assert not model.training
    assert model.barrier_t.item() == pytest.approx(5.05)
    assert torch.equal(model(images()).mask, checkpoint.build()(images()).mask)


def test_a_model_for_use_is_smaller_and_its_masks_are_within_a_hundredth(tmp_path, checkpoint):
    slim = for_use(checkpoint)
    for name, value in (("slim", slim), ("full", checkpoint)):
        save_checkpoint(tmp_path / name, value)
    model = load_checkpoint(tmp_path / "slim").build()
    assert (tmp_path / "slim").stat().st_size < 0.3 * (tmp_path / "full").stat().st_size
    assert not slim.optimizer
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(model(images()).mask, checkpoint.build()(images()).mask, rtol=0, atol=1e-2)


def test_a_model_for_use_keeps_its_statistics_and_schedules_exactly(checkpoint):
    slim, buffers = for_use(checkpoint).build(), dict(checkpoint.build().named_buffers())
    assert {"sigma", "barrier_t", "mask_norm.low", "encoder.body.bn1.running_var"} <= set(buffers)
    assert all(torch.equal(value, buffers[name]) for name, value in slim.named_buffers())


def test_a_file_that_breaks_off_is_an_error(tmp_path, checkpoint):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"the model cannot be read; got .*model\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_foreign_safetensors_file_is_refused(tmp_path, metadata):
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors", metadata=metadata)
    with pytest.raises(InputError, match=r"not a model of wsi-maxmin; got .*; expected wsi-maxmin/1"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_a_missing_model_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"no such model; got .*; expected a \.safetensors file"):
        load_checkpoint(tmp_path / "gone.safetensors")


class Touch:
    """Make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_nothing_in_a_model_file_is_unpickled(tmp_path, write):
    path, trace = tmp_path / "model.safetensors", tmp_path / "trace"
    write({"weight": Touch(trace)}, path)
    with pytest.raises(InputError, match="the model cannot be read"):
        load_checkpoint(path)
    assert not trace.exists()


def test_weights_that_do_not_fit_the_config_are_an_error(checkpoint):
    weights = {name: value for name, value in checkpoint.weights.items() if name != "sigma"}
    with pytest.raises(InputError, match=r"do not fit its own config; got .*sigma"):
        dataclasses.replace(checkpoint, weights=weights).build()
