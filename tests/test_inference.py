import numpy as np
import pytest
import torch

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.engines._base import Engine, Outputs
from wsi_maxmin.engines._choice import open_engine
from wsi_maxmin.errors import SlideError
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.inference import run_tiles
from wsi_maxmin.readers.memory import MemoryReader
from wsi_maxmin.runinfo import Stopwatch
from wsi_maxmin.tilemaps import MapSpec, TileMaps

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SPEC = MapSpec(
    downsample=8, class_names=("normal", "tumor"), positive_class="tumor", threshold=0.5, model="m", slide="f"
)


class Broken(MemoryReader):
    """A slide whose right part cannot be read."""

    def read_level(self, level, x, y, width, height):
        if x >= 512:
            raise SlideError("damaged")
        return super().read_level(level, x, y, width, height)


@pytest.fixture
def slide():
    pixels = np.random.default_rng(0).integers(0, 256, (640, 768, 3), dtype=np.uint8)
    return MemoryReader([pixels], mpp=0.25)


@pytest.fixture
def checkpoint(tiny_model):
    return load_checkpoint(tiny_model)


class Late(Engine):
    """An engine whose batches come back only when they are waited for, as on a GPU."""

    name, precision, depth = "late", "fp32", 3

    def __init__(self):
        self.under_way, self.most = 0, 0

    def submit(self, images):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        values = np.array([image[0, 0, 0] for image in images])

        def wait():
            self.under_way -= 1
            masks = (values / 255).astype("f2")[:, None, None, None].repeat(8, 2).repeat(8, 3)
            return Outputs(masks, np.stack([values, -values], axis=1).astype("f4"))

        return wait


def make_grid():
    cells = np.argwhere(np.ones((10, 12), dtype=bool)).astype(np.int32)
    return TileGrid(
        slide_id="memory",
        slide_size_px=(768, 640),
        slide_mpp=0.25,
        mpp=0.25,
        tile_px=64,
        stride_px=64,
        shape=(10, 12),
        keep=cells,
    )


def run(path, checkpoint, slide, *, batch_size=4, readers=2, maps=None, engine=None):
    maps = maps or TileMaps.create(path, make_grid(), SPEC)
    counted, watch = [], Stopwatch()

    def advance(count=1, *, note=""):
        counted.append(count)

    engine = engine or open_engine(checkpoint, "torch", device=CPU, precision="fp32", downsample=8)
    run_tiles(engine, slide, maps, batch_size=batch_size, readers=readers, advance=advance, stopwatch=watch)
    return maps, counted, watch


def test_every_tile_gets_the_models_own_output(tmp_path, checkpoint, slide):
    maps, counted, watch = run(tmp_path / "t.zarr", checkpoint, slide)
    assert maps.complete
    assert sum(counted) == 120
    assert set(watch.in_turn()) == {"wait for tiles", "model", "wait for writing"}
    assert set(watch.beside()) == {"write maps"}  # arrays in memory are neither read nor decoded
    box = maps.grid.box(7, 5)
    image = torch.from_numpy(slide.read(box, 64, 64).copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        output = checkpoint.build()(image)
    np.testing.assert_allclose(maps.logits[7 * 12 + 5], output.logits[0], rtol=1e-5, atol=1e-6)
    pooled = output.mask[0, 0].unfold(0, 8, 8).unfold(1, 8, 8).mean(dim=(2, 3))
    np.testing.assert_allclose(maps.mask[7 * 12 + 5, 0], pooled, atol=1e-3)


@pytest.mark.parametrize(("batch_size", "readers"), [(1, 1), (7, 3), (64, 2), (500, 4)])
def test_batches_and_reading_threads_change_no_byte(tmp_path, checkpoint, slide, batch_size, readers):
    reference, _, _ = run(tmp_path / "a.zarr", checkpoint, slide)
    other, _, _ = run(tmp_path / "b.zarr", checkpoint, slide, batch_size=batch_size, readers=readers)
    np.testing.assert_array_equal(reference.mask[:], other.mask[:])
    np.testing.assert_array_equal(reference.logits[:], other.logits[:])


def test_an_interrupted_run_keeps_its_whole_chunks_and_computes_the_rest_alone(tmp_path, checkpoint, slide):
    reference, _, _ = run(tmp_path / "a.zarr", checkpoint, slide)
    maps = TileMaps.create(tmp_path / "b.zarr", make_grid(), SPEC)
    broken = Broken(slide._levels, mpp=0.25)
    with pytest.raises(SlideError, match="damaged"):
        run(None, checkpoint, broken, maps=maps)
    first, second = maps.chunks()
    maps.write(first, reference.mask[: first.stop], reference.logits[: first.stop])
    resumed, counted, _ = run(None, checkpoint, slide, maps=TileMaps(tmp_path / "b.zarr"))
    assert sum(counted) == len(second)
    np.testing.assert_array_equal(resumed.mask[:], reference.mask[:])


@pytest.mark.parametrize("batch_size", [1, 48, 64, 100, 500])
def test_batches_reach_over_chunks_and_come_back_in_order(tmp_path, slide, batch_size):
    engine = Late()
    maps, counted, _ = run(tmp_path / "t.zarr", None, slide, batch_size=batch_size, engine=engine)
    assert counted == [min(batch_size, 120 - start) for start in range(0, 120, batch_size)]
    corners = [slide.read(box, 64, 64)[0, 0, 0] for box in maps.grid.boxes()]
    np.testing.assert_array_equal(maps.logits[:, 0], corners)
    np.testing.assert_allclose(maps.mask[:, 0, 7, 7], np.array(corners) / 255, atol=1e-3)
    assert engine.most == min(3, len(counted))
    assert engine.under_way == 0


def test_chunks_that_are_done_are_not_computed_again(tmp_path, slide):
    maps = TileMaps.create(tmp_path / "t.zarr", make_grid(), SPEC)
    first, _ = maps.chunks()
    maps.write(first, np.ones((64, 1, 8, 8), "f2"), np.zeros((64, 2), "f4"))
    _, counted, _ = run(None, None, slide, maps=maps, engine=Late())
    assert sum(counted) == 56
    assert (maps.mask[:64] == 1).all()
    assert maps.complete
