"""ERASE: what is erased, for whom, how often, and what is made of it."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from tests.test_models import build, images
from wsi_maxmin.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

LABEL = torch.tensor([0, 1, 1])


def positive_somewhere(**params):
    """Return a model in eval mode each of whose maps is above 0 somewhere in each image."""
    model = build("erase", **params).eval()
    model.conv.weight.data[1] = -model.conv.weight.data[0]
    assert (model(images()).cams.amax(dim=(2, 3)) > 0).all()
    return model


def record(model):
    """Return the list that every normalised batch given to the encoder is put in."""
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    return seen


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_region_is_where_a_map_is_within_its_share_of_the_maximum(share):
    model = positive_somewhere(erased=share)
    output = model(images())
    maps = interpolate(output.cams, (64, 96), mode="bilinear", align_corners=True)
    highest = maps.amax(dim=(2, 3), keepdim=True)
    clear = (maps - (1 - share) * highest).abs() > 1e-4 * highest
    assert torch.equal((output.regions >= 0.5)[clear], (maps >= (1 - share) * highest)[clear])
    torch.testing.assert_close(output.regions.amax(dim=(2, 3)), torch.ones(3, 2))


def test_the_soft_region_matches_pencil_and_paper():
    model = build("erase", erased=0.2)
    maps = torch.tensor([[10.0, 8.0, 4.0, 0.0, -3.0], [-1.0, -2.0, -1.0, -5.0, 0.0]]).view(1, 2, 1, 5)
    soft = model._region(maps, (1, 5))[0].flatten(1)
    halved = 0.4 ** (math.log(0.5) / math.log(0.8))
    torch.testing.assert_close(soft, torch.tensor([[1, 0.5, halved, 0, 0], [0, 0, 0, 0, 0]]), rtol=1e-5, atol=1e-7)


def test_an_image_in_which_nothing_speaks_for_a_class_has_no_region_of_it():
    model = positive_somewhere()
    torch.nn.init.zeros_(model.conv.weight)
    assert not model(images()).regions.any()


def test_training_classifies_each_image_once_whole_and_once_without_each_class_s_region():
    model = positive_somewhere().train()
    seen = record(model)
    output = model(images())
    whole, erased = seen
    kept = (output.regions < 0.5).unsqueeze(2)
    torch.testing.assert_close(erased.view(3, 2, 3, 64, 96), whole.unsqueeze(1) * kept, rtol=0, atol=0)
    assert output.erased_logits.shape == (3, 1, 2, 2)


def test_the_loss_is_that_of_the_image_and_of_what_is_left_without_the_label_s_region():
    model = build("erase", rounds=2)
    output = model(images())
    loss = model.loss(output, LABEL)
    left = torch.cat([output.erased_logits[:, turn][torch.arange(3), LABEL] for turn in (0, 1)])
    assert loss.terms["image"].item() == pytest.approx(cross_entropy(output.image_logits, LABEL).item())
    assert loss.terms["erased"].item() == pytest.approx(cross_entropy(left, LABEL.repeat(2)).item())
    assert loss.total.item() == pytest.approx(sum(loss.terms.values()).item())


def test_what_is_erased_for_another_class_than_the_label_teaches_nothing():
    model = build("erase")
    output = model(images())
    (gradient,) = torch.autograd.grad(model.loss(output, LABEL).total, output.erased_logits)
    taught = gradient.abs().sum(dim=(1, 3)) > 0
    assert torch.equal(taught, torch.nn.functional.one_hot(LABEL, 2).bool())


@pytest.mark.parametrize(("rounds", "images_seen"), [(1, [3]), (2, [3, 6]), (3, [3, 6, 6])])
def test_a_mask_needs_one_classification_less_than_there_are_rounds(rounds, images_seen):
    model = positive_somewhere(rounds=rounds)
    seen = record(model)
    output = model(images())
    assert [len(batch) for batch in seen] == images_seen
    assert output.erased_logits is None


def test_later_rounds_only_add_to_the_regions_and_erase_what_is_left():
    regions = [positive_somewhere(rounds=rounds)(images()).regions for rounds in (1, 2, 3)]
    assert (regions[0] <= regions[1]).all()
    assert (regions[1] <= regions[2]).all()
    assert (regions[1] >= 0.5).sum() > (regions[0] >= 0.5).sum()
    model = positive_somewhere(rounds=3)
    seen = record(model)
    model(images())
    assert (seen[2] == 0).sum() > (seen[1] == 0).sum()
    assert torch.equal(seen[2] == 0, (seen[1] == 0) | (seen[2] == 0))


def test_a_class_s_second_region_is_that_of_its_own_map_of_the_image_without_its_first_one():
    model, first = positive_somewhere(rounds=2), positive_somewhere(rounds=1)(images()).regions
    expected = []
    for label in (0, 1):
        left = model.normalise(images()) * (first[:, [label]] < 0.5)
        second = model._region(model.conv(model.encoder(left)), (64, 96))
        expected.append(torch.maximum(first, second)[:, label])
    torch.testing.assert_close(model(images()).regions, torch.stack(expected, dim=1), rtol=1e-4, atol=1e-5)


def test_the_mask_is_the_region_of_the_label_at_full_size():
    model = positive_somewhere()
    output = model(images())
    expected = torch.stack([output.regions[image, label] for image, label in enumerate(LABEL)])[:, None]
    assert torch.equal(model.mask_for(output, LABEL), expected)


@pytest.mark.parametrize("share", [0, 1])
def test_erasing_nothing_or_everything_is_refused(share):
    with pytest.raises(InputError, match=r"model\.params: erased: got"):
        build("erase", erased=share)


def test_the_loss_refuses_an_output_of_eval_mode():
    model = build("erase").eval()
    with pytest.raises(ValueError, match="training mode"):
        model.loss(model(images()), LABEL)
