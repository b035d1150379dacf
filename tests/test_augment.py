import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from wsi_maxmin.config import AugmentConfig, parse
from wsi_maxmin.data._augment import Choice, draw
from wsi_maxmin.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

KEPT = Choice(top=0, left=0, side=None, mirrored=False, upside_down=False, quarter_turns=0, colour=())


def picture(height=24, width=32, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_a_crop_lies_in_its_image_or_its_image_in_the_crop(height, width, crop, seed):
    """Every pixel of the crop is the image's or white, and no row or column of either is lost."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)
    still = AugmentConfig(crop_px=crop, horizontal_flip=0, vertical_flip=0, rotate_90=False)
    cropped = draw(still, (height, width), (seed,)).move(image, 255)
    assert cropped.shape == (3, crop, crop)
    inside = cropped[2] == 0
    for axis, length in ((0, height), (1, width)):
        seen = cropped[axis][inside].unique()
        assert len(seen) == min(length, crop) == seen.max() - seen.min() + 1


@given(st.integers(0, 2**31), st.integers(2, 20), st.integers(2, 20), st.sampled_from([None, 3, 15]))
def test_an_image_and_its_mask_move_alike(seed, height, width, crop):
    choice = draw(AugmentConfig(crop_px=crop), (height, width), (seed,))
    mask = (picture(height, width)[:1] > 128).to(torch.uint8)
    moved = choice.move(mask.repeat(3, 1, 1), 0)
    assert torch.equal(moved[1:2], choice.move(mask, 0))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mirrored": True}, lambda x: torch.flip(x, (-1,))),
        ({"upside_down": True}, lambda x: torch.flip(x, (-2,))),
        ({"quarter_turns": 1}, lambda x: torch.rot90(x, 1, (-2, -1))),
        ({"top": 2, "left": 5, "side": 8}, lambda x: x[:, 2:10, 5:13]),
        ({"top": -3, "left": -2, "side": 40}, lambda x: functional.pad(x, [2, 3, 6, 13], fill=255)),
    ],
)
def test_each_move_is_what_its_name_says(change, expected):
    moved = Choice(**{**{key: getattr(KEPT, key) for key in KEPT.__slots__}, **change}).move(picture(), 255)
    assert torch.equal(moved, expected(picture()))
    assert moved.is_contiguous()


def test_the_choice_of_one_kind_of_change_does_not_depend_on_the_others():
    everything, moves = AugmentConfig(crop_px=8), AugmentConfig(crop_px=8, jitter=(0, 0, 0, 0))
    for seed in range(20):
        first, second = (draw(config, (24, 32), (seed,)) for config in (everything, moves))
        assert len(first.colour) == 4
        assert second.colour == ()
        for name in ("top", "left", "mirrored", "upside_down", "quarter_turns"):
            assert getattr(first, name) == getattr(second, name)


def test_chances_and_factors_are_those_of_the_config():
    config = AugmentConfig(crop_px=8, horizontal_flip=0.2, vertical_flip=0.7, jitter=(0.5, 2, 0, 0.05))
    choices = [draw(config, (24, 32), (1, seed)) for seed in range(2000)]
    assert np.mean([choice.mirrored for choice in choices]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([choice.upside_down for choice in choices]) == pytest.approx(0.7, abs=0.03)
    assert {choice.quarter_turns for choice in choices} == {0, 1, 2, 3}
    assert {choice.top for choice in choices} == set(range(17))
    assert {choice.left for choice in choices} == set(range(25))
    assert len({tuple(operation for operation, _ in choice.colour) for choice in choices}) == 6
    for operation, low, high in ((0, 0.5, 1.5), (1, 0, 3), (3, -0.05, 0.05)):
        factors = [dict(choice.colour)[operation] for choice in choices]
        assert low <= min(factors) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < max(factors) <= high


@pytest.mark.parametrize("values", [[-0.1, 0, 0, 0], [0, 0, 0, 0.6], [0.5, 0.5]])
def test_jitter_that_torchvision_would_refuse_is_refused_with_the_config(values):
    with pytest.raises(InputError, match=r"jitter"):
        parse(AugmentConfig, {"jitter": values}, source="x.yaml")
