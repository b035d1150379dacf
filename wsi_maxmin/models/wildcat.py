"""WILDCAT (Durand et al., CVPR 2017): several maps a class, scored by their highest and lowest positions."""

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from wsi_maxmin.config import Fraction, ModelConfig, parse
from wsi_maxmin.models._base import SegOutput
from wsi_maxmin.models._cams import CamParams, CamSegmenter
from wsi_maxmin.models._encoder import Encoder
from wsi_maxmin.models._pooling import WildcatHead


class Params(CamParams):
    """What the config of this method may say under ``model.params``."""

    modalities: int = Field(4, gt=0, description="maps a class, averaged")
    k_max: Fraction = 0.1
    k_min: Fraction = 0.1
    alpha: float = 0.6
    dropout: Fraction = 0.0


class Wildcat(CamSegmenter):
    """One WILDCAT head on the trunk.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    num_classes, positive : int
    params : Params
    """

    def __init__(self, encoder: Encoder, config: ModelConfig, num_classes: int, positive: int, params: Params) -> None:
        super().__init__(encoder, config, params.mask_rule, positive)
        pooling = params.model_dump(exclude={"mask_rule"})
        self.head = WildcatHead(encoder.channels, num_classes, **pooling)

    def segment(self, image: Tensor) -> SegOutput:
        """Classify images by their pooled maps."""
        return self.read_cams(self.image_cams(self.encoder(image)), image.shape[-2:])

    def image_cams(self, features: Tensor) -> Tensor:
        """Return maps (B, K, h, w) of features (B, C, h, w)."""
        return self.head.cams(features)

    def read_cams(self, cams: Tensor, size: Sequence[int], downsample: int = 1) -> SegOutput:
        """Classify and segment images of a size, given their maps alone."""
        return self._output(size, self.head.scores(cams), cams, downsample)


def build(config: ModelConfig, num_classes: int, positive: int) -> Wildcat:
    """Make the method from its config.

    Raises
    ------
    InputError
        If ``model.params`` has a key or value that it must not have.
    """
    params = parse(Params, config.params, source="model.params")
    return Wildcat(Encoder(config.encoder), config, num_classes, positive, params)
