"""Graphs of eight-bit integers for OpenVINO: calibrated once on tiles of tissue, kept by the model's fingerprint."""

import hashlib
import io
import logging
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_maxmin._unreported import import_unreported
from wsi_maxmin.engines._base import Pixels
from wsi_maxmin.engines._graphs import cache_folder, exported_graph
from wsi_maxmin.errors import InputError, MissingExtraError
from wsi_maxmin.export_model import FILES
from wsi_maxmin.progress import Advance
from wsi_maxmin.slide_model import SlideModel

INT8 = "int8"
REPORT = "int8.json"
"""What calibrated a graph, and how well it agrees with single precision."""

_CHANNELS = 3
_GRAPH, _WEIGHTS, _ = FILES["openvino"]


def int8_folder(model: SlideModel) -> Path:
    """Return where a model's graph is kept: nothing but the model decides it, so that it outlasts versions."""
    return cache_folder() / INT8 / hashlib.sha256(model.fingerprint().encode()).hexdigest()[:16]


def int8_graph(model: SlideModel) -> Path:
    """Return the file of a model's graph.

    Raises
    ------
    InputError
        If it was never made here.
    """
    graph = int8_folder(model) / _GRAPH
    if not graph.is_file():
        raise InputError(
            "this model was not calibrated for int8",
            got=f"no {graph}",
            remedy="wsi-maxmin export-model MODEL --to openvino --precision int8 --calibration SLIDE --out DIR",
        )
    return graph


def int8_digest(model: SlideModel) -> str:
    """Return what tells a graph from that of another calibration."""
    graph = int8_graph(model)
    parts = (graph.read_bytes(), graph.with_name(_WEIGHTS).read_bytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()[:8]


def quantise(model: SlideModel, tiles: Sequence[Pixels], out: Path, advance: Advance) -> None:
    """Write ``model.xml`` and ``model.bin`` with weights and activations of eight bits, one scale a channel of weights.

    Parameters
    ----------
    model : SlideModel
    tiles : sequence of (H, W, 3) uint8
        Of tissue, as the model will see it: they decide the ranges of activations.
    out : Path
        Folder that is there.
    advance : Advance
        Told of every tile.

    Raises
    ------
    MissingExtraError
        If NNCF is not installed.
    """
    nncf, openvino = _nncf(), import_unreported("openvino")
    graph = openvino.Core().read_model(exported_graph(model, "openvino"))
    # Folded into convolutions, normalisation has biases that NNCF corrects.
    import_unreported("openvino._offline_transformations").apply_moc_transformations(graph, cf=True)

    def as_input(tile: Pixels) -> npt.NDArray[np.float32]:
        advance()
        return np.ascontiguousarray((tile[None].astype(np.float32) / 255).transpose(0, 3, 1, 2))

    ignored = nncf.IgnoredScope(names=_of_pixels(graph))
    with redirect_stdout(io.StringIO()):  # its own bars
        made = nncf.quantize(graph, nncf.Dataset(tiles, as_input), subset_size=len(tiles), ignored_scope=ignored)
    openvino.save_model(made, out / _GRAPH, compress_to_fp16=False)


def _of_pixels(graph: Any) -> list[str]:
    """Name the convolutions of pixels, which stay in single precision.

    They are a small part of the work, and pixels × soft mask have values of which eight bits would lose the small ones.
    """
    convolutions = [operation for operation in graph.get_ordered_ops() if operation.get_type_name() == "Convolution"]
    return [each.get_friendly_name() for each in convolutions if each.input(1).get_shape()[1] == _CHANNELS]


def keep_int8(model: SlideModel, made: Path) -> None:
    """Copy a graph and its report to where `int8_graph` finds them, in place of an earlier one."""
    folder = int8_folder(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".int8-") as place:
        whole = Path(place) / "whole"
        whole.mkdir()
        for name in (_GRAPH, _WEIGHTS, REPORT):
            shutil.copyfile(made / name, whole / name)
        shutil.rmtree(folder, ignore_errors=True)
        whole.rename(folder)


def _nncf() -> Any:
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that it finds no CUDA is no news
    try:
        nncf = import_unreported("nncf")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "calibration needs a package that is not installed",
            got=f"no module {error.name}",
            remedy="pip install 'wsi-maxmin[int8]'",
        ) from error
    nncf.set_log_level(logging.ERROR)
    return nncf
