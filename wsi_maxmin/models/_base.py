"""What every method gives, and the pixel normalisation that all share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from wsi_maxmin.config import EncoderConfig, ModelConfig
from wsi_maxmin.errors import InputError
from wsi_maxmin.losses import LossTerms
from wsi_maxmin.models._encoder import Encoder

_PLAIN_PIXELS = (0.5, 0.5, 0.5)
"""Mean and standard deviation that bring [0, 1] to [−1, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegOutput:
    """What a method says of a batch. In eval mode element i depends on image i alone.

    Attributes
    ----------
    image_logits : (B, K) float or None
        Class scores of the whole images.
    cams : (B, K, h, w) float or None
        Class activation maps before softmax.
    mask : (B, 1, h, w) float in [0, 1]
        Soft foreground mask; (B, 0, h, w) of a classifier that has none.
    foreground_logits, background_logits : (B, K) float or None
        Class scores of the images with only their foreground, with only their background left.
    """

    image_logits: Tensor | None
    cams: Tensor | None
    mask: Tensor
    foreground_logits: Tensor | None = None
    background_logits: Tensor | None = None

    @property
    def logits(self) -> Tensor | None:
        """The scores that classify an image: those of its foreground where the method has them."""
        return self.foreground_logits if self.foreground_logits is not None else self.image_logits


class TileModel(nn.Module, ABC):
    """What can be run over tiles.

    Parameters
    ----------
    mean, std : sequence of 3 float
        What images are normalised by before `segment`.
    persistent : bool
        Whether the two belong to the state.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=persistent)
        self.register_buffer("pixel_std", torch.tensor(std).view(1, 3, 1, 1), persistent=persistent)

    @property
    def kind(self) -> str:
        """What messages call it: a method by its name."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    @abstractmethod
    def segment(self, image: Tensor) -> SegOutput:
        """Classify and segment normalised images, (B, 3, H, W) float."""

    @property
    def refuses_tiles(self) -> str | None:
        """Why the outputs of different tiles cannot be compared, with the remedy; None if they can."""
        return None

    @property
    def refuses_slides(self) -> str | None:
        """Why the model cannot be run over slides, with the remedy; None if it can."""
        return self.refuses_tiles

    @property
    def refuses_compiling(self) -> str | None:
        """Why the model cannot be run compiled; None if it can."""
        return None

    def on(self, device: torch.device) -> Self:
        """Move to a device, in the memory layout that convolutions are fastest in."""
        self.to(memory_format=torch.channels_last)
        return self.to(device)

    def normalise(self, image: Tensor) -> Tensor:
        """Bring (B, 3, H, W) uint8, or float in [0, 1], to the pixel values that the network takes."""
        if image.dtype == torch.uint8:
            image = image.float() / 255
        return (image - self.pixel_mean) / self.pixel_std

    def forward(self, image: Tensor) -> SegOutput:
        """Classify and segment images.

        Parameters
        ----------
        image : (B, 3, H, W) uint8, or float in [0, 1]
        """
        return self.segment(self.normalise(image))


class WeakSegmenter(TileModel):
    """A network that learns masks from image-level labels.

    Subclasses implement `segment` and `loss`; images reach both normalised. Whatever changes from epoch to epoch
    (σ, the barrier's t) is a buffer advanced by `end_epoch`, so that a checkpoint holds it.

    Parameters
    ----------
    encoder : Encoder or None
        None in a method that has a network of its own, or none at all.
    config : ModelConfig
        Its ``pixel_mean`` and ``pixel_std`` replace the encoder's own where they are given; without an encoder they
        default to 0.5.

    Raises
    ------
    InputError
        If the config asks for an encoder where there is none.
    """

    SUPERVISION: ClassVar[Literal["image", "pixel"]] = "image"
    """What training may see: labels of images, or masks as well."""

    CLASSIFIES: ClassVar[bool] = True
    """Whether an output has class scores."""

    ADJUSTABLE: ClassVar[tuple[str, ...]] = ()
    """Which of ``model.params`` no weight depends on, so that a trained model may be scored with others."""

    encoder: Encoder

    def __init__(self, encoder: Encoder | None, config: ModelConfig) -> None:
        mean = config.pixel_mean or (encoder.pixel_mean if encoder else _PLAIN_PIXELS)
        std = config.pixel_std or (encoder.pixel_std if encoder else _PLAIN_PIXELS)
        # Without an encoder the config alone decides them, so that the state need not repeat them.
        super().__init__(mean, std, persistent=encoder is not None)
        if encoder is not None:
            self.encoder = encoder
        elif config.encoder != EncoderConfig():
            raise InputError(
                f"{config.name} has no encoder", got=config.encoder.name, remedy="leave model.encoder out of its config"
            )

    @abstractmethod
    def loss(self, output: SegOutput, label: Tensor, truth: Tensor | None = None) -> LossTerms:
        """Compare an output of training mode with what is known of the images.

        Parameters
        ----------
        output : SegOutput
        label : (B,) int64
            Classes of the images.
        truth : (B, 1, H, W) uint8, optional
            Ground truth; given to a method of pixel supervision and to no other.
        """

    def mask_for(self, output: SegOutput, label: Tensor) -> Tensor:  # noqa: ARG002 - others go by it
        """Return the soft masks to score, (B, 1, h, w) in [0, 1], of images of the given classes, (B,) int64.

        Some baselines mask what speaks for a label; whether it is the true one or the predicted one is the caller's
        choice. Others, as here, have one mask whatever the label.
        """
        return output.mask

    @property
    def refuses_slides(self) -> str | None:
        """Why the model cannot be run over slides, with the remedy; None if it can."""
        if not self.CLASSIFIES:
            return "it gives no class scores, of which the tumour map is made; use another method"
        return self.refuses_tiles

    def end_epoch(self) -> None:
        """Advance whatever changes from epoch to epoch."""
