"""ONNX Runtime on a CPU: the model's graph, exported once and kept."""

from collections.abc import Sequence
from importlib import import_module

import numpy as np
import torch

from wsi_maxmin.engines._base import Engine, Outputs, Pending, Pixels, as_outputs, join
from wsi_maxmin.engines._graphs import EXPORT_SECONDS, exported_graph, is_exported
from wsi_maxmin.export_model import INPUT
from wsi_maxmin.slide_model import SlideModel

PRECISIONS = {"cpu": ("fp32",)}
NEEDS = ("onnxruntime", "onnx")


class OnnxEngine(Engine):
    """A session that takes tiles one by one.

    Parameters
    ----------
    model : SlideModel
    downsample : int
    """

    name, precision = "onnx", "fp32"

    def __init__(self, model: SlideModel, downsample: int) -> None:
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        path = exported_graph(model, "onnx")
        self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._downsample = downsample

    def submit(self, images: Sequence[Pixels]) -> Pending:
        """Run the tiles here."""
        with self.meter.computing():
            outputs = join([self._one(image) for image in images])
        return lambda: outputs

    def _one(self, image: Pixels) -> Outputs:
        batch = (image[None].astype(np.float32) / 255).transpose(0, 3, 1, 2)
        found = dict(zip(self._names, self._session.run(None, {INPUT: np.ascontiguousarray(batch)}), strict=True))
        return as_outputs(found, image.shape[0], self._downsample)


def fast(device: torch.device) -> tuple[str, ...]:  # noqa: ARG001 - an engine's form
    """Return the formats to choose from."""
    return ("fp32",)


def start_seconds(model: SlideModel) -> float:
    """Return about how long it takes to be ready: long, if the model was never exported on this machine."""
    return 2.0 if is_exported(model, "onnx") else EXPORT_SECONDS


def open(
    model: SlideModel,
    *,
    device: torch.device,  # noqa: ARG001 - an engine's form
    precision: str,  # noqa: ARG001 - an engine's form
    downsample: int,
) -> OnnxEngine:
    """Make the engine; the first time, the model is exported, which takes about half a minute."""
    return OnnxEngine(model, downsample)
