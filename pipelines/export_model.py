"""Write a model as TorchScript, ONNX or OpenVINO IR, with a JSON file that says how to run it."""

import tempfile
from pathlib import Path

import torch

from wsi_maxmin.assets import find_model
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.export_model import DESCRIPTION, FILES, FORMATS, describe, trace
from wsi_maxmin.runinfo import write_json


def export_model(model: str, to: str, out: Path, *, mpp: float | None = None, overwrite: bool = False) -> list[Path]:
    """Export a model and return the files, the description last.

    Parameters
    ----------
    model : str
        Bundled name, run folder or file.
    to : str
        ``torchscript``, ``onnx`` or ``openvino``.
    out : Path
        Folder; its other files are left alone.
    mpp : float, optional
        µm per pixel of the tiles, for a model that does not say.
    overwrite : bool
        Replace files of the same names.

    Raises
    ------
    InputError
        If the model cannot be used or exported, or does not say its µm per pixel and neither does `mpp`.
    OutputExistsError
        If a file of the same name is there.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    if to not in FORMATS:
        raise InputError("unknown format", got=to, expected=f"one of {', '.join(FORMATS)}")
    if not overwrite and (there := [name for name in FILES[to] if (out / name).exists()]):
        raise OutputExistsError(f"{out} holds an export", got=", ".join(there), remedy="--overwrite replaces it")
    checkpoint = load_checkpoint(find_model(model))
    config = checkpoint.config
    if mpp is not None and config.slide.mpp is not None:
        raise InputError(
            "the model says its own µm per pixel", got=f"{mpp} beside {config.slide.mpp}", remedy="drop --mpp"
        )
    spacing = config.slide.mpp if mpp is None else mpp
    if spacing is None:
        raise InputError("the model does not say the µm per pixel of its tiles", remedy="give --mpp")
    network = checkpoint.build()
    program, names = trace(network, config.slide.tile_px)
    with torch.inference_mode():
        mask = network(torch.zeros(1, 3, config.slide.tile_px, config.slide.tile_px)).mask
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as place:
        partial = Path(place)
        written = FORMATS[to](program, names, partial)
        write_json(partial / DESCRIPTION, describe(checkpoint, names, mpp=spacing, mask_px=tuple(mask.shape[-2:])))
        written.append(DESCRIPTION)
        for name in written:
            (partial / name).replace(out / name)
    return [out / name for name in written]
