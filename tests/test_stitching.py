import json
import subprocess
import sys

import dask
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_maxmin import _resampling
from wsi_maxmin.blends import plugins as blends
from wsi_maxmin.errors import InputError
from wsi_maxmin.grids import Georef, TileGrid, grid_shape
from wsi_maxmin.stitching import stitch
from wsi_maxmin.tilemaps import MapSpec, TileMaps

MAP = 8
SPEC = MapSpec(
    downsample=MAP, class_names=("normal", "tumor"), positive_class="tumor", threshold=0.5, model="m", slide="f"
)


def grid_over(size_px, tile_px, stride_px, *, slide_mpp=0.25, mpp=None, keep=None):
    mpp = slide_mpp if mpp is None else mpp
    shape = grid_shape(size_px, mpp / slide_mpp, tile_px, stride_px)
    cells = np.argwhere(np.ones(shape, dtype=bool) if keep is None else keep(shape)).astype(np.int32)
    return TileGrid(
        slide_id="s",
        slide_size_px=size_px,
        slide_mpp=slide_mpp,
        mpp=mpp,
        tile_px=tile_px,
        stride_px=stride_px,
        shape=shape,
        keep=cells,
    )


def maps_of(path, grid, function, logits=(0.0, 50.0)):
    """Fill tile maps with a function of level-0 x and y, as a perfect model would."""
    maps = TileMaps.create(path, grid, SPEC)
    side = grid.tile_px // MAP
    for chunk in maps.chunks():
        masks = []
        for row, column in grid.keep[chunk.start : chunk.stop]:
            x = (column * grid.stride_px + (np.arange(side) + 0.5) * MAP) * grid.downsample
            y = (row * grid.stride_px + (np.arange(side) + 0.5) * MAP) * grid.downsample
            masks.append(function(x[None, :], y[:, None]))
        maps.write(chunk, np.array(masks, dtype="f2")[:, None], np.tile(np.array(logits, dtype="f4"), (len(chunk), 1)))
    return maps


def display_centres(georef):
    rows, columns = georef.shape
    return (np.arange(columns) + 0.5)[None, :] * georef.downsample, (np.arange(rows) + 0.5)[:, None] * georef.downsample


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(60, 700),
    height=st.integers(60, 700),
    tile=st.sampled_from([64, 128, 136]),
    stride_share=st.sampled_from([1.0, 0.5, 0.25]),
    chunk=st.sampled_from([7, 32, 512]),
    blend=st.sampled_from(blends.names()),
)
def test_stitching_what_was_tiled_gives_the_map_back(tmp_path_factory, width, height, tile, stride_share, chunk, blend):
    """Tiles of any size, stride and chunk: a map cut into tiles is the same map again."""
    stride = max(int(tile * stride_share) // MAP * MAP, MAP)
    grid = grid_over((width, height), tile, stride)
    georef = Georef(slide_size_px=(width, height), slide_mpp=0.25, downsample=MAP)
    table = np.random.default_rng(0).random((200, 200)).astype("f2")
    maps = maps_of(
        tmp_path_factory.mktemp("maps") / "t.zarr",
        grid,
        lambda x, y: table[(y // MAP).astype(int) % 200, (x // MAP).astype(int) % 200],
    )
    rows, columns = georef.shape
    stitched = stitch(maps, blend=blend, georef=georef, chunk_px=chunk).data.compute(scheduler="sync")
    np.testing.assert_allclose(stitched[0], table[:rows, :columns], rtol=1e-6)
    assert (stitched[3] == 1).all()


@pytest.mark.parametrize("blend", blends.names())
@pytest.mark.parametrize(("slide_mpp", "mpp"), [(0.2429, 0.5), (0.25, 0.25), (0.5, 0.25)])
def test_a_constant_stays_constant_into_the_corner_pixel(tmp_path, blend, slide_mpp, mpp):
    grid = grid_over((1000, 700), 128, 64, slide_mpp=slide_mpp, mpp=mpp)
    maps = maps_of(tmp_path / "t.zarr", grid, lambda x, y: np.full(np.broadcast(x, y).shape, 0.5))
    stitched = stitch(maps, blend=blend).data.compute(scheduler="sync")
    np.testing.assert_allclose(stitched[0], 0.5, rtol=1e-12)


def test_a_model_of_half_a_micrometre_is_not_shifted_on_a_finer_slide(tmp_path):
    """A ramp over the slide is the same ramp on the display grid: no drift at the far end, no half-pixel shift."""
    size = (3000, 2000)
    grid = grid_over(size, 128, 64, slide_mpp=0.2429, mpp=0.5)
    maps = maps_of(tmp_path / "t.zarr", grid, lambda x, y: (x / size[0] + y / size[1]) / 3)
    georef = Georef.for_display(size, 0.2429)
    stitched = stitch(maps, georef=georef).data.compute(scheduler="sync")[0]
    x, y = display_centres(georef)
    expected = (x / size[0] + y / size[1]) / 3
    inner = np.s_[3:-3, 3:-3]
    half_pixel = georef.downsample / size[0] / 3 / 2
    assert np.abs(stitched - expected)[inner].max() < half_pixel
    assert abs((stitched - expected)[inner].mean()) < half_pixel / 20


def test_nothing_depends_on_chunks_or_workers(tmp_path):
    rng = np.random.default_rng(1)
    grid = grid_over((1300, 900), 128, 48)
    maps = maps_of(tmp_path / "t.zarr", grid, lambda x, y: rng.random(np.broadcast(x, y).shape))
    reference = stitch(maps).data.compute(scheduler="sync")
    for chunk_px, workers in ((16, 4), (50, 2), (512, 1)):
        with dask.config.set(scheduler="threads", num_workers=workers):
            np.testing.assert_array_equal(stitch(maps, chunk_px=chunk_px).data.compute(), reference)


def test_pixels_without_a_tile_are_nan_and_not_covered(tmp_path):
    def left_half(shape):
        return np.arange(shape[1])[None, :].repeat(shape[0], 0) < shape[1] // 2

    grid = grid_over((512, 256), 128, 128, keep=left_half)
    maps = maps_of(tmp_path / "t.zarr", grid, lambda x, y: np.ones(np.broadcast(x, y).shape))
    stitched = stitch(maps, chunk_px=20).data.compute(scheduler="sync")
    assert np.isnan(stitched[:3, :, 32:]).all()
    assert (stitched[3, :, 32:] == 0).all()
    np.testing.assert_array_equal(stitched[0, :, :32], 1)


def test_incomplete_tile_maps_are_refused(tmp_path):
    maps = TileMaps.create(tmp_path / "t.zarr", grid_over((256, 256), 128, 128), SPEC)
    with pytest.raises(InputError, match=r"not complete; got .*; finish them with infer-slide --resume"):
        stitch(maps)


def test_a_slide_without_kept_tiles_gives_an_empty_map(tmp_path):
    grid = grid_over((512, 256), 128, 128, keep=lambda shape: np.zeros(shape, dtype=bool))
    stitched = stitch(TileMaps.create(tmp_path / "t.zarr", grid, SPEC)).data.compute(scheduler="sync")
    assert np.isnan(stitched[:3]).all()
    assert not stitched[3].any()


def test_tumour_is_posterior_times_mask_and_uncertainty_is_scaled_entropy(tmp_path):
    grid = grid_over((256, 256), 128, 128)
    maps = maps_of(tmp_path / "t.zarr", grid, lambda x, y: np.full(np.broadcast(x, y).shape, 0.5), (0.0, np.log(3)))
    heatmap = stitch(maps)
    assert heatmap.channels == ("tumour", "probability", "uncertainty", "coverage")
    values = heatmap.data.compute(scheduler="sync")[:, 0, 0]
    np.testing.assert_allclose(values, [0.375, 0.75, 0.8112781, 1], rtol=1e-5)


def test_overlapping_tiles_are_weighted_by_the_window_and_divided_by_its_sum(tmp_path):
    """Two tiles, 0 and 1, half over each other: the middle rises as the second's share of the weights."""
    grid = grid_over((192, 128), 128, 64)
    maps = maps_of(tmp_path / "t.zarr", grid, lambda x, y: np.full(np.broadcast(x, y).shape, float(x[0, 0] > 60)))
    row = stitch(maps, georef=Georef(slide_size_px=(192, 128), slide_mpp=0.25, downsample=8)).data.compute()[0, 5]
    window = np.sin(np.pi * (np.arange(16) + 0.5) / 16) ** 2
    expected = np.concatenate([np.zeros(8), window[:8] / (window[:8] + window[8:]), np.ones(8)])
    np.testing.assert_allclose(row, expected, rtol=1e-6)


def two_tiles(path, blend, stride=64, values=(0.25, 0.75)):
    """Return a row of the map of two tiles, each constant, half over each other."""
    first, second = values
    grid = grid_over((128 + stride, 128), 128, stride)
    maps = maps_of(path, grid, lambda x, y: np.full(np.broadcast(x, y).shape, first if x[0, 0] < 60 else second))
    georef = Georef(slide_size_px=grid.slide_size_px, slide_mpp=0.25, downsample=8)
    return stitch(maps, blend=blend, georef=georef).data.compute()[0, 5]


def test_the_highest_of_overlapping_tiles_is_not_their_mean(tmp_path):
    np.testing.assert_array_equal(two_tiles(tmp_path / "a", "max"), [0.25] * 8 + [0.75] * 16)
    np.testing.assert_array_equal(two_tiles(tmp_path / "b", "max", values=(0.75, 0.25)), [0.75] * 16 + [0.25] * 8)


def test_cropped_tiles_meet_in_the_middle_of_their_overlap(tmp_path):
    np.testing.assert_allclose(two_tiles(tmp_path / "a", "crop"), [0.25] * 12 + [0.75] * 12, atol=1e-7)


@pytest.mark.parametrize("blend", [name for name in blends.names() if name != "crop"])
def test_a_shifted_grid_moves_a_smooth_map_by_less_than_a_map_pixel_of_its_slope(tmp_path, blend):
    """Tiles of another stride see the same smooth map; what differs is where they were averaged."""
    size = (1500, 1100)
    georef = Georef(slide_size_px=size, slide_mpp=0.2429, downsample=8)

    def smooth(x, y):
        return 0.5 + 0.4 * np.sin(x / 150) * np.cos(y / 130)

    maps = [
        stitch(
            maps_of(tmp_path / f"{stride}", grid_over(size, 128, stride, slide_mpp=0.2429, mpp=0.5), smooth),
            blend=blend,
            georef=georef,
        ).data.compute(scheduler="sync")[0]
        for stride in (64, 56, 40)
    ]
    steepest = 0.4 / 130
    for other in maps[1:]:
        assert np.abs(other - maps[0]).max() < steepest * MAP * 0.5 / 0.2429


@pytest.mark.parametrize("chunk_px", [3, 512])
def test_a_coarser_map_is_the_mean_of_what_is_covered_of_the_default_one(tmp_path, monkeypatch, chunk_px):
    monkeypatch.setattr(_resampling, "CHUNK_PX", 40)  # pieces smaller than a chunk
    rng = np.random.default_rng(2)
    grid = grid_over((1300, 900), 128, 64, keep=lambda shape: rng.random(shape) < 0.4)
    maps = maps_of(tmp_path / "t.zarr", grid, lambda x, y: rng.random(np.broadcast(x, y).shape))
    fine = stitch(maps).data.compute(scheduler="sync")
    georef = Georef.for_display((1300, 900), 0.25, 32.0)
    coarse = stitch(maps, georef=georef, chunk_px=chunk_px).data.compute(scheduler="sync")
    assert coarse.shape == (4, *georef.shape) == (4, 8, 11)
    for row, column in np.ndindex(georef.shape):
        block = fine[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        covered = block[-1] > 0
        assert coarse[-1, row, column] == covered.any()
        expected = block[:-1, covered].mean(axis=1, dtype="f8") if covered.any() else [np.nan] * 3
        np.testing.assert_allclose(coarse[:-1, row, column], expected, atol=1e-6)


# Prints the peak of its own resident memory in GiB.
LARGE = """
import json, sys
import numpy as np
from pathlib import Path
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import Georef, TileGrid
from wsi_maxmin.runinfo import peak_memory_bytes
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.stitching import stitch
from wsi_maxmin.tilemaps import MapSpec, TileMaps

folder, side, share, overlap = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
stride = int(512 * (1 - overlap))
cells = -(-side // stride)
rows, columns = np.indices((cells, cells))
# A disc of tissue in the middle, of the given share of the slide.
kept = (rows - cells / 2) ** 2 + (columns - cells / 2) ** 2 <= share * cells**2 / np.pi if share < 1 else rows >= 0
grid = TileGrid(
    slide_id="s", slide_size_px=(side, side), slide_mpp=0.25, mpp=0.25, tile_px=512, stride_px=stride,
    shape=(cells, cells), keep=np.argwhere(kept).astype(np.int32),
)
classes = ("normal", "tumor")
spec = MapSpec(downsample=8, class_names=classes, positive_class="tumor", threshold=0.5, model="m", slide="f")
tissue = TissueMask(mask=np.ones((1000, 1000), bool), downsample=(side / 1000, side / 1000), mpp=0.25 * side / 1000)
maps = TileMaps.create(folder / "tilemaps.zarr", grid, spec, tissue)
noise = np.random.default_rng(0).random((64, 1, 64, 64)).astype("f2")
for chunk in maps.chunks():
    maps.write(chunk, noise[: len(chunk)], np.zeros((len(chunk), 2), "f4"))
omezarr.write(stitch(maps), folder / "heatmap.ome.zarr", threshold=0.5, tissue=maps.tissue())
print(json.dumps({"tiles": len(grid), "gib": peak_memory_bytes() / 2**30}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak counts what the process was forked from")
def test_a_canvas_of_200_000_squared_is_stitched_and_written_in_bounded_memory(tmp_path):
    """A twentieth of it is tissue, 7,600 tiles."""
    arguments = [sys.executable, "-c", LARGE, str(tmp_path), "200000", "0.05", "0"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["tiles"] > 7000
    assert measured["gib"] < 1.5
    group = zarr.open_group(tmp_path / "heatmap.ome.zarr", mode="r")
    assert group["0"].shape == (4, 25000, 25000)
    middle = np.s_[12288:12800, 12288:12800]
    assert (group["0"][3][middle] == 255).all()
    assert 40 < group["0"][0][middle].mean() < 80  # half of the noise, whose mean is a half
    assert not group["0"][3][:512, :512].any()
