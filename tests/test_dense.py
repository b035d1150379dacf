"""Dense runs: equal to tiles where they must be, resumable, the same whatever the batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr

from wsi_maxmin import dense as module
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.dense import regions_to_do, run_dense
from wsi_maxmin.dense_grid import DenseGrid
from wsi_maxmin.engines._choice import open_engine
from wsi_maxmin.engines._regions import open_regions
from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.grids import TileGrid, grid_shape
from wsi_maxmin.inference import run_tiles
from wsi_maxmin.readers.memory import MemoryReader
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.tilemaps import MapSpec, TileMaps

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SPEC = MapSpec(
    downsample=8, class_names=("normal", "tumor"), positive_class="tumor", threshold=0.5, model="m", slide="f"
)
TILE, SIDE = 64, 448


@pytest.fixture(scope="module")
def checkpoint(tiny_model):
    return load_checkpoint(tiny_model)


@pytest.fixture(scope="module")
def slide():
    coarse = np.random.default_rng(0).integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    return MemoryReader([coarse.repeat(8, axis=0).repeat(8, axis=1)], mpp=0.25)


def grid_of(stride, leave_out=()):
    shape = grid_shape((SIDE, SIDE), 1, TILE, stride)
    keep = [cell for cell in np.ndindex(shape) if cell not in leave_out]
    return TileGrid(
        slide_id="memory",
        slide_size_px=(SIDE, SIDE),
        slide_mpp=0.25,
        mpp=0.25,
        tile_px=TILE,
        stride_px=stride,
        shape=shape,
        keep=np.array(keep, dtype=np.int32),
    )


def engine_of(checkpoint, name="torch", core=4, context=1, precision="fp32"):
    return open_regions(checkpoint, name, device=CPU, precision=precision, cells=core + 2 * context)


def run(path, engine, slide, grid, *, core=4, context=1, batch_size=2, maps=None):
    maps = maps or TileMaps.create(path, grid, SPEC)
    told, watch = [], Stopwatch()
    dense = DenseGrid(grid=grid, cell_px=engine.cell_px, core=core, context=context)
    run_dense(
        engine,
        slide,
        maps,
        dense,
        batch_size=batch_size,
        readers=2,
        advance=lambda count, **_: told.append(count),
        stopwatch=watch,
    )
    return maps, sum(told), watch


def same(one, other):
    np.testing.assert_array_equal(one.mask[:], other.mask[:])
    np.testing.assert_array_equal(one.logits[:], other.logits[:])


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_regions_that_are_tiles_give_the_maps_of_tiles(tmp_path, checkpoint, slide, name):
    if name != "torch":
        pytest.importorskip(name)
    grid = grid_of(TILE)
    tiles = TileMaps.create(tmp_path / "tiles", grid, SPEC)
    run_tiles(
        open_engine(checkpoint, name, device=CPU, precision="fp32", downsample=8),
        slide,
        tiles,
        batch_size=4,
        readers=1,
        advance=lambda *_, **__: None,
        stopwatch=Stopwatch(),
    )
    engine = engine_of(checkpoint, name, core=TILE // 32, context=0)
    dense, _, _ = run(tmp_path / "dense", engine, slide, grid, core=TILE // 32, context=0)
    # Means of evidence against means of masks; the foreground's mask has an eighth of the resolution.
    np.testing.assert_allclose(dense.mask[:], tiles.mask[:], atol=0.01)
    np.testing.assert_allclose(dense.logits[:], tiles.logits[:], atol=0.02)


def test_windows_read_off_the_trunk_of_the_whole_slide(tmp_path, checkpoint, slide):
    """A single region that holds the slide is what the model sees of it, by definition."""
    grid, core = grid_of(32), SIDE // 32
    engine = engine_of(checkpoint, core=core, context=0)
    maps, _, _ = run(tmp_path / "maps", engine, slide, grid, core=core, context=0)
    image = torch.from_numpy(slide.read(slide.info.bounds, SIDE, SIDE)).permute(2, 0, 1)[None]
    with torch.no_grad():
        model = checkpoint.build()
        cams = model.image_cams(model.encoder(model.normalise(image)))
        for index, (row, column) in enumerate(grid.keep):
            own = model.read_cams(cams[:, :, row : row + 2, column : column + 2], (TILE, TILE), 8)
            np.testing.assert_allclose(maps.mask[index], own.mask[0], atol=1e-3)


def test_batch_and_interruption_leave_no_trace(tmp_path, checkpoint, slide, monkeypatch):
    monkeypatch.setattr(module, "_REGIONS_A_CHUNK", 3)
    engine, grid = engine_of(checkpoint), grid_of(32, leave_out={(0, 0), (5, 5)})
    whole, told, watch = run(tmp_path / "whole", engine, slide, grid, batch_size=1)
    dense = DenseGrid(grid=grid, cell_px=32, core=4, context=1)
    assert told == 2 * len(dense.keep)
    assert {"model", "windows", "write maps"} <= set(watch.seconds)
    assert module.GROUP not in zarr.open_group(whole.path, mode="r")
    for fails_at in (4, 12, 25):
        maps = TileMaps.create(tmp_path / f"broken{fails_at}", grid, SPEC)
        with pytest.raises(SlideError, match="damaged"):
            run(None, engine, Breaks(slide, fails_at), grid, maps=maps, batch_size=3)
        assert not maps.complete
        left = regions_to_do(maps, dense, engine.passes)
        assert 0 < left <= told
        again, run_now, _ = run(None, engine, slide, grid, maps=TileMaps(maps.path))
        assert run_now == left
        same(again, whole)


class Breaks(MemoryReader):
    """A slide that cannot be read from the n-th read on."""

    def __init__(self, slide, fails_at):
        super().__init__([slide.read(slide.info.bounds, SIDE, SIDE)], mpp=0.25)
        self.left = fails_at

    def read_level(self, level, x, y, width, height):
        self.left -= 1
        if self.left < 0:
            raise SlideError("damaged")
        return super().read_level(level, x, y, width, height)


def test_a_slide_without_tissue_is_done_at_once(tmp_path, checkpoint, slide):
    empty = replace(grid_of(32), keep=np.empty((0, 2), dtype=np.int32))
    maps, told, _ = run(tmp_path / "maps", engine_of(checkpoint), slide, empty)
    assert maps.complete
    assert told == 0


def test_half_precision_is_near(tmp_path, checkpoint, slide):
    grid = grid_of(32)
    exact, _, _ = run(tmp_path / "exact", engine_of(checkpoint), slide, grid)
    half, _, _ = run(tmp_path / "half", engine_of(checkpoint, precision="bf16"), slide, grid)
    np.testing.assert_allclose(half.mask[:], exact.mask[:], atol=0.05)


def test_an_engine_without_dense_mode_says_so(checkpoint):
    with pytest.raises(InputError, match="onnx has no dense mode; expected torch or openvino"):
        engine_of(checkpoint, "onnx")
