"""Which models can be run densely, and that their parts put together are the models."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from wsi_maxmin.config import EncoderConfig, ModelConfig
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import build_model
from wsi_maxmin.models._dense import ForegroundMethod, dense_method
from wsi_maxmin.models._resize import enlarge

pytestmark = pytest.mark.usefixtures("one_thread")

DENSE = ("cam", "gradcam", "maxmin", "wildcat")


def build(name, encoder="test_resnet", options=None, **params):
    torch.manual_seed(0)
    config = ModelConfig(name=name, encoder=EncoderConfig(name=encoder, options=options or {}), params=params)
    return build_model(config, 2, positive=1).eval()


@pytest.mark.parametrize("name", DENSE)
@torch.no_grad()
def test_trunk_maps_and_reading_put_together_are_the_model(name):
    model = build(name)
    method, step = dense_method(model, 64)
    assert step == 32
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pixels = method.normalise(image)
    parts, whole = method.read_cams(method.image_cams(method.encoder(pixels)), (64, 64)), model(image)
    torch.testing.assert_close(parts.mask, whole.mask)
    torch.testing.assert_close(parts.image_logits, whole.image_logits)
    if isinstance(method, ForegroundMethod):
        scores = method.foreground_scores(method.foreground_cams(method.encoder(pixels * parts.mask)))
        torch.testing.assert_close(scores, whole.foreground_logits)


def test_only_max_min_looks_twice():
    assert [name for name in DENSE if isinstance(build(name), ForegroundMethod)] == ["maxmin"]


@pytest.mark.parametrize("name", ["deepmil", "erase", "pn", "maxmin-released"])
def test_methods_whose_outputs_do_not_follow_from_maps_are_refused(name):
    with pytest.raises(InputError, match=rf"cannot be run densely; got {name}.*--mode tile"):
        dense_method(build(name), 64)


def test_a_classifier_that_looks_at_another_scale_is_refused():
    with pytest.raises(InputError, match="expected classifier_scale: 1"):
        dense_method(build("maxmin", classifier_scale=0.8), 64)


@pytest.mark.parametrize(("encoder", "options"), [("test_efficientnet", {}), ("test_vit", {"dynamic_img_size": True})])
def test_trunks_that_look_far_or_know_where_they_are_are_refused(encoder, options):
    with pytest.raises(InputError, match="cannot be run over large regions"):
        dense_method(build("cam", encoder, options), 64)


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_lite0"])
def test_trunks_of_convolutions_alone_are_taken(encoder):
    assert dense_method(build("cam", encoder), 64)[1] == 32


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("downsample", [1, 2, 8])
def test_means_are_those_of_the_interpolated_maps(align_corners, downsample):
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    full = interpolate(maps, (64, 80), mode="bilinear", align_corners=align_corners)
    got = enlarge(maps, (64, 80), align_corners=align_corners, downsample=downsample)
    torch.testing.assert_close(got, avg_pool2d(full, downsample))
