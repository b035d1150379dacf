"""The same mask for every image: all ones, the lower bound of the paper's tables."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from wsi_maxmin.config import Fraction, ModelConfig, Strict, parse
from wsi_maxmin.errors import InputError
from wsi_maxmin.losses import LossTerms
from wsi_maxmin.models._base import SegOutput, WeakSegmenter


class Params(Strict):
    """What the config of this method may say under ``model.params``."""

    value: Fraction = Field(1.0, description="of every pixel of the mask")


class Constant(WeakSegmenter):
    """No network, no parameters, an empty state: the config alone is the model, and there is nothing to train.

    Parameters
    ----------
    config : ModelConfig
        It must not name an encoder.
    params : Params
    """

    CLASSIFIES: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, params: Params) -> None:
        super().__init__(None, config)
        self.value = params.value

    def segment(self, image: Tensor) -> SegOutput:
        """Give every pixel the same value."""
        return SegOutput(image_logits=None, cams=None, mask=torch.full_like(image[:, :1], self.value))

    def loss(self, output: SegOutput, label: Tensor, truth: Tensor | None = None) -> LossTerms:  # noqa: ARG002
        """Raise InputError: there is nothing to learn."""
        raise InputError("a constant mask cannot be trained", remedy="evaluate its config instead")


def build(config: ModelConfig, num_classes: int, positive: int) -> Constant:  # noqa: ARG001 - it knows no class
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have, or the config names an encoder.
    """
    return Constant(config, parse(Params, config.params, source="model.params"))
