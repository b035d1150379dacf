"""Colour jitter: torchvision's pixels, for a whole batch at once."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tests.test_augment import picture
from wsi_maxmin.config import AugmentConfig
from wsi_maxmin.data._augment import draw
from wsi_maxmin.data._colour import NEUTRAL, jitter

pytestmark = pytest.mark.usefixtures("one_thread")

OPERATIONS = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
    functional.adjust_hue,
)


def table(*steps):
    return torch.tensor(steps, dtype=torch.float64)


def every_colour():
    """Return an image of all corners, edges, greys and many inner points of the cube of colours."""
    levels = torch.tensor([0, 1, 50, 64, 100, 127, 128, 200, 254, 255], dtype=torch.uint8)
    return torch.cartesian_prod(levels, levels, levels).T.reshape(3, 25, 40).contiguous()


@pytest.mark.parametrize(
    ("operation", "factors"),
    [
        (0, (0.0, 0.5, 1.0, 1.37, 3.0)),
        (1, (0.0, 0.5, 1.0, 1.37, 3.0)),
        (2, (0.0, 0.5, 1.0, 1.37, 3.0)),
        (3, (-0.5, -0.21, -0.05, 0.0, 0.05, 1 / 6, 0.5)),
    ],
)
def test_each_operation_is_torchvision_s(operation, factors):
    for factor in factors:
        expected = OPERATIONS[operation](every_colour(), factor)
        difference = jitter(every_colour()[None], table((operation, factor))[None])[0].int() - expected.int()
        assert difference.abs().max() <= 1
        assert (difference != 0).float().mean() < 0.02


def test_all_four_are_torchvision_s_in_its_order():
    """Torchvision draws for itself; given its own draws, this gives its own pixels."""
    transform = v2.ColorJitter(0.5, 0.5, 0.5, 0.05)
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    for seed in range(8):
        torch.manual_seed(seed)
        params = transform.make_params([picture()])
        steps = table(*((int(index), params[names[index]]) for index in params["fn_idx"]))
        torch.manual_seed(seed)
        difference = jitter(picture()[None], steps[None])[0].int() - transform(picture()).int()
        # A grey level of difference in the first operation may become two or three in the last.
        assert difference.abs().max() <= 3
        assert (difference != 0).float().mean() < 0.02


def test_neutral_factors_change_nothing():
    steps = table(*enumerate(NEUTRAL))
    assert (jitter(every_colour()[None], steps[None])[0].int() - every_colour().int()).abs().max() <= 1


def test_a_batch_is_jittered_image_by_image_as_each_would_be_alone():
    images = torch.stack([picture(seed=seed) for seed in range(4)])
    kept = images.clone()
    colours = torch.stack([draw(AugmentConfig(), (24, 32), (seed,)).colour_table() for seed in range(4)])
    together = jitter(images, colours)
    assert together.dtype == torch.uint8
    assert torch.equal(images, kept)
    for image, colour, jittered in zip(images, colours, together, strict=True):
        assert torch.equal(jittered, jitter(image[None], colour[None])[0])
        assert not torch.equal(jittered, image)


def test_nothing_to_do_costs_nothing():
    images = picture()[None]
    assert jitter(images, torch.empty(1, 0, 2)) is images


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_jitter_on_a_gpu_is_within_a_few_grey_levels_of_that_on_the_cpu():
    images = torch.stack([picture(64, 64, seed) for seed in range(8)])
    colours = torch.stack([draw(AugmentConfig(), (64, 64), (seed,)).colour_table() for seed in range(8)])
    difference = jitter(images.cuda(), colours).cpu().int() - jitter(images, colours).int()
    assert difference.abs().max() <= 4
    assert (difference != 0).float().mean() < 0.02
