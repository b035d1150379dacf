"""A trained model as one file that runs without this package: TorchScript, ONNX or OpenVINO IR.

All three are made of the same graph, which `torch.export` takes of the model in eval mode: tiles of one size, any
number of them. Normalisation of pixels is inside the graph.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.jit._trace import TracerWarning

from wsi_maxmin._unreported import import_unreported
from wsi_maxmin.errors import InputError, MissingExtraError
from wsi_maxmin.models import TileModel
from wsi_maxmin.slide_model import SlideModel

INPUT = "image"
WITH_CLASSES = ("probabilities", "logits", "mask")
MASK_ALONE = ("mask",)
SCORES_ALONE = ("logits",)
DESCRIPTION = "config.json"


class ExportableModel(nn.Module):
    """A method as a function of one tensor to a tuple of tensors.

    Parameters
    ----------
    model : TileModel

    Attributes
    ----------
    names : tuple of str
        What `forward` returns: ``probabilities``, ``logits``, ``mask``; of a method without class output ``mask``.
    """

    def __init__(self, model: TileModel, *, classes: bool) -> None:
        super().__init__()
        self.model = model
        self.names = WITH_CLASSES if classes else MASK_ALONE

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Classify and segment tiles.

        Parameters
        ----------
        image : (B, 3, H, W) float32, values in [0, 1]

        Returns
        -------
        probabilities, logits : (B, K) float32
            Left out where the method has no class output.
        mask : (B, 1, h, w) float32 in [0, 1]
        """
        output = self.model(image)
        if output.logits is None:
            return (output.mask,)
        return torch.softmax(output.logits, dim=1), output.logits, output.mask


class LogitsAlone(nn.Module):
    """The scores of a graph of `WITH_CLASSES`, which is all that WSInfer takes."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (B, K) before softmax."""
        logits: Tensor = self.graph(image)[1]
        return logits


@torch.no_grad()
def trace(model: TileModel, tile_px: int) -> tuple[ExportedProgram, tuple[str, ...]]:
    """Return the graph of a model for tiles of `tile_px`, any number of them, and the names of its outputs.

    Raises
    ------
    InputError
        If a tile's output would depend on its batch, or torch cannot make a graph of the model.
    """
    if model.refuses_tiles:
        raise InputError("this model cannot be exported", remedy=model.refuses_tiles)
    # Two tiles: torch takes a dimension of length 1 to be fixed.
    example = torch.rand(2, 3, tile_px, tile_px)
    exportable = ExportableModel(model.eval(), classes=model(example[:1]).logits is not None)
    try:
        program = torch.export.export(
            exportable, (example,), dynamic_shapes={INPUT: {0: Dim("batch", min=1)}}, strict=False
        )
    except Exception as error:  # whatever torch, the encoder or a method may raise when traced
        raise InputError(
            "torch cannot make a graph of this model", got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error
    return program, exportable.names


def to_torchscript(program: ExportedProgram, names: tuple[str, ...], out: Path) -> list[str]:
    """Write ``model.pt``, and ``torchscript_model.pt`` with the logits alone as WSInfer has it; return the names."""
    graph, example = program.module().requires_grad_(False), program.example_inputs
    assert example is not None
    written: dict[str, nn.Module] = {"model.pt": graph}
    if names == WITH_CLASSES:
        written["torchscript_model.pt"] = LogitsAlone(graph)
    for name, module in written.items():
        with _tracing():
            torch.jit.save(torch.jit.trace(module, example[0], check_trace=False), out / name)
    return list(written)


def to_onnx(program: ExportedProgram, names: tuple[str, ...], out: Path) -> list[str]:
    """Write ``model.onnx``, weights included; return its name."""
    for package in ("onnx", "onnxscript"):
        _need(package, "onnx")
    made = torch.onnx.export(
        program, input_names=[INPUT], output_names=list(names), dynamo=True, external_data=False, verbose=False
    )
    assert made is not None
    made.save(out / "model.onnx")
    return ["model.onnx"]


def to_openvino(program: ExportedProgram, names: tuple[str, ...], out: Path) -> list[str]:
    """Write ``model.xml`` and ``model.bin``, in single precision; return their names.

    By way of ONNX, which OpenVINO reads itself: its converter of torch models takes longer and forgets the names.
    """
    openvino = _need("openvino", "cpu")
    (onnx,) = to_onnx(program, names, out)
    openvino.save_model(openvino.Core().read_model(out / onnx), out / "model.xml", compress_to_fp16=False)
    (out / onnx).unlink()
    return ["model.xml", "model.bin"]


FORMATS: dict[str, Callable[[ExportedProgram, tuple[str, ...], Path], list[str]]] = {
    "torchscript": to_torchscript,
    "onnx": to_onnx,
    "openvino": to_openvino,
}
FILES = {
    "torchscript": ("model.pt", "torchscript_model.pt", DESCRIPTION),
    "onnx": ("model.onnx", DESCRIPTION),
    "openvino": ("model.xml", "model.bin", DESCRIPTION),
}
"""What an export of a format may write."""


def describe(
    model: SlideModel, names: tuple[str, ...], *, mpp: float | None, mask_px: tuple[int, int]
) -> dict[str, Any]:
    """Return what runs the exported model: WSInfer's model config (its schema 1.0), and more under ``wsi_maxmin``.

    WSInfer and QuPath cut patches of the same width in µm and resize them to the tile; the pixels are normalised inside
    the graph, so the transform has no such step.
    """
    tile_px, about = model.slide.tile_px, model.about
    return {
        "spec_version": "1.0",
        "architecture": about["architecture"],
        "num_classes": len(model.classes),
        "class_names": list(model.classes),
        "patch_size_pixels": tile_px,
        "spacing_um_px": mpp,
        "transform": [{"name": "Resize", "arguments": {"size": tile_px}}, {"name": "ToTensor"}],
        "wsi_maxmin": {
            "model": model.fingerprint(),
            "method": about["method"],
            "input": {"name": INPUT, "shape": ["batch", 3, tile_px, tile_px], "type": "float32", "range": [0, 1]},
            "outputs": [
                {"name": name, "shape": ["batch", *((1, *mask_px) if name == "mask" else (len(model.classes),))]}
                for name in names
            ],
            "positive": model.positive,
            "threshold": model.slide.threshold,
            "summary": about["summary"],
            "notes": about["notes"],
        },
    }


def _need(package: str, extra: str) -> Any:
    try:
        return import_unreported(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "this export needs a package that is not installed",
            got=f"no module {error.name}",
            remedy=f"pip install 'wsi-maxmin[{extra}]'",
        ) from error


@contextmanager
def _tracing() -> Iterator[None]:
    """Silence torch's advice to leave TorchScript, which is the one format that WSInfer and QuPath read.

    And that a condition is traced as a constant: it is the graph's own check that there is at least one tile.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
        warnings.filterwarnings("ignore", category=TracerWarning, module="torch")
        yield
