"""The released P512 objective of Max-Min: two heads, no masked images, a barrier for positive ones alone."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.test_models import build, images
from wsi_maxmin.losses import extended_log_barrier
from wsi_maxmin.models import SegOutput

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "maxmin-released"
LABEL = torch.tensor([0, 1, 1])


@pytest.mark.parametrize("training", [True, False])
def test_the_trunk_runs_once(training):
    model, passes = build(NAME).train(training), []
    model.encoder.register_forward_hook(lambda *_: passes.append(1))
    output = model(images())
    assert passes == [1]
    assert output.foreground_logits is None
    assert output.logits is output.image_logits


def test_the_mask_is_the_sigmoid_of_omega_times_the_map_and_nothing_else():
    model = build(NAME, omega=3.0).eval()
    output = model(images())
    torch.testing.assert_close(output.mask, torch.sigmoid(3 * output.evidence))
    features = model.encoder(model.normalise(images()))
    corner = model.localizer(features).mean(dim=1)[:, 0, 0]
    torch.testing.assert_close(output.evidence[:, 0, 0, 0], corner)


def test_the_terms_are_those_of_the_released_code():
    model = build(NAME)
    output = model(images())
    loss = model.loss(output, LABEL)
    sizes = output.mask.sum(dim=(1, 2, 3))
    empty = torch.nn.functional.binary_cross_entropy(
        torch.sigmoid(output.evidence[0]), torch.zeros_like(output.evidence[0])
    )
    expected = {
        "image": cross_entropy(output.image_logits, LABEL),
        "normal": empty,
        "barrier": extended_log_barrier(-sizes[1:], 5.0).mean(),
    }
    assert set(loss.terms) == set(expected)
    for name, value in expected.items():
        assert loss.terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
    total = 10 * expected["image"] + expected["normal"] + expected["barrier"]
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize(("label", "absent"), [(0, "barrier"), (1, "normal")])
def test_a_batch_without_one_kind_of_image_has_0_for_its_term_and_finite_gradients(label, absent):
    model = build(NAME)
    loss = model.loss(model(images()), torch.full((3,), label))
    loss.total.backward()
    assert [name for name, term in loss.terms.items() if term == 0] == [absent]
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_the_positive_class_is_the_one_that_it_is_told():
    output = build(NAME)(images())
    first, second = build(NAME, positive=0), build(NAME, positive=1)
    assert first.loss(output, LABEL).terms["normal"] == second.loss(output, 1 - LABEL).terms["normal"]
    assert first.loss(output, LABEL).terms["normal"] != second.loss(output, LABEL).terms["normal"]


def test_sizes_are_raw_pixels_unless_they_are_normalised():
    raw, shares = build(NAME), build(NAME, barrier_normalised=True)
    output = raw(images())
    pixels = 64 * 96
    first, second = (model.loss(output, LABEL).terms["barrier"].item() for model in (raw, shares))
    assert second - first == pytest.approx(math.log(pixels) / 5, rel=1e-4)


@pytest.mark.parametrize("evidence", [-1e4, 1e4])
def test_the_loss_and_its_gradient_are_finite_where_the_mask_is_saturated(evidence):
    model = build(NAME)
    maps = torch.full((3, 1, 4, 4), evidence, requires_grad=True)
    output = model(images(3))
    output = type(output)(
        image_logits=output.image_logits, cams=output.cams, mask=torch.sigmoid(5 * maps), evidence=maps
    )
    total = model.loss(output, LABEL).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(maps.grad).all()


@pytest.mark.parametrize(("epochs", "t"), [(0, 5), (1, 5.05), (100, 10)])
def test_t_rises_to_its_cap_and_lives_in_the_state_dict(epochs, t):
    model, fresh = build(NAME), build(NAME)
    for _ in range(epochs):
        model.end_epoch()
    fresh.load_state_dict(model.state_dict())
    assert fresh.barrier_t.item() == pytest.approx(t)


def test_the_loss_refuses_an_output_of_another_method():
    foreign = SegOutput(image_logits=torch.zeros(3, 2), cams=None, mask=torch.ones(3, 1, 4, 4))
    with pytest.raises(ValueError, match="of this method"):
        build(NAME).loss(foreign, LABEL)
