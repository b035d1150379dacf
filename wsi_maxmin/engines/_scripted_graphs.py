"""Graphs of TorchScript classifiers for other engines: no Python is left of which `torch.export` could make one."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_maxmin._unreported import import_unreported
from wsi_maxmin.errors import InputError
from wsi_maxmin.export_model import INPUT
from wsi_maxmin.models import ScriptedClassifier

_OUTPUT = "logits"


class _OfPixels(nn.Module):
    """Class scores of tiles in [0, 1]; unlike the model itself nothing but a tensor comes out of it."""

    def __init__(self, model: ScriptedClassifier) -> None:
        super().__init__()
        self.scores, self.mean, self.std = model.scores, model.pixel_mean, model.pixel_std

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, K) of (B, 3, H, W) float."""
        scores: Tensor = self.scores((image - self.mean) / self.std)
        return scores


@torch.no_grad()
def write_scripted(model: ScriptedClassifier, tile_px: int, to: str, out: Path) -> None:
    """Write ``model.xml`` and ``model.bin`` (openvino) or ``model.onnx`` (onnx), which give ``logits`` alone.

    Raises
    ------
    InputError
        If the format cannot say what the model does.
    """
    example = torch.rand(2, 3, tile_px, tile_px)
    with warnings.catch_warnings():
        # torch and converters advise to leave TorchScript, in which the model is given.
        warnings.simplefilter("ignore")
        try:
            # Frozen, since OpenVINO does not find weights of a graph within a graph.
            traced = torch.jit.freeze(torch.jit.trace(_OfPixels(model).eval(), example, check_trace=False))
            (_openvino if to == "openvino" else _onnx)(traced, example, out)
        except Exception as error:  # whatever a converter may raise at an operation that it does not know
            raise InputError(
                f"this TorchScript model cannot be run by {to}",
                got=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
                remedy="--engine torch",
            ) from error


def _openvino(traced: nn.Module, example: Tensor, out: Path) -> None:
    openvino = import_unreported("openvino")
    graph = openvino.convert_model(traced, example_input=example, input=[-1, *example.shape[1:]])
    graph.inputs[0].get_tensor().set_names({INPUT})
    graph.outputs[0].get_tensor().set_names({_OUTPUT})
    openvino.save_model(graph, out / "model.xml", compress_to_fp16=False)


def _onnx(traced: nn.Module, example: Tensor, out: Path) -> None:
    # The exporter for TorchScript; the newer one takes no scripted model.
    torch.onnx.export(
        traced,
        (example,),
        out / "model.onnx",
        input_names=[INPUT],
        output_names=[_OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, _OUTPUT: {0: "batch"}},
        dynamo=False,
    )
