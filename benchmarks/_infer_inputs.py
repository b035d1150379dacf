"""What all programs that `infer.py` compares are given: slides with more and less tissue, and one TorchScript model."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from _camelyon_like import MPP, write_slide
from peers._venvs import last_line
from torchvision.models import resnet18

CLASSES, POSITIVE = ("normal", "tumor"), "tumor"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TILE = 512
CACHE = "cache"
"""Folder below the work folder of what our program keeps of a model."""


def make_slide(folder: Path, side: int, levels: int, tissue: float) -> Path:
    """Return a slide that is alone in its folder, as WSInfer wants it; one that is there is used again.

    A slide of more tissue has that of one with less, and some around it.
    """
    home = folder / f"side{side}-tissue{tissue:.5f}"
    path = home / "slide.tif"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        partial = write_slide(folder / "partial.tif", side, levels=levels, tissue=tissue)
        partial.with_suffix(".xml").unlink()
        partial.rename(path)
    return path


def make_model(folder: Path, tile_px: int = TILE, mpp: float = MPP) -> Path:
    """Return a ResNet-18 of random weights, and beside it what ours (`model.json`) and WSInfer (`wsinfer.json`) ask."""
    path = folder / "model.pt"
    if not path.exists():  # saved again, it is another file, and what was made of it is not found
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, and what all of them take
            torch.jit.script(resnet18(num_classes=len(CLASSES)).eval()).save(path)
    ours = {"classes": CLASSES, "positive": POSITIVE, "tile_px": tile_px, "mpp": mpp}
    wsinfer = {
        "spec_version": "1.0",
        "architecture": "resnet18",
        "num_classes": len(CLASSES),
        "class_names": CLASSES,
        "patch_size_pixels": tile_px,
        "spacing_um_px": mpp,
        "transform": [{"name": "ToTensor"}, {"name": "Normalize", "arguments": {"mean": MEAN, "std": STD}}],
    }
    path.with_suffix(".json").write_text(json.dumps(ours | {"pixel_mean": MEAN, "pixel_std": STD}))
    path.with_name("wsinfer.json").write_text(json.dumps(wsinfer))
    return path


def calibrate(model: Path, slide: Path, work: Path) -> None:
    """Make the int8 graph of a model, which infer-slide then finds; where it cannot be made, say why."""
    if (work / CACHE / "int8").exists():
        return
    given = {"--to": "openvino", "--precision": "int8", "--calibration": slide, "--tiles": 48, "--out": work / "int8"}
    words = [str(word) for pair in given.items() for word in pair]
    command = [sys.executable, "-m", "wsi_maxmin", "export-model", str(model), "--overwrite", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"int8: {last_line(done.stderr)}", flush=True)
