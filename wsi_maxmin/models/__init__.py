"""Methods, one file each: ``build(config, num_classes, positive)``, and ``Params``, what its config may say."""

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.config import ModelConfig
from wsi_maxmin.models._base import SegOutput, TileModel, WeakSegmenter
from wsi_maxmin.models._scripted import ScriptedClassifier, load_scripted

__all__ = [
    "ScriptedClassifier",
    "SegOutput",
    "TileModel",
    "WeakSegmenter",
    "build_model",
    "load_scripted",
    "plugins",
]

plugins = Plugins(package=__name__, path=__path__, kind="method")


def build_model(
    config: ModelConfig, num_classes: int, *, positive: int | None = None, load_encoder_weights: bool = True
) -> WeakSegmenter:
    """Make the method that a config names.

    Parameters
    ----------
    config : ModelConfig
    num_classes : int
    positive : int, optional
        Index of the class whose mask is the foreground where no label is given; the last class if left out.
    load_encoder_weights : bool
        False leaves the encoder random: a checkpoint's weights are about to replace it.

    Raises
    ------
    InputError
        If there is no such method, or it does not take what the config says.
    """
    encoder = config.encoder
    if not load_encoder_weights:
        encoder = encoder.model_copy(update={"weights": "none"})
    config = config.model_copy(update={"encoder": encoder})
    positive = num_classes - 1 if positive is None else positive
    model: WeakSegmenter = plugins.load(config.name).build(config, num_classes, positive)
    return model
