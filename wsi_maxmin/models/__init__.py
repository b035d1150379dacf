"""Methods, one file each: ``build(config) -> WeakSegmenter``, and ``Params``, what its config may say."""

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.config import ModelConfig
from wsi_maxmin.models._base import SegOutput, WeakSegmenter

__all__ = ["SegOutput", "WeakSegmenter", "build_model", "plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="method")


def build_model(config: ModelConfig, num_classes: int, *, load_encoder_weights: bool = True) -> WeakSegmenter:
    """Make the method that a config names.

    Parameters
    ----------
    config : ModelConfig
    num_classes : int
    load_encoder_weights : bool
        False leaves the encoder random: a checkpoint's weights are about to replace it.
    """
    encoder = config.encoder
    if not load_encoder_weights:
        encoder = encoder.model_copy(update={"weights": "none"})
    model: WeakSegmenter = plugins.load(config.name).build(config.model_copy(update={"encoder": encoder}), num_classes)
    return model
