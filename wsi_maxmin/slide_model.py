"""What slides are run by: a model of this package, or a TorchScript classifier of somebody else's."""

from pathlib import Path
from typing import Protocol

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.config import SlideConfig
from wsi_maxmin.models import TileModel
from wsi_maxmin.scripted import SUFFIXES, load_description


class SlideModel(Protocol):
    """What engines and pipelines need to know of a model.

    Attributes
    ----------
    name : str
    classes : tuple of str
        Of its scores.
    positive : str
        The class that is mapped.
    slide : SlideConfig
        Tile, µm per pixel and threshold.
    has_masks : bool
        Whether it gives a soft mask of each tile, or class scores alone.
    about : dict of str to str
        Architecture, method, summary and notes, for those who get the model.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def positive(self) -> str: ...  # noqa: D102
    @property
    def slide(self) -> SlideConfig: ...  # noqa: D102
    @property
    def has_masks(self) -> bool: ...  # noqa: D102
    @property
    def about(self) -> dict[str, str]: ...  # noqa: D102

    def fingerprint(self) -> str:
        """Return a short digest: the same model always has the same."""

    def build(self) -> TileModel:
        """Make the model, in eval mode on the CPU, in single precision."""


def load_slide_model(path: Path) -> SlideModel:
    """Read a model by its file: a checkpoint, or TorchScript with a description beside it.

    Raises
    ------
    InputError
        If it cannot be used.
    """
    return load_description(path) if path.suffix in SUFFIXES else load_checkpoint(path)
