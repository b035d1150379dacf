"""CAM with its three poolings, Grad-CAM on CAM-Avg, and WILDCAT."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.test_models import TOKENS, build, images
from wsi_maxmin.config import EncoderConfig
from wsi_maxmin.errors import InputError
from wsi_maxmin.models._pooling import modality_mean, plain_pooling

pytestmark = pytest.mark.usefixtures("one_thread")

MAPS = torch.tensor([4.0, 1.0, 3.0, 2.0]).view(1, 1, 2, 2)
LSE = math.log((math.exp(8) + math.exp(2) + math.exp(6) + math.exp(4)) / 4) / 2


@pytest.mark.parametrize(("pooling", "expected"), [("avg", 2.5), ("max", 4), ("lse", LSE)])
def test_pooling_matches_pencil_and_paper(pooling, expected):
    assert plain_pooling(MAPS, pooling, sharpness=2).tolist() == [[pytest.approx(expected)]]


@given(values=st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6), sharpness=st.floats(0.01, 100))
def test_log_sum_exp_lies_between_mean_and_maximum(values, sharpness):
    maps = torch.tensor(values, dtype=torch.float64).view(1, 1, 2, 3)
    mean, lse, highest = (plain_pooling(maps, how, sharpness=sharpness).item() for how in ("avg", "lse", "max"))
    assert mean - 1e-9 <= lse <= highest + 1e-9


def test_log_sum_exp_of_large_values_is_finite_in_value_and_gradient():
    maps = torch.tensor([1e4, -1e4, 9999.0, 0.0]).view(1, 1, 2, 2).requires_grad_()
    score = plain_pooling(maps, "lse", sharpness=10)
    score.sum().backward()
    assert score.item() == pytest.approx(1e4 - math.log(4) / 10)
    assert maps.grad.sum().item() == pytest.approx(1, rel=1e-3)


def test_modalities_of_a_class_are_neighbouring_channels():
    maps = torch.arange(6.0).view(1, 6, 1, 1)
    assert modality_mean(maps, 3).flatten().tolist() == [1, 4]


@pytest.mark.parametrize("pooling", ["avg", "max", "lse"])
def test_cam_s_scores_are_its_pooled_maps(pooling):
    model = build("cam", pooling=pooling, sharpness=7.0).eval()
    output = model(images())
    assert output.cams.shape == (3, 2, 2, 3)
    torch.testing.assert_close(output.logits, plain_pooling(output.cams, pooling, sharpness=7.0))
    loss = model.loss(output, torch.tensor([0, 1, 1]))
    picked = torch.log_softmax(output.logits, dim=1)[torch.arange(3), torch.tensor([0, 1, 1])]
    assert loss.total.item() == pytest.approx(-picked.mean().item())
    assert set(loss.terms) == {"image"}


def test_poolings_share_their_maps_and_differ_in_their_scores():
    outputs = [build("cam", pooling=pooling).eval()(images()) for pooling in ("avg", "max", "lse")]
    assert all(torch.equal(outputs[0].cams, other.cams) for other in outputs[1:])
    average, highest, lse = (output.logits for output in outputs)
    assert (average < lse).all()
    assert (lse < highest).all()


def test_the_log_sum_exp_of_cam_has_r_10_by_default():
    output = build("cam", pooling="lse").eval()(images())
    torch.testing.assert_close(output.logits, plain_pooling(output.cams, "lse", sharpness=10))


def grad_cam_by_autograd(model, pixels):
    """Return ReLU(Σ_k mean gradient · feature) of each class, one backward pass a class."""
    kept = []
    handle = model.encoder.register_forward_hook(lambda *call: kept.append(call[2]))
    scores = model(pixels).logits
    handle.remove()
    maps = []
    for score in scores.unbind(dim=1):
        (gradient,) = torch.autograd.grad(score.sum(), kept[0], retain_graph=True)
        maps.append((gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1).relu())
    return torch.stack(maps, dim=1).detach()


@pytest.mark.parametrize("encoder", [EncoderConfig(name="test_resnet"), TOKENS], ids=["convolutional", "tokens"])
def test_grad_cam_s_closed_form_is_the_map_that_autograd_gives_of_every_class(encoder):
    model = build("gradcam", encoder=encoder, classes=3).eval()
    with torch.inference_mode():
        cams = model(images()).cams
    expected = grad_cam_by_autograd(model, images())
    assert 0 < (expected > 0).float().mean() < 1
    torch.testing.assert_close(cams, expected, rtol=1e-4, atol=1e-7)


def test_grad_cam_s_closed_form_is_the_map_of_captum():
    attr = pytest.importorskip("captum.attr")
    model = build("gradcam").eval()
    library = attr.LayerGradCam(lambda pixels: model(pixels).logits, model.encoder)
    pixels = (images() / 255).requires_grad_()
    for label in (0, 1):
        expected = library.attribute(pixels, target=label, relu_attributions=True)
        torch.testing.assert_close(model(pixels).cams[:, [label]], expected, rtol=1e-4, atol=1e-7)


def test_grad_cam_takes_the_weights_and_parameters_of_cam_avg_and_classifies_as_it_does():
    average, grad = build("cam", pooling="avg").eval(), build("gradcam", pooling="avg").eval()
    for parameter in grad.parameters():
        torch.nn.init.zeros_(parameter)
    grad.load_state_dict(average.state_dict())
    assert torch.equal(grad(images()).logits, average(images()).logits)
    # The maps are the same up to bias and scale where they are positive.
    expected = (average(images()).cams - average.conv.bias.view(1, 2, 1, 1)).relu() / (2 * 3)
    torch.testing.assert_close(grad(images()).cams, expected, rtol=1e-3, atol=1e-6)


def test_grad_cam_does_not_see_the_bias_of_the_scores():
    model = build("gradcam").eval()
    before = model(images())
    torch.nn.init.constant_(model.conv.bias, 3.0)
    assert torch.equal(model(images()).cams, before.cams)
    assert not torch.equal(model(images()).logits, before.logits)


def test_grad_cam_masks_no_class_where_nothing_speaks_for_any():
    model = build("gradcam").eval()
    torch.nn.init.zeros_(model.conv.weight)
    output = model(images())
    assert not any(model.mask_for(output, torch.full((3,), label)).any() for label in (0, 1))


def test_grad_cam_refuses_a_pooling_that_its_closed_form_does_not_hold_for():
    with pytest.raises(InputError, match=r"model\.params: pooling: got 'max'"):
        build("gradcam", pooling="max")


def test_wildcat_has_the_published_pooling_by_default():
    head = build("wildcat").head
    assert (head.modalities, head.k_max, head.k_min, head.alpha, head.dropout) == (4, 0.1, 0.1, 0.6, 0)


@pytest.mark.parametrize("name", ["k_max", "k_min", "alpha"])
def test_each_of_wildcat_s_parameters_acts_on_its_scores_and_not_on_its_maps(name):
    # 24 positions, so that a tenth of them is some.
    before, after = (build("wildcat", **changed).eval()(images(2, 128, 192)) for changed in ({}, {name: 0.9}))
    assert not torch.allclose(before.logits, after.logits)
    assert torch.equal(before.cams, after.cams)
