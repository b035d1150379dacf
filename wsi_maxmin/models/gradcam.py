"""Grad-CAM (Selvaraju et al., ICCV 2017) of every class, on the network of CAM-Avg.

The map of class c is ReLU(Σ_k α_ck F_k), where α_ck is the gradient of the score s_c with respect to feature k,
averaged over positions. Here s_c is the mean over h·w positions of a 1×1 convolution, so that gradient is w_ck / (h·w)
at every position and the map has a closed form. It is exact, and unlike a gradient it needs no backward pass for each
class and works in inference mode. Captum's ``LayerGradCam`` with its ReLU on gives the same map, at the price of both
and of a dependency; the tests hold the closed form to autograd.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import conv2d, relu

from wsi_maxmin.config import ModelConfig, parse
from wsi_maxmin.models import cam
from wsi_maxmin.models._base import SegOutput
from wsi_maxmin.models._cams import share_masks
from wsi_maxmin.models._encoder import Encoder
from wsi_maxmin.models._pooling import plain_pooling


class Params(cam.Params):
    """What the config of this method may say under ``model.params``.

    The parameters of CAM-Avg are taken, so that its checkpoint needs another ``model.name`` and nothing else.
    """

    pooling: Literal["avg"] = Field("avg", description="the closed form holds for the mean")


class GradCam(cam.Cam):
    """CAM-Avg in training and in its weights; other maps.

    A map differs from CAM-Avg's by the convolution's bias, which has no part in it, by the factor 1/(h·w), and by the
    ReLU. The ReLU stays: where no class has positive evidence all maps are 0, so that no class is masked there. Without
    it the argmax would go to the class that has the least evidence against it. Masks are shares of the evidence
    (`share_masks`): the factor 1/(h·w) would press a sigmoid's values together at 0.5.
    """

    def class_masks(self, cams: Tensor) -> Tensor:
        """Return each class's share of the evidence, (B, K, h, w) in [0, 1]; 0 where there is none."""
        return share_masks(cams)

    def image_cams(self, features: Tensor) -> Tensor:
        """Return maps (B, 2K, h, w) of features (B, C, h, w): those that make scores, and the same without the bias."""
        return torch.cat([self.conv(features), conv2d(features, self.conv.weight)], dim=1)

    def read_cams(self, cams: Tensor, size: Sequence[int], downsample: int = 1) -> SegOutput:
        """Classify images as CAM-Avg does; the output's `cams` are the Grad-CAM maps, ≥ 0."""
        scored, plain = cams.chunk(2, dim=1)
        positions = cams.shape[2] * cams.shape[3]
        logits = plain_pooling(scored, "avg", sharpness=self.params.sharpness)
        return self._output(size, logits, relu(plain) / positions, downsample)


def build(config: ModelConfig, num_classes: int, positive: int) -> GradCam:
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have.
    """
    params = parse(Params, config.params, source="model.params")
    return GradCam(Encoder(config.encoder), config, num_classes, positive, params)
