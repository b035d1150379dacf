"""Table 3 of the paper: how many parameters methods have, and how long they take for an image, in one process."""

import platform
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wsi_maxmin.config import load_config
from wsi_maxmin.models import WeakSegmenter, build_model
from wsi_maxmin.paper import InferenceRow, InferenceTable, ShownImage, load_inference
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.runinfo import environment

ROUNDS = 10


@cache
def count_parameters() -> dict[str, int]:
    """Return the number of parameters of each config of the table, from the models that they make."""
    return {row.config: sum(value.numel() for value in _build(row).parameters()) for row in load_inference().rows}


def measure_inference(
    device: torch.device,
    *,
    table: InferenceTable | None = None,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time every row on one image of each size, row after row in each round, after a round to warm up.

    A time is that from an image in the device's memory to its class and its mask at the image's own size, binarised.
    Weights are random: they change no time.

    Returns
    -------
    dict
        JSON values: ``rows`` with median, lowest and highest ``seconds`` by image, and what they were measured with.
    """
    table, progress = table or load_inference(), progress or Quiet()
    torch.manual_seed(0)
    work: dict[tuple[str, str], Callable[[], object]] = {}
    for row in table.rows:
        network = _build(row).eval().on(device)
        for shown in table.images:
            width, height = _network_px(shown)
            image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, device=device)
            image = image.contiguous(memory_format=torch.channels_last)
            segment = _by_backward if row.backward else _segment
            work[row.title, shown.name] = partial(segment, network, image, shown.size_px)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    with progress.track("inference", (rounds + 1) * len(work), unit="image") as advance:
        for turn in range(rounds + 1):
            for key, run in work.items():
                _wait(device)
                began = time.perf_counter()
                run()
                _wait(device)
                if turn:
                    seconds[key].append(time.perf_counter() - began)
                advance()
    rows = [
        {
            "title": row.title,
            "config": row.config,
            "seconds": {shown.name: _summary(seconds[row.title, shown.name]) for shown in table.images},
        }
        for row in table.rows
    ]
    images = [
        {"name": shown.name, "size_px": list(shown.size_px), "network_px": list(_network_px(shown))}
        for shown in table.images
    ]
    return {
        "device": device.type,
        "device_name": _device_name(device),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "images": images,
        "rows": rows,
        "packages": environment()["packages"],
    }


@torch.inference_mode()
def _segment(network: WeakSegmenter, image: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Return the binary mask of what speaks for the last class; the class scores are made on the way."""
    output = network(image)
    return _binary(network.mask_for(output, torch.ones(1, dtype=torch.int64, device=image.device)), size_px)


def _by_backward(network: WeakSegmenter, image: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Make Grad-CAM's masks as for any network: a backward pass through all of it for each class."""
    kept: list[Tensor] = []

    def keep(_module: object, _inputs: object, features: Tensor) -> None:
        features.retain_grad()
        kept.append(features)

    hook = network.encoder.register_forward_hook(keep)
    try:
        scores = network(image).image_logits[0]
    finally:
        hook.remove()
    (features,) = kept
    maps: list[Tensor] = []
    for index, score in enumerate(scores):
        network.zero_grad()
        features.grad = None
        score.backward(retain_graph=index + 1 < len(scores))
        weights = _gradient(features).mean(dim=(2, 3), keepdim=True)
        maps.append((weights * features.detach()).sum(dim=1).relu())
    with torch.inference_mode():
        masks: Tensor = network.class_masks(torch.stack(maps, dim=1))  # type: ignore[operator]  # of Grad-CAM
        return _binary(masks[:, -1:], size_px)


def _gradient(features: Tensor) -> Tensor:
    assert features.grad is not None  # a backward pass has just filled it
    return features.grad


def _binary(mask: Tensor, size_px: tuple[int, int]) -> Tensor:
    return interpolate(mask.float(), size_px[::-1], mode="bilinear", align_corners=False) >= 0.5


def _build(row: InferenceRow) -> WeakSegmenter:
    config = load_config(row.config)
    return build_model(config.model, len(config.data.classes), load_encoder_weights=False)


def _network_px(shown: ShownImage) -> tuple[int, int]:
    """Return width and height of an image as its config lets the network see it."""
    shorter = load_config(shown.config).data.shorter_side_px
    if shorter is None:
        return shown.size_px
    # As torchvision resizes: the longer side is rounded down.
    width, height = (shorter * side // min(shown.size_px) for side in shown.size_px)
    return width, height


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"median": median(seconds), "lowest": min(seconds), "highest": max(seconds)}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
