"""Class activation maps (Zhou et al., CVPR 2016) with average, maximum or log-sum-exp pooling.

With log-sum-exp: Pinheiro and Collobert, CVPR 2015. CAM-Avg, CAM-Max and CAM-LSE of the paper's tables.
"""

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from wsi_maxmin.config import ModelConfig, Positive, parse
from wsi_maxmin.models._base import SegOutput
from wsi_maxmin.models._cams import CamParams, CamSegmenter
from wsi_maxmin.models._encoder import Encoder
from wsi_maxmin.models._pooling import Pooling, plain_pooling


class Params(CamParams):
    """What the config of this method may say under ``model.params``."""

    pooling: Pooling = Field("avg", description="how a class's map becomes its score")
    sharpness: Positive = Field(10.0, description="r of the log-sum-exp pooling")


class Cam(CamSegmenter):
    """One 1×1 convolution to a map a class; the pooled map is the class's score.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    num_classes, positive : int
    params : Params
    """

    def __init__(self, encoder: Encoder, config: ModelConfig, num_classes: int, positive: int, params: Params) -> None:
        super().__init__(encoder, config, params.mask_rule, positive)
        self.params = params
        self.conv = nn.Conv2d(encoder.channels, num_classes, 1)

    def segment(self, image: Tensor) -> SegOutput:
        """Classify images by their pooled maps."""
        return self.read_cams(self.image_cams(self.encoder(image)), image.shape[-2:])

    def image_cams(self, features: Tensor) -> Tensor:
        """Return maps (B, K, h, w) of features (B, C, h, w)."""
        maps: Tensor = self.conv(features)
        return maps

    def read_cams(self, cams: Tensor, size: Sequence[int], downsample: int = 1) -> SegOutput:
        """Classify and segment images of a size, given their maps alone."""
        logits = plain_pooling(cams, self.params.pooling, sharpness=self.params.sharpness)
        return self._output(size, logits, cams, downsample)


def build(config: ModelConfig, num_classes: int, positive: int) -> Cam:
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have.
    """
    params = parse(Params, config.params, source="model.params")
    return Cam(Encoder(config.encoder), config, num_classes, positive, params)
