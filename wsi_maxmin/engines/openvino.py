"""OpenVINO, on Intel and other CPUs: the model's graph, exported once and kept."""

import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from wsi_maxmin.engines._base import Engine, Meter, Outputs, Pending, Pixels, as_outputs, join
from wsi_maxmin.engines._graphs import EXPORT_SECONDS, exported_graph, is_exported
from wsi_maxmin.engines._int8 import INT8, int8_graph
from wsi_maxmin.slide_model import SlideModel

PRECISIONS = {"cpu": ("fp32", "bf16", INT8)}
NEEDS = ("openvino", "cpu")

_HINTS = {"fp32": "f32", "bf16": "bf16", INT8: "f32"}
"""Of what a graph does in floating point: of int8 that is little, and exact."""


class OpenVinoEngine(Engine):
    """A compiled graph with one stream a thread: tiles are run side by side, each alone.

    Parameters
    ----------
    graph : Path
        Model for tiles (B, 3, H, W) in [0, 1].
    side_px : int
        Of the tiles.
    precision : {"fp32", "bf16", "int8"}
        OpenVINO emulates bf16 where the processor lacks it. int8 is a graph of its own, see `wsi_maxmin.engines._int8`.
    downsample : int
    """

    name = "openvino"

    def __init__(self, graph: Path, *, side_px: int, precision: str, downsample: int) -> None:
        self.precision = precision
        ov = _openvino()
        takes_pixels = _takes_pixels(ov, ov.Core().read_model(graph))
        names = tuple(next(iter(port.get_names())) for port in takes_pixels.outputs)
        # Not a method of this object: the two would hold each other, and the model's memory, for ever.
        self._queue = compile_graph(takes_pixels, precision, _Keeper(names, side_px, downsample, self.meter))
        finish_with(self, self._queue)
        self.depth = 2

    def submit(self, images: Sequence[Pixels]) -> Pending:
        """Give each tile to the next stream that is free."""
        futures: list[Future[Outputs]] = [Future() for _ in images]
        for image, future in zip(images, futures, strict=True):
            self.meter.begin()
            self._queue.start_async([image[None]], future)
        return lambda: join([future.result() for future in futures])


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Copies a tile's outputs: the request's own memory is the next tile's."""

    names: tuple[str, ...]
    side_px: int
    downsample: int
    meter: Meter

    def __call__(self, request: Any, future: "Future[Outputs]") -> None:
        try:
            found = {name: request.get_output_tensor(index).data for index, name in enumerate(self.names)}
            future.set_result(as_outputs(found, self.side_px, self.downsample))
        except Exception as error:  # raised where the outputs are waited for, not in OpenVINO's own thread
            future.set_exception(error)
        finally:
            self.meter.end()


def compile_graph(model: Any, precision: str, keep: Callable[[Any, Any], None]) -> Any:
    """Return a queue that runs a graph, a model of OpenVINO or a file, with one stream a thread.

    Parameters
    ----------
    model : openvino.Model or Path
    precision : {"fp32", "bf16"}
    keep : callable
        Gets each request when it is done, and what was given with its inputs.
    """
    ov = _openvino()
    threads = torch.get_num_threads()
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
    }
    queue = ov.AsyncInferQueue(ov.Core().compile_model(model, "CPU", settings), 2 * threads)
    queue.set_callback(keep)
    return queue


def finish_with(owner: object, queue: Any) -> None:
    """Let a queue's threads come to their end before its owner goes, or Python ends: they would abort the process.

    A thread that has handed its outputs over is still a moment in Python.
    """
    weakref.finalize(owner, queue.wait_all)


def _takes_pixels(ov: Any, model: Any) -> Any:
    """Let the graph take a tile as readers give it: (1, H, W, 3) bytes."""
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).scale(255.0)
    model = steps.build()
    shape = model.input().get_partial_shape()
    model.reshape([1, *(shape[axis] for axis in range(1, 4))])
    return model


def _openvino() -> Any:
    # OpenVINO reports to its makers when it is imported, unless this part of it is missing. What looks at patients'
    # slides must not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how Python marks it missing
    return import_module("openvino")


def fast(device: torch.device) -> tuple[str, ...]:  # noqa: ARG001 - an engine's form
    """Return the formats to choose from: bf16 where the processor has it; int8 is for those who ask."""
    has = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", "bf16") if "BF16" in has else ("fp32",)


def start_seconds(model: SlideModel) -> float:
    """Return about how long it takes to be ready: long, if the model was never exported on this machine."""
    return 2.0 if is_exported(model, "openvino") else EXPORT_SECONDS


def open(
    model: SlideModel,
    *,
    device: torch.device,  # noqa: ARG001 - an engine's form
    precision: str,
    downsample: int,
) -> OpenVinoEngine:
    """Make the engine; the first time, the model is exported, which takes about half a minute."""
    graph = int8_graph(model) if precision == INT8 else exported_graph(model, "openvino")
    return OpenVinoEngine(graph, side_px=model.slide.tile_px, precision=precision, downsample=downsample)
