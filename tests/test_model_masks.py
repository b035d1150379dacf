"""Which class's mask a method gives, and that soft masks are exact where they are thresholded."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch.nn.functional import interpolate

from tests.test_models import METHODS, build, images
from wsi_maxmin.checkpoint import Checkpoint
from wsi_maxmin.config import RunConfig
from wsi_maxmin.models import SegOutput
from wsi_maxmin.models._cams import CamSegmenter, margin_masks, share_masks

pytestmark = pytest.mark.usefixtures("one_thread")

WITH_CAMS = [name for name in METHODS if isinstance(build(name), CamSegmenter)]
ARGMAX = [name for name in WITH_CAMS if name not in ("deepmil", "erase")]

# Eighths: far enough apart that no sigmoid rounds to 0.5, and tied often.
maps_of = st.integers(2, 4).flatmap(
    lambda classes: hnp.arrays(np.int8, (2, classes, 2, 3), elements=st.integers(-32, 32)).map(
        lambda values: torch.from_numpy(values).float() / 8
    )
)


@given(maps=maps_of)
def test_a_class_s_mask_is_foreground_exactly_where_no_other_map_is_higher(maps):
    assert torch.equal(margin_masks(maps) >= 0.5, maps == maps.amax(dim=1, keepdim=True))


@given(maps=maps_of)
def test_a_class_s_share_is_foreground_exactly_where_its_map_is_the_highest_and_not_zero(maps):
    maps = maps.relu()
    masks = share_masks(maps)
    assert torch.equal(masks >= 0.5, (maps == maps.amax(dim=1, keepdim=True)) & (maps > 0))
    assert 0 <= masks.min() <= masks.max() <= 1


@given(maps=maps_of, scale=st.sampled_from([2.0**-20, 0.25, 2.0**20]))
def test_shares_do_not_depend_on_the_scale_of_the_maps(maps, scale):
    assert torch.equal(share_masks(maps.relu() * scale), share_masks(maps.relu()))


def test_for_two_classes_the_mask_is_the_softmax_over_the_maps():
    maps = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(margin_masks(maps), torch.softmax(maps, dim=1))


def test_masks_match_pencil_and_paper():
    maps = torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 5.0]]).view(1, 3, 1, 2)
    torch.testing.assert_close(
        share_masks(maps).flatten(2)[0], torch.tensor([[3 / 5, 0], [1 / 4, 0], [2 / 5, 1]]), rtol=1e-6, atol=0
    )
    margins = torch.tensor([[1.0, -5.0], [-2.0, -5.0], [-1.0, 5.0]])
    torch.testing.assert_close(margin_masks(maps).flatten(2)[0], torch.sigmoid(margins))


@pytest.mark.parametrize("name", ARGMAX)
@pytest.mark.parametrize("classes", [2, 3])
def test_by_the_rule_label_the_mask_is_where_the_argmax_is_the_label(name, classes):
    model = build(name, classes=classes).eval()
    output, label = model(images()), torch.tensor([1, 0, classes - 1])
    highest = output.cams.argmax(dim=1, keepdim=True)
    evident = output.cams.amax(dim=1, keepdim=True) > 0 if name == "gradcam" else torch.tensor(True)
    assert torch.equal(model.mask_for(output, label) >= 0.5, (highest == label.view(3, 1, 1, 1)) & evident)


@pytest.mark.parametrize("name", WITH_CAMS)
@pytest.mark.parametrize("positive", [0, 1])
def test_by_the_rule_positive_the_mask_is_the_positive_class_s_whatever_the_label(name, positive):
    model = build(name, positive=positive, mask_rule="positive").eval()
    output = model(images())
    zeros, ones = (model.mask_for(output, torch.full((3,), label)) for label in (0, 1))
    assert torch.equal(zeros, ones)
    by_label = build(name, mask_rule="label").eval()
    if name != "deepmil":  # its two rules are two masks
        torch.testing.assert_close(ones, by_label.mask_for(output, torch.full((3,), positive)), rtol=0, atol=0)


@pytest.mark.parametrize("name", WITH_CAMS)
def test_without_a_label_the_mask_is_the_positive_class_s_at_the_image_s_size(name):
    for positive in (0, 1):
        model = build(name, positive=positive).eval()
        output = model(images())
        of_class = model.mask_for(output, torch.full((3,), positive))
        full = interpolate(of_class, (64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(output.mask, full, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", WITH_CAMS)
def test_the_positive_class_is_the_last_one_unless_it_is_named(name):
    default, named = (build(name, classes=3, positive=positive).eval() for positive in (None, 2))
    assert torch.equal(default(images()).mask, named(images()).mask)


def test_a_checkpoint_tells_its_model_which_class_is_positive():
    for positive in ("tumor", "normal"):
        config = RunConfig.model_validate(
            {
                "data": {"classes": ["tumor", "normal"], "positive": positive},
                "model": {"name": "cam", "encoder": {"name": "test_resnet"}},
            }
        )
        weights = build("cam").state_dict()
        checkpoint = Checkpoint(config=config, weights=weights, epoch=1, metrics={}, optimizer={}, facts={})
        assert checkpoint.build().positive == ("tumor", "normal").index(positive)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in WITH_CAMS])
def test_a_method_with_one_mask_gives_it_whatever_the_label(name):
    model = build(name).eval()
    output = model(images())
    assert all(model.mask_for(output, torch.full((3,), label)) is output.mask for label in (0, 1))


@pytest.mark.parametrize("name", WITH_CAMS)
def test_a_mask_without_maps_and_a_loss_without_scores_are_refused(name):
    model, bare = build(name), SegOutput(image_logits=None, cams=None, mask=torch.ones(1, 1, 2, 2))
    with pytest.raises(ValueError, match="needs an output"):
        model.mask_for(bare, torch.tensor([0]))
    with pytest.raises(ValueError, match="needs an output"):
        model.loss(bare, torch.tensor([0]))


@pytest.mark.data
@pytest.mark.parametrize("name", METHODS)
def test_every_method_segments_a_real_image_of_odd_size_for_either_label(name, data_dir):
    with Image.open(data_dir / "glas" / "train_1.png") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None, :, ::2, ::2]
    assert pixels.shape[2] % 32
    model = build(name).eval()
    with torch.inference_mode():
        output = model(pixels)
        masks = [model.mask_for(output, torch.tensor([label])) for label in (0, 1)]
    assert output.mask.shape == (1, 1, *pixels.shape[2:])
    for mask in (output.mask, *masks):
        assert torch.isfinite(mask).all()
        assert 0 <= mask.min() <= mask.max() <= 1
    if name in ARGMAX and name != "gradcam":
        assert torch.equal(masks[0] >= 0.5, masks[1] < 0.5)
