import pytest
import torch

from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import InputError


def test_auto_picks_an_accelerator_where_there_is_one():
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (pick_device().type != "cpu") == accelerated


def test_the_cpu_can_be_asked_for():
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", ""])
def test_a_device_that_is_not_there_is_an_error_with_a_remedy(name):
    with pytest.raises(InputError, match=r"no such device here; got .*; expected auto, cpu.*--device auto"):
        pick_device(name)
