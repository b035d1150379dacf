"""A classifier of somebody else's, as TorchScript: class scores of whole tiles, no mask."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from wsi_maxmin.errors import InputError
from wsi_maxmin.models._base import SegOutput, TileModel

_FROZEN_EQUALS = 1e-5


class Scores(nn.Module):
    """A scripted graph from normalised tiles to class scores, of which softmax is what the classifier says.

    Parameters
    ----------
    graph : nn.Module
    probabilities : bool
        Whether the graph gives probabilities, after softmax; else scores.
    """

    def __init__(self, graph: nn.Module, *, probabilities: bool = False) -> None:
        super().__init__()
        self.graph, self.probabilities = graph, probabilities

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, K) of (B, 3, H, W) float."""
        found: Tensor = self.graph(image)
        if not self.probabilities:
            return found
        found = found.float()
        return found.clamp_min(torch.finfo(found.dtype).tiny).log()


class ScriptedClassifier(TileModel):
    """A scripted graph as a model: class scores of whole tiles, and no mask.

    Parameters
    ----------
    scores : Scores
    mean, std : sequence of 3 float
        Of pixels in [0, 1].
    """

    def __init__(self, scores: Scores, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(mean, std, persistent=False)
        self.scores = scores

    @property
    def kind(self) -> str:
        """What messages call it."""
        return "a TorchScript classifier"

    @property
    def refuses_compiling(self) -> str:
        """Why the model cannot be run compiled."""
        return f"{self.kind} cannot be compiled"

    def segment(self, image: Tensor) -> SegOutput:
        """Classify normalised images, (B, 3, H, W) float."""
        no_mask = image.new_empty(len(image), 0, *image.shape[-2:])
        return SegOutput(image_logits=self.scores(image), cams=None, mask=no_mask)

    def on(self, device: torch.device) -> Self:
        """Move to a device, and join what the graph does with its weights where that changes no score."""
        moved = super().on(device)
        moved.scores.graph = _frozen(moved.scores.graph, device)
        return moved


def load_scripted(
    path: Path, *, num_classes: int, side_px: int, mean: Sequence[float], std: Sequence[float], probabilities: bool
) -> ScriptedClassifier:
    """Read a TorchScript file, which may run code, and run it on one white tile.

    Raises
    ------
    InputError
        If the file is no TorchScript, or what it gives of a tile is not what its description says.
    """
    try:
        with _without_advice():
            graph = torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            "no TorchScript model",
            got=f"{path} ({str(error).strip().partition(chr(10))[0]})",
            expected="a file that torch.jit.save wrote; weights alone (torch.save) do not say how to run them",
        ) from None
    for weights in graph.parameters():
        weights.requires_grad_(False)
    model = ScriptedClassifier(Scores(graph, probabilities=probabilities), mean=mean, std=std)
    white = model.normalise(torch.ones(1, 3, side_px, side_px))
    try:
        with torch.inference_mode():
            found = graph(white)
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot run a tile", got=f"{side_px} px: {str(error).strip().splitlines()[-1]}"
        ) from None
    _check(path, found, num_classes, probabilities=probabilities)
    return model


def _check(path: Path, found: object, num_classes: int, *, probabilities: bool) -> None:
    expected = f"(1, {num_classes}), a value for each class that its description names"
    if not isinstance(found, Tensor):
        raise InputError(
            f"{path} does not give one tensor",
            got=f"a {type(found).__name__}",
            expected=expected,
            remedy="of an export of this package take torchscript_model.pt",
        )
    if tuple(found.shape) != (1, num_classes) or not torch.isfinite(found).all():
        raise InputError(
            f"{path} gives of one tile what cannot be used",
            got=f"shape {tuple(found.shape)}" if torch.isfinite(found).all() else "values that are not finite",
            expected=expected,
        )
    if probabilities and not torch.isclose(found.float().sum(), torch.tensor(1.0), atol=1e-3):
        raise InputError(
            f"{path} gives no probabilities",
            got=f"values that sum to {found.sum():.3g}",
            expected="1",
            remedy='write "gives": "logits" in its description',
        )


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence torch's advice to leave TorchScript, in which the model is given."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
        yield


@torch.inference_mode()
def _frozen(graph: nn.Module, device: torch.device) -> nn.Module:
    """Return the graph with normalisation folded into convolutions, or as it is where that fails or changes scores."""
    example = torch.rand(1, 3, 64, 64, device=device)
    try:
        with _without_advice():
            frozen: nn.Module = torch.jit.freeze(graph)
        same = torch.allclose(frozen(example), graph(example), rtol=0, atol=_FROZEN_EQUALS)
    except RuntimeError:
        return graph  # frozen before, or for one size of tile alone
    return frozen if same else graph
