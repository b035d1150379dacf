"""A method run densely: its trunk over large regions, the rest of it over the maps that each window sees."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wsi_maxmin.engines._base import Meter, Pixels
from wsi_maxmin.engines._graphs import exported_module
from wsi_maxmin.engines.openvino import Streams
from wsi_maxmin.engines.torch import FORMATS
from wsi_maxmin.errors import InputError
from wsi_maxmin.models._dense import ForegroundMethod, ForegroundPass, ImagePass, dense_method
from wsi_maxmin.slide_model import SlideModel
from wsi_maxmin.tilemaps import map_downsample

Float = npt.NDArray[np.float32]
PendingMaps = Callable[[], Float]

ENGINES = ("torch", "openvino")


class WindowOutputs(NamedTuple):
    """What windows say of themselves.

    Attributes
    ----------
    masks : (n, 1, h, w) float32 in [0, 1]
    logits : (n, K) float32
    """

    masks: Float
    logits: Float


class RegionEngine(ABC):
    """A method ready to be run densely.

    Parameters
    ----------
    model : SlideModel
    device : torch.device
    region_px : int
        Side of the regions.

    Attributes
    ----------
    device : torch.device
    cell_px : int
        Pixels a position of the maps.
    downsample : int
        Pixels a pixel of masks.
    passes : int
        How often the trunk sees a region: twice where the method classifies its foreground.
    depth : int
        Batches that may be under way at once.
    meter : Meter
        Told when the trunk computes.

    Raises
    ------
    InputError
        If the method cannot be run densely.
    """

    depth = 1

    def __init__(self, model: SlideModel, device: torch.device, cells: int) -> None:
        tile_px = model.slide.tile_px
        self._tile_px, self.device = tile_px, device
        self.meter = Meter()
        self.downsample = map_downsample(tile_px)
        built = model.build()
        self.method, self.cell_px = dense_method(built, tile_px)
        self.region_px = cells * self.cell_px
        built.on(device)
        self.passes = 2 if isinstance(self.method, ForegroundMethod) else 1

    def pass_module(self, index: int) -> nn.Module:
        """Return what the trunk does in a pass, the first or the second."""
        if index == 0:
            return ImagePass(self.method).eval()
        assert isinstance(self.method, ForegroundMethod)
        return ForegroundPass(self.method).eval()

    @abstractmethod
    def submit(self, images: Sequence[Pixels], masks: Sequence[Float] | None = None) -> PendingMaps:
        """Begin to run the trunk over regions, (side, side, 3) uint8 each; with masks, over their foreground.

        Parameters
        ----------
        images : sequence of (side, side, 3) uint8
        masks : sequence of (side / downsample, side / downsample) float32, optional

        Returns
        -------
        callable
            Waits for the maps, (B, M, cells, cells) float32.
        """

    @torch.inference_mode()
    def read(self, maps: Float) -> WindowOutputs:
        """Mask and classify windows by their maps, (n, M, side, side); the foreground is not looked at."""
        output = self.method.read_cams(
            torch.from_numpy(maps).to(self.device), (self._tile_px, self._tile_px), self.downsample
        )
        if output.image_logits is None:
            raise InputError("this method cannot be run densely", got="no class scores", remedy="--mode tile")
        return WindowOutputs(output.mask.float().cpu().numpy(), output.image_logits.float().cpu().numpy())

    @torch.inference_mode()
    def score(self, maps: Float) -> Float:
        """Classify the foreground of windows by its maps, (n, M, side, side), as (n, K)."""
        assert isinstance(self.method, ForegroundMethod)
        scores: Float = self.method.foreground_scores(torch.from_numpy(maps).to(self.device)).float().cpu().numpy()
        return scores


class TorchRegions(RegionEngine):
    """By torch, under autocast; on a GPU the next batch is under way while the last is fetched."""

    def __init__(self, model: SlideModel, device: torch.device, precision: str, cells: int) -> None:
        super().__init__(model, device, cells)
        self.depth = 1 if device.type == "cpu" else 2
        self._format = FORMATS[precision]
        self._modules = [self.pass_module(index) for index in range(self.passes)]

    @torch.inference_mode()
    def submit(self, images: Sequence[Pixels], masks: Sequence[Float] | None = None) -> PendingMaps:
        """Queue regions on the device; on a CPU they are computed here, one by one."""
        inputs = [np.stack(images)] if masks is None else [np.stack(images), np.stack(masks)[:, None]]
        tensors = [torch.from_numpy(value).to(self.device, non_blocking=True) for value in inputs]
        module = self._modules[len(inputs) - 1]
        self.meter.begin()
        with torch.autocast(self.device.type, dtype=self._format, enabled=self._format is not None):
            if self.device.type == "cpu":
                parts = [module(*(value[[index]] for value in tensors)) for index in range(len(images))]
                maps = torch.cat(parts)
            else:
                maps = module(*tensors)

        def wait() -> Float:
            found: Float = maps.float().cpu().numpy()
            self.meter.end()
            return found

        return wait


class OpenVinoRegions(RegionEngine):
    """By OpenVINO on a CPU: the graph of each pass, exported once and kept; regions are run side by side."""

    depth = 2

    def __init__(self, model: SlideModel, precision: str, cells: int) -> None:
        super().__init__(model, torch.device("cpu"), cells)
        side, small = self.region_px, self.region_px // self.downsample
        examples = [torch.zeros(1, side, side, 3, dtype=torch.uint8), torch.zeros(1, 1, small, small)]
        self._streams = [
            Streams(
                exported_module(model, self.pass_module(index), tuple(examples[: index + 1]), f"{index}-{side}"),
                precision,
            )
            for index in range(self.passes)
        ]

    def submit(self, images: Sequence[Pixels], masks: Sequence[Float] | None = None) -> PendingMaps:
        """Give each region to the next stream that is free."""
        inputs: list[list[Any]] = [[image[None]] for image in images]
        if masks is not None:
            inputs = [[*given, mask[None, None]] for given, mask in zip(inputs, masks, strict=True)]
        streams = self._streams[0 if masks is None else 1]
        futures = [streams.submit(self.meter, given, _first) for given in inputs]
        return lambda: np.concatenate([future.result() for future in futures])


def _first(outputs: Sequence[npt.NDArray[Any]]) -> Float:
    return np.array(outputs[0], dtype=np.float32)


def open_regions(model: SlideModel, engine: str, *, device: torch.device, precision: str, cells: int) -> RegionEngine:
    """Make a region engine ready to run.

    Parameters
    ----------
    model : SlideModel
    engine, precision : str
    device : torch.device
    cells : int
        Side of a region.

    Raises
    ------
    InputError
        If the engine or the method cannot do it.
    """
    if engine == "openvino":
        return OpenVinoRegions(model, precision, cells)
    if engine == "torch":
        return TorchRegions(model, device, precision, cells)
    raise no_such_engine(engine)


def no_such_engine(engine: str) -> InputError:
    """Return the error of an engine without dense mode."""
    return InputError(
        f"the engine {engine} has no dense mode", expected=" or ".join(ENGINES), remedy="--engine auto, or --mode tile"
    )
