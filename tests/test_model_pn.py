"""PN: the size penalty and nothing else."""

import pytest
import torch
from torch.nn.functional import interpolate

from tests.test_models import build, images
from wsi_maxmin.losses import presence_penalty

pytestmark = pytest.mark.usefixtures("one_thread")

LABEL = torch.tensor([0, 1, 1])


def test_pn_has_no_class_output():
    assert build("pn").eval()(images()).logits is None


def test_the_loss_is_the_weighted_penalty_of_the_posterior_at_the_image_s_size():
    model = build("pn", penalty_weight=0.25)
    output = model(images())
    maps = interpolate(output.cams, (64, 96), mode="bilinear", align_corners=True)
    expected = presence_penalty(torch.softmax(maps, dim=1), LABEL)
    loss = model.loss(output, LABEL)
    assert loss.terms["presence"].item() == pytest.approx(expected.item())
    assert loss.total.item() == pytest.approx(0.25 * expected.item())
    assert build("pn").params.penalty_weight == 1e-5


def test_the_maps_are_the_means_of_their_modalities():
    model = build("pn", modalities=3).eval()
    features = model.encoder(model.normalise(images()))
    channels = model.conv(features)
    assert channels.shape[1] == 6
    torch.testing.assert_close(model(images()).cams[:, 1], channels[:, 3:].mean(dim=1))


def test_a_map_that_says_the_label_everywhere_has_no_loss_and_the_opposite_the_greatest():
    model = build("pn", penalty_weight=1.0)
    torch.nn.init.zeros_(model.conv.weight)
    model.conv.bias.data = torch.tensor([50.0] * 5 + [-50.0] * 5)
    first, second = (model.loss(model(images()), torch.full((3,), label)).total for label in (0, 1))
    assert first.item() == pytest.approx(0, abs=1e-6)
    # One class has all pixels and should have none; the other has none and should have one.
    assert second.item() == pytest.approx(64 * 96 + 1 / (64 * 96))
