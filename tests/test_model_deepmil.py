"""Deep MIL: attention, scores, and the two rules of its mask."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.test_models import build, images

pytestmark = pytest.mark.usefixtures("one_thread")

LABEL = torch.tensor([0, 1, 1])
RULE = build("deepmil").class_masks


def test_attentions_sum_to_one_over_the_positions_of_each_image_and_class():
    cams = build("deepmil", classes=3).eval()(images()).cams
    assert cams.min() > 0
    torch.testing.assert_close(cams.sum(dim=(2, 3)), torch.ones(3, 3))


def test_a_score_is_linear_in_the_features_under_its_own_class_s_attention():
    model = build("deepmil").eval()
    output = model(images())
    features = model.encoder(model.normalise(images()))
    for label, score in enumerate(model.scores):
        mean = (output.cams[:, [label]] * features).sum(dim=(2, 3))
        torch.testing.assert_close(output.logits[:, label], mean @ score.weight[0] + score.bias)


def test_the_attention_is_that_of_a_tanh_layer_without_gate():
    model = build("deepmil", attention_channels=16).eval()
    features = model.encoder(model.normalise(images()))
    inner, outer = model.attention[0], model.attention[2]
    assert inner.weight.shape == (16, 96, 1, 1)
    evidence = outer(torch.tanh(inner(features))).flatten(2)
    torch.testing.assert_close(model(images()).cams.flatten(2), torch.softmax(evidence, dim=2))


def test_uniform_attention_is_foreground_everywhere_at_two_thirds():
    model = build("deepmil").eval()
    for parameter in model.attention.parameters():
        torch.nn.init.zeros_(parameter)
    output = model(images())
    torch.testing.assert_close(model.mask_for(output, LABEL), torch.full((3, 1, 2, 3), 2 / 3))


@given(evidence=st.lists(st.floats(-3, 3, width=16), min_size=12, max_size=12))
def test_the_mask_is_foreground_where_attention_exceeds_half_its_mean_and_grows_with_it(evidence):
    attention = torch.softmax(torch.tensor(evidence).view(1, 2, 6), dim=2)
    masks = RULE(attention.view(1, 2, 2, 3)).view(1, 2, 6)
    clear = (attention - 1 / 12).abs() > 1e-6
    assert torch.equal((masks >= 0.5)[clear], (attention > 1 / 12)[clear])
    for values, mask in zip(attention[0], masks[0], strict=True):
        assert (mask[values.argsort()].diff() >= -1e-6).all()  # one rounding of a quotient


def test_by_the_rule_label_the_mask_is_the_label_s_attention():
    model = build("deepmil").eval()
    output = model(images())
    own = torch.stack([output.cams[image, label] for image, label in enumerate(LABEL)])[:, None]
    assert torch.equal(model.mask_for(output, LABEL) > 0.5, own > 1 / 12)


def test_by_the_rule_positive_the_mask_is_where_the_positive_class_has_the_highest_attention():
    model = build("deepmil", mask_rule="positive", positive=0).eval()
    output = model(images())
    highest = output.cams.argmax(dim=1, keepdim=True)
    assert 0 < (highest == 0).float().mean() < 1
    assert torch.equal(model.mask_for(output, LABEL) >= 0.5, highest == 0)
