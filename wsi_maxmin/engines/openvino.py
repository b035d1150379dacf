"""OpenVINO, on Intel and other CPUs: the model's graph, exported once and kept."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from wsi_maxmin._unreported import import_unreported
from wsi_maxmin.engines._base import Engine, Meter, Outputs, Pending, Pixels, as_outputs, join
from wsi_maxmin.engines._graphs import EXPORT_SECONDS, exported_graph, is_exported
from wsi_maxmin.engines._int8 import INT8, int8_graph
from wsi_maxmin.slide_model import SlideModel

T = TypeVar("T")
Array = npt.NDArray[Any]

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
        self.depth = 2
        self._side_px, self._downsample = side_px, downsample
        ov = import_unreported("openvino")
        takes_pixels = _takes_pixels(ov, ov.Core().read_model(graph))
        self._names = tuple(next(iter(port.get_names())) for port in takes_pixels.outputs)
        self._streams = Streams(takes_pixels, precision)

    def submit(self, images: Sequence[Pixels]) -> Pending:
        """Give each tile to the next stream that is free."""
        futures = [self._streams.submit(self.meter, [image[None]], self._read) for image in images]
        return lambda: join([future.result() for future in futures])

    def _read(self, outputs: Sequence[Array]) -> Outputs:
        return as_outputs(dict(zip(self._names, outputs, strict=True)), self._side_px, self._downsample)


class Streams:
    """A compiled graph and the threads that run it, all of them Python's own.

    OpenVINO would call back from threads of its own, which abort the process where Python or the graph ends while one
    of them is still handing its outputs over.

    Parameters
    ----------
    graph : openvino.Model or Path
        A file, where it is one.
    precision : {"fp32", "bf16", "int8"}
    """

    def __init__(self, graph: Any, precision: str) -> None:
        _first_use()
        ov, threads = import_unreported("openvino"), torch.get_num_threads()
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,  # every process would take the first cores, and workers those of each other
        }
        compiled = ov.Core().compile_model(graph, "CPU", settings)
        count = 2 * threads  # the next tile waits in its stream while the outputs of the last are copied
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(count):
            self._idle.put(compiled.create_infer_request())
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="openvino")

    def submit(self, meter: Meter, inputs: Sequence[Array], read: Callable[[list[Array]], T]) -> "Future[T]":
        """Begin to run the graph once.

        Parameters
        ----------
        meter : Meter
            Told when it begins and ends.
        inputs : sequence of array
        read : callable
            Gets the outputs, whose memory is the next run's, and returns what the future gives.
        """
        meter.begin()
        return self._threads.submit(self._run, meter, inputs, read)

    def _run(self, meter: Meter, inputs: Sequence[Array], read: Callable[[list[Array]], T]) -> T:
        request = self._idle.get()
        try:
            return read(_outputs(request, inputs))
        finally:
            self._idle.put(request)
            meter.end()


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


@cache
def _first_use() -> None:
    """Run a graph once on this thread alone.

    What the binding sets up when it first takes and gives an array locks against Python's own lock: two threads that
    come there together wait for each other for ever.
    """
    ov = import_unreported("openvino")
    given = ov.opset13.parameter([1], np.uint8)
    request = ov.Core().compile_model(ov.Model([ov.opset13.relu(given)], [given]), "CPU").create_infer_request()
    _outputs(request, [np.zeros(1, np.uint8)])


def _outputs(request: Any, inputs: Sequence[Array]) -> list[Array]:
    request.start_async(list(inputs), share_inputs=True)
    request.wait()
    return [tensor.data for tensor in request.output_tensors]


def fast(device: torch.device) -> tuple[str, ...]:  # noqa: ARG001 - an engine's form
    """Return the formats to choose from: bf16 where the processor has it; int8 is for those who ask."""
    has = import_unreported("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", "bf16") if "BF16" in has else ("fp32",)


def start_seconds(model: SlideModel) -> float:
    """Return about how long it takes to be ready: long, if the model was never exported on this machine."""
    return 1.0 if is_exported(model, "openvino") else EXPORT_SECONDS


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
