"""The U-Net's shape at any size of image, and its supervision by pixels; the constant mask."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from tests.test_models import METHODS, TRUTH, build, images
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import SegOutput

pytestmark = pytest.mark.usefixtures("one_thread")

LABEL = torch.tensor([0, 1, 1])


def test_only_the_unet_is_supervised_by_pixels():
    assert [name for name in METHODS if build(name).SUPERVISION == "pixel"] == ["unet"]


@settings(max_examples=20)
@given(height=st.integers(1, 100), width=st.integers(1, 100))
def test_a_mask_has_the_size_of_its_image_whatever_that_is(height, width):
    model = build("unet", width=2).eval()
    output = model(images(1, height, width))
    assert output.mask.shape == (1, 1, height, width)
    assert output.pixel_logits.shape == (1, 2, height, width)


def test_the_channels_of_the_blocks_are_those_of_the_paper():
    model = build("unet")
    shapes = [
        [(block[0].in_channels, block[0].out_channels, *block[0].stride) for block in blocks]
        for blocks in (model.down, model.before_up, model.after_up)
    ]
    assert shapes == [
        [(3, 16, 1, 1), (16, 32, 2, 2), (32, 64, 2, 2), (64, 128, 2, 2), (128, 256, 2, 2), (256, 512, 2, 2)],
        [(512, 512, 1, 1), (256, 256, 1, 1), (128, 128, 1, 1), (64, 64, 1, 1), (32, 32, 1, 1)],
        [(768, 256, 1, 1), (384, 128, 1, 1), (192, 64, 1, 1), (96, 32, 1, 1), (48, 16, 1, 1)],
    ]
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [module for module in convolutions if module.bias is not None] == [model.head]


def test_each_step_up_joins_the_map_below_with_the_skip_of_its_size():
    model = build("unet", width=2).eval()
    given_to = []
    for block in model.after_up:
        block.register_forward_pre_hook(lambda _, inputs: given_to.append(tuple(inputs[0].shape[1:])))
    model(images(1, 50, 70))
    assert given_to == [(96, 4, 5), (48, 7, 9), (24, 13, 18), (12, 25, 35), (6, 50, 70)]


def test_the_loss_is_the_cross_entropy_of_the_pixels_whatever_the_value_of_foreground():
    model = build("unet", width=2)
    output = model(images())
    expected = cross_entropy(output.pixel_logits, (TRUTH[:, 0] != 0).long())
    assert model.loss(output, LABEL, TRUTH).total.item() == pytest.approx(expected.item())
    assert model.loss(output, LABEL, TRUTH.bool().byte() * 255).total.item() == pytest.approx(expected.item())


def test_the_mask_is_the_posterior_of_foreground_and_has_no_classes():
    output = build("unet", width=2, classes=3).eval()(images())
    torch.testing.assert_close(output.mask[:, 0], torch.softmax(output.pixel_logits, dim=1)[:, 1])
    assert (output.logits, output.cams) == (None, None)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_constant_mask_has_the_config_s_value_at_the_image_s_size(value):
    output = build("constant", value=value).eval()(images())
    assert output.mask.shape == (3, 1, 64, 96)
    assert (output.mask == value).all()


def test_all_ones_is_the_default_of_a_constant_mask_and_its_state_is_empty():
    model = build("constant")
    assert (model(images()).mask == 1).all()
    assert not model.state_dict()


def test_a_constant_mask_cannot_be_trained():
    model = build("constant")
    with pytest.raises(InputError, match="cannot be trained; evaluate its config instead"):
        model.loss(model(images()), LABEL)


def test_the_loss_of_the_unet_refuses_an_output_of_another_method():
    foreign = SegOutput(image_logits=None, cams=None, mask=torch.ones(3, 1, 64, 96))
    with pytest.raises(ValueError, match="needs"):
        build("unet", width=2).loss(foreign, LABEL, TRUTH)
