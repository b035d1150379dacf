"""Graphs of models for other engines, exported once and kept in the user's cache."""

import hashlib
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_maxmin.engines._scripted_graphs import write_scripted
from wsi_maxmin.export_model import FILES, FORMATS, trace
from wsi_maxmin.models import ScriptedClassifier
from wsi_maxmin.slide_model import SlideModel

CACHE_VARIABLE = "WSI_MAXMIN_CACHE"
EXPORT_SECONDS = 30.0
_MADE_BY = ("wsi-maxmin", "torch", "onnxscript", "openvino")


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``$WSI_MAXMIN_CACHE``, else one below the user's cache."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsi-maxmin"


def is_exported(model: SlideModel, to: str) -> bool:
    """Say whether `exported_graph` would find the model."""
    return (_folder(model, to) / FILES[to][0]).is_file()


def exported_graph(model: SlideModel, to: str) -> Path:
    """Return the file of a model's graph, exported now if this version has not done so before.

    Parameters
    ----------
    model : SlideModel
    to : str
        A format of `wsi_maxmin.export_model`.

    Raises
    ------
    InputError
        If the model cannot be exported.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    folder = _folder(model, to)
    graph = folder / FILES[to][0]
    if graph.is_file():
        return graph
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".export-"))
    try:
        _export(model, to, partial)
        try:
            partial.rename(folder)
        except OSError:
            # Another process was faster: the same model gives the same graph.
            if not graph.is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return graph


def exported_module(model: SlideModel, module: nn.Module, examples: tuple[Tensor, ...], name: str) -> Path:
    """Return the ONNX file of a part of a model for inputs of these sizes, exported now if it was not before.

    Parameters
    ----------
    model : SlideModel
    module : nn.Module
        In eval mode.
    examples : tuple of Tensor
        One of each input.
    name : str
        Tells the part and the sizes from others of the model.
    """
    folder = _folder(model, "regions")
    graph = folder / f"{name}.onnx"
    if not graph.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with torch.no_grad(), tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as partial:
            made = torch.onnx.export(module, examples, dynamo=True, external_data=False, verbose=False)
            assert made is not None
            made.save(Path(partial) / graph.name)
            (Path(partial) / graph.name).replace(graph)
    return graph


def _export(model: SlideModel, to: str, out: Path) -> None:
    built = model.build()
    if isinstance(built, ScriptedClassifier):
        write_scripted(built, model.slide.tile_px, to, out)
    else:
        program, names = trace(built, model.slide.tile_px)
        FORMATS[to](program, names, out)


def _folder(model: SlideModel, to: str) -> Path:
    return cache_folder() / "graphs" / f"{to}-{_digest(model)}"


def _digest(model: SlideModel) -> str:
    """Return what a graph depends on: the model, and the versions of what exports it."""
    versions = [f"{name} {_version(name)}" for name in _MADE_BY]
    return hashlib.sha256("\n".join([model.fingerprint(), *versions]).encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
