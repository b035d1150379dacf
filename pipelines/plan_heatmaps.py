"""What infer-slide would do: how many tiles, how much disk, how long. Nothing is written."""

import time
from collections.abc import Sequence
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path

import numcodecs
import numpy as np
import torch
from upath import UPath

from wsi_maxmin.dense_grid import DenseGrid
from wsi_maxmin.engines._base import Engine, Outputs, Pixels, join
from wsi_maxmin.grids import Georef, TileGrid
from wsi_maxmin.models._dense import dense_method
from wsi_maxmin.pipelines._dense import DENSE
from wsi_maxmin.pipelines._dry_run import DryRun, Expected, why_it_fails
from wsi_maxmin.pipelines._engine import batch_size_for, make_engine, settle
from wsi_maxmin.pipelines._tile_plan import plan_tiles
from wsi_maxmin.pipelines.infer_slide import InferSettings, load_for_slides
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import Reader, open_slide
from wsi_maxmin.slide_inputs import RunSlides, SlideInputs
from wsi_maxmin.slide_model import SlideModel
from wsi_maxmin.tilemaps import main_map

_SAMPLE = 8
# Measured on the bundled slide, on one core: stitching a tile; the picture, whose size hardly depends on the slide.
_STITCH_S, _PICTURE_S, _PICTURE_BYTES = 0.005, 2.0, 2e6
# Of a display pixel: channels that look like the tumour map, all levels over the lowest, coverage and labels.
_ALIKE, _LEVELS, _FLAT_BYTES = 3, 1.5, 0.3
_ROW_BYTES = 30


def plan_heatmaps(
    slides: Sequence[str | Path | UPath],
    *,
    settings: InferSettings | None = None,
    tissue_masks: Path | None = None,
    overrides: Path | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    readers: int = 2,
    progress: Progress | None = None,
) -> DryRun:
    """Lay the grid of every slide, read a few of its tiles, and run a few through the model to see how long they take.

    The arguments are those of `infer_slide`.

    Raises
    ------
    InputError
        If nothing can be attempted: no slides, no such model or device.
    """
    settings, progress = settings or InferSettings(), progress or Quiet()
    inputs = SlideInputs(slides=slides, tissue_masks=tissue_masks, overrides=overrides, slide_mpp=settings.slide_mpp)
    run = RunSlides(inputs, hashed=settings.hash_slide_ids, known={})
    model, where = load_for_slides(settings, device)
    for note in run.notes:
        progress.say(note)
    choice = settle(model, run, settings, device=where, earlier={}, progress=progress)
    trial = _Trial(model, make_engine(model, choice, where), _whole_batch(where, batch_size))
    found = []
    with progress.track("plan", len(run.slides), unit="slide") as advance:
        for slide_id in run.slides:
            found.append(_expect(run, slide_id, settings, trial, readers))
            advance()
    return DryRun(slides=tuple(found), unit="tiles", where=f"on {where}")


def _whole_batch(device: torch.device, batch_size: int | None) -> int:
    """Return how many tiles it takes to see what one takes: a GPU computes whole batches, a CPU tile by tile."""
    return 1 if device.type == "cpu" else batch_size_for(device, batch_size)


class _Trial:
    """Run a few tiles through the model, once for all slides: tiles are alike to it."""

    def __init__(self, model: SlideModel, engine: Engine, batch_size: int) -> None:
        self.model, self._engine, self._batch_size = model, engine, batch_size
        self._images: list[Pixels] = []

    def use(self, images: list[Pixels]) -> None:
        """Take these tiles, unless there are some."""
        self._images = self._images or images

    @cached_property
    def _outputs(self) -> tuple[float, Outputs]:
        """Seconds a tile, and what the model says of the tiles."""
        tiles = list(islice(cycle(self._images), max(len(self._images), self._batch_size)))
        batches = [tiles[first : first + self._batch_size] for first in range(0, len(tiles), self._batch_size)]
        self._engine.run(batches[0])  # time to get ready for the first is not every tile's
        start = time.perf_counter()
        outputs = join([wait() for wait in [self._engine.submit(batch) for batch in batches]])
        return (time.perf_counter() - start) / len(tiles), outputs

    @property
    def seconds(self) -> float:
        """What the model takes for a tile."""
        return self._outputs[0]

    @cached_property
    def tile_bytes(self) -> float:
        """Bytes of a tile in the tile maps and in the table, compressed as there."""
        _, (masks, logits) = self._outputs
        packed = len(numcodecs.Zstd(level=0).encode(masks))
        return packed / len(masks) + float(logits[0].nbytes) + _ROW_BYTES

    @cached_property
    def pixel_bytes(self) -> float:
        """Bytes of a covered pixel of the heatmap, over all channels and levels and its label."""
        _, (masks, logits) = self._outputs
        if not self.model.has_masks:
            return _FLAT_BYTES
        positive = self.model.classes.index(self.model.positive)
        tumour = np.rint(255 * main_map(masks, logits, positive)).astype(np.uint8)
        packed = len(numcodecs.Blosc(cname="lz4").encode(tumour))
        return _ALIKE * _LEVELS * packed / float(tumour.size) + _FLAT_BYTES


def _expect(run: RunSlides, slide_id: str, settings: InferSettings, trial: _Trial, readers: int) -> Expected:
    config = trial.model.slide
    try:
        with open_slide(run.slides[slide_id].path, slide_mpp=run.slide_mpp(slide_id), slide_id=slide_id) as slide:
            start = time.perf_counter()
            plan = plan_tiles(slide, config, settings, run.tissue_mask(slide_id))
            grid, seconds = plan.grid, time.perf_counter() - start + _PICTURE_S
            disk_bytes = _PICTURE_BYTES
            if len(grid):
                reading = _read_some(slide, grid, trial)
                runs = _tiles_worth(grid, settings, trial.model)
                seconds += runs * max(trial.seconds, reading / readers) + len(grid) * _STITCH_S
                georef = Georef.for_display(grid.slide_size_px, grid.slide_mpp, settings.heatmap_mpp)
                covered_px = _covered_px(grid) * (grid.downsample / georef.downsample) ** 2
                disk_bytes += len(grid) * trial.tile_bytes + covered_px * trial.pixel_bytes
            remark = grid.describe_mpp(plan.requested) + slide.info.mpp_note()
    except Exception as error:
        return Expected(slide_id, 0, 0.0, 0.0, why_it_fails(run, slide_id, error), fails=True)
    remark = "; ".join((remark, *(f"WARNING: {warning}" for warning in plan.warnings)))
    return Expected(slide_id, len(grid), disk_bytes, seconds, remark)


def _tiles_worth(grid: TileGrid, settings: InferSettings, model: SlideModel) -> float:
    """Return as many tiles as take the time of the slide: of regions, as many as have their area."""
    if settings.mode != DENSE:
        return len(grid)
    _, cell_px = dense_method(model.build(), grid.tile_px)
    dense = DenseGrid(grid=grid, cell_px=cell_px, context=settings.dense_context)
    return len(dense.keep) * (dense.region_px / grid.tile_px) ** 2


def _read_some(slide: Reader, grid: TileGrid, trial: _Trial) -> float:
    """Read a few tiles spread over the slide; return the seconds for one."""
    boxes = list(grid.boxes())
    boxes = boxes[:: max(len(boxes) // _SAMPLE, 1)][:_SAMPLE]
    start = time.perf_counter()
    images = [slide.read(box, grid.tile_px, grid.tile_px) for box in boxes]
    seconds = (time.perf_counter() - start) / len(boxes)
    trial.use(images)
    return seconds


def _covered_px(grid: TileGrid) -> int:
    """Return how many canvas pixels some tile covers, to whole strides."""
    span = -(-grid.tile_px // grid.stride_px)
    covered = np.zeros((grid.shape[0] + span, grid.shape[1] + span), dtype=np.bool_)
    for down in range(span):
        for across in range(span):
            covered[grid.keep[:, 0] + down, grid.keep[:, 1] + across] = True
    return int(covered.sum()) * grid.stride_px**2
