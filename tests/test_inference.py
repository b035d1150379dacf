import numpy as np
import pytest
import torch

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.config import ModelConfig
from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.inference import forward, run_tiles
from wsi_maxmin.models import build_model
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
def model(tiny_model):
    return load_checkpoint(tiny_model).build()


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


def run(path, model, slide, *, batch_size=4, readers=2, maps=None):
    maps = maps or TileMaps.create(path, make_grid(), SPEC)
    counted, watch = [], Stopwatch()

    def advance(count=1, *, note=""):
        counted.append(count)

    run_tiles(model, slide, maps, device=CPU, batch_size=batch_size, readers=readers, advance=advance, stopwatch=watch)
    return maps, counted, watch


def test_every_tile_gets_the_models_own_output(tmp_path, model, slide):
    maps, counted, watch = run(tmp_path / "t.zarr", model, slide)
    assert maps.complete
    assert sum(counted) == 120
    assert set(watch.seconds) == {"read", "wait for tiles", "model", "write maps"}
    box = maps.grid.box(7, 5)
    image = torch.from_numpy(slide.read(box, 64, 64).copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        output = model(image)
    np.testing.assert_allclose(maps.logits[7 * 12 + 5], output.logits[0], rtol=1e-5, atol=1e-6)
    pooled = output.mask[0, 0].unfold(0, 8, 8).unfold(1, 8, 8).mean(dim=(2, 3))
    np.testing.assert_allclose(maps.mask[7 * 12 + 5, 0], pooled, atol=1e-3)


@pytest.mark.parametrize(("batch_size", "readers"), [(1, 1), (7, 3), (64, 2), (500, 4)])
def test_batches_and_reading_threads_change_no_byte(tmp_path, model, slide, batch_size, readers):
    reference, _, _ = run(tmp_path / "a.zarr", model, slide)
    other, _, _ = run(tmp_path / "b.zarr", model, slide, batch_size=batch_size, readers=readers)
    np.testing.assert_array_equal(reference.mask[:], other.mask[:])
    np.testing.assert_array_equal(reference.logits[:], other.logits[:])


def test_an_interrupted_run_keeps_its_whole_chunks_and_computes_the_rest_alone(tmp_path, model, slide):
    reference, _, _ = run(tmp_path / "a.zarr", model, slide)
    maps = TileMaps.create(tmp_path / "b.zarr", make_grid(), SPEC)
    broken = Broken(slide._levels, mpp=0.25)
    with pytest.raises(SlideError, match="damaged"):
        run(None, model, broken, maps=maps)
    first, second = maps.chunks()
    maps.write(first, reference.mask[: first.stop], reference.logits[: first.stop])
    resumed, counted, _ = run(None, model, slide, maps=TileMaps(tmp_path / "b.zarr"))
    assert sum(counted) == len(second)
    np.testing.assert_array_equal(resumed.mask[:], reference.mask[:])


def test_a_model_whose_tiles_cannot_be_compared_is_refused(tmp_path, slide):
    model = build_model(
        ModelConfig.model_validate({"encoder": {"name": "test_resnet"}, "params": {"mask_norm": "batch"}}), 2
    ).eval()
    with pytest.raises(InputError, match="mask_norm: running"):
        run(tmp_path / "t.zarr", model, slide)


def test_masks_are_averaged_down_and_stored_in_half_precision(model):
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    masks, logits = forward(model, list(images), CPU, 16)
    assert (masks.shape, masks.dtype) == ((3, 1, 4, 4), np.float16)
    assert (logits.shape, logits.dtype) == ((3, 2), np.float32)
