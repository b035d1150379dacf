import dataclasses

import pytest
import torch
from torch import nn

from wsi_maxmin.config import RunConfig
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import build_model
from wsi_maxmin.training._precision import Precision

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CONFIG = RunConfig.model_validate({"model": {"encoder": {"name": "test_resnet"}}}).model


def images():
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "within"), [("fp32", 0), ("bf16", 0.1), ("fp16", 0.02)])
def test_an_output_is_fp32_and_near_that_of_full_precision(name, within):
    torch.manual_seed(0)
    model = build_model(CONFIG, 2).eval()
    got, expected = Precision(name, CPU).forward(model, images()), model(images())
    for field in dataclasses.fields(expected):
        value, exact = getattr(got, field.name), getattr(expected, field.name)
        assert (value is None) == (exact is None)
        if value is not None:
            assert value.dtype == torch.float32
            assert (value - exact).abs().max() <= within
    assert torch.equal(got.mask, expected.mask) == (name == "fp32")


def test_gradients_and_weights_stay_fp32_and_reach_every_part():
    torch.manual_seed(0)
    model = build_model(CONFIG, 2)
    model.loss(Precision("bf16", CPU).forward(model, images()), torch.tensor([0, 1])).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all(), name


def test_a_gradient_that_overflows_fp16_takes_no_step_and_halves_the_scale_that_a_checkpoint_keeps():
    precision, layer = Precision("fp16", CPU), nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.clone()
    precision.scaler.scale(layer(torch.tensor([[float("inf")]])).sum()).backward()
    precision.scaler.step(optimizer)
    precision.scaler.update()
    assert torch.equal(layer.weight, before)
    state = precision.state()
    assert {name: value.item() for name, value in state.items()} == {"precision.scale": 32768, "precision.growth": 0}
    resumed = Precision("fp16", CPU)
    resumed.load(state)
    assert resumed.scaler.state_dict() == precision.scaler.state_dict()


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_only_fp16_has_a_scale(name):
    precision = Precision(name, CPU)
    assert precision.state() == {}
    precision.load({"precision.scale": torch.tensor(2.0), "precision.growth": torch.tensor(1)})
    assert precision.scaler.scale(torch.tensor(3.0)) == 3


def test_a_device_that_cannot_compute_in_a_precision_is_an_error_with_a_remedy(monkeypatch):
    def refuse(*_):
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    with pytest.raises(InputError, match=r"precision; got training\.precision=fp16 on cpu; --set .*=fp32"):
        Precision("fp16", CPU)


@pytest.mark.parametrize(("capability", "works"), [((7, 5), False), ((8, 0), True)])
def test_a_gpu_that_only_emulates_bf16_is_refused(monkeypatch, capability, works):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *_, **__: None)
    if works:
        Precision("bf16", torch.device("cuda"))
    else:
        with pytest.raises(InputError, match="bf16 on cuda"):
            Precision("bf16", torch.device("cuda"))
