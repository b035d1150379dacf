import numpy as np
import pytest

from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import TileGrid
from wsi_maxmin.tilemaps import (
    TILES_PER_CHUNK,
    MapSpec,
    TileMaps,
    map_downsample,
    softmax,
    tile_table,
    uncertainty,
)

SPEC = MapSpec(
    downsample=8, class_names=("normal", "tumor"), positive_class="tumor", threshold=0.5, model="m", slide="f"
)


def make_grid(rows=10, columns=10, tile=32):
    cells = np.argwhere(np.ones((rows, columns), dtype=bool)).astype(np.int32)
    return TileGrid(
        slide_id="s",
        slide_size_px=(columns * tile, rows * tile),
        slide_mpp=0.25,
        mpp=0.25,
        tile_px=tile,
        stride_px=tile,
        shape=(rows, columns),
        keep=cells,
    )


def fill(maps, rng, chunks=None):
    for chunk in maps.chunks() if chunks is None else chunks:
        side = maps.mask.shape[-1]
        maps.write(chunk, rng.random((len(chunk), 1, side, side)).astype("f2"), rng.normal(size=(len(chunk), 2)))


def test_what_was_written_is_read_back_with_its_grid_and_spec(tmp_path):
    grid = make_grid()
    maps = TileMaps.create(tmp_path / "t.zarr", grid, SPEC)
    fill(maps, np.random.default_rng(0))
    again = TileMaps(tmp_path / "t.zarr")
    assert again.complete
    assert again.spec == SPEC
    assert again.grid.to_json() == grid.to_json()
    np.testing.assert_array_equal(again.mask[:], maps.mask[:])
    np.testing.assert_allclose(again.posterior().sum(axis=1), 1, rtol=1e-6)


def test_only_chunks_that_were_wholly_written_are_done(tmp_path):
    maps = TileMaps.create(tmp_path / "t.zarr", make_grid(), SPEC)
    first, second = maps.chunks()
    assert (first, second) == (range(0, TILES_PER_CHUNK), range(TILES_PER_CHUNK, 100))
    fill(maps, np.random.default_rng(0), [first])
    assert TileMaps(tmp_path / "t.zarr").todo() == [second]
    assert not maps.complete


def test_an_interrupted_run_is_continued_only_with_the_same_grid_and_model(tmp_path):
    path, grid = tmp_path / "t.zarr", make_grid()
    maps = TileMaps.open_or_create(path, grid, SPEC)
    fill(maps, np.random.default_rng(0))
    assert TileMaps.open_or_create(path, grid, SPEC).complete
    other = MapSpec(**{name: getattr(SPEC, name) for name in SPEC.__slots__} | {"model": "other"})
    assert not TileMaps.open_or_create(path, grid, other).complete
    assert not TileMaps.open_or_create(path, make_grid(rows=9), other).complete


def test_a_folder_that_holds_no_tile_maps_is_refused(tmp_path):
    with pytest.raises(InputError, match="infer-slide"):
        TileMaps(tmp_path / "nothing.zarr")


def test_a_grid_without_tiles_is_complete_at_once(tmp_path):
    maps = TileMaps.create(tmp_path / "t.zarr", make_grid(0, 1), SPEC)
    assert maps.complete
    assert len(tile_table(maps)) == 0


def test_a_method_without_classes_has_no_posterior(tmp_path):
    spec = MapSpec(downsample=8, class_names=(), positive_class="", threshold=0.5, model="m", slide="f")
    maps = TileMaps.create(tmp_path / "t.zarr", make_grid(1, 2), spec)
    maps.write(range(2), np.ones((2, 1, 4, 4), dtype="f2"), np.empty((2, 0)))
    assert maps.posterior() is None
    assert list(tile_table(maps)) == ["x", "y", "width", "height", "mask_mean"]


def test_the_table_of_tiles_has_boxes_posteriors_and_mask_means(tmp_path):
    maps = TileMaps.create(tmp_path / "t.zarr", make_grid(2, 3), SPEC)
    logits = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [1, 0]], dtype="f4")
    maps.write(range(6), np.full((6, 1, 4, 4), 0.25, dtype="f2"), logits)
    table = tile_table(maps)
    assert table.loc[4, ["x", "y", "width", "height"]].tolist() == [32, 32, 32, 32]
    assert table.loc[0, "posterior_tumor"] == 0.5
    assert table.loc[0, "uncertainty"] == pytest.approx(1)
    assert table["posterior_tumor"].is_monotonic_increasing is False
    assert (table["mask_mean"] == 0.25).all()


def test_softmax_and_uncertainty_hold_at_extreme_logits():
    posterior = softmax(np.array([[1e4, -1e4], [0, 0], [0, np.log(3)]], dtype="f4"))
    np.testing.assert_allclose(posterior, [[1, 0], [0.5, 0.5], [0.25, 0.75]], rtol=1e-6)
    expected = [0, 1, -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))]
    np.testing.assert_allclose(uncertainty(posterior), expected, rtol=1e-6)


@pytest.mark.parametrize(("tile", "expected"), [(512, 8), (224, 8), (100, 4), (250, 2), (33, 1)])
def test_maps_are_as_coarse_as_the_tile_divides(tile, expected):
    assert map_downsample(tile) == expected


def test_the_tissue_mask_travels_with_the_maps_and_older_ones_have_none(tmp_path):
    tissue = TissueMask(mask=np.eye(5, 7, dtype=bool), downsample=(32.5, 31.0), mpp=8.1)
    TileMaps.create(tmp_path / "t.zarr", make_grid(), SPEC, tissue)
    again = TileMaps(tmp_path / "t.zarr").tissue()
    np.testing.assert_array_equal(again.mask, tissue.mask)
    assert (again.downsample, again.mpp) == (tissue.downsample, tissue.mpp)
    assert TileMaps.create(tmp_path / "old.zarr", make_grid(), SPEC).tissue() is None


def test_maps_take_their_name_when_they_are_whole(tmp_path, monkeypatch):
    path = tmp_path / "t.zarr"
    TileMaps.create(path, make_grid(), SPEC)
    with monkeypatch.context() as patch:
        patch.setattr("wsi_maxmin.tilemaps.asdict", None)  # the last thing that is written
        with pytest.raises(TypeError):
            TileMaps.create(path, make_grid(rows=9), SPEC)
    assert len(TileMaps(path).grid) == 100
    assert len(TileMaps.create(path, make_grid(rows=9), SPEC).grid) == 90
    assert [found.name for found in tmp_path.iterdir()] == ["t.zarr"]


@pytest.mark.parametrize("array", ["mask", "logits"])
def test_a_chunk_whose_file_is_gone_is_not_done_and_one_of_zeros_has_a_file(tmp_path, array):
    maps = TileMaps.create(tmp_path / "t.zarr", make_grid(), SPEC)
    for chunk in maps.chunks():
        maps.write(chunk, np.zeros((len(chunk), 1, 4, 4), "f2"), np.zeros((len(chunk), 2), "f4"))
    assert maps.complete
    first, _ = sorted(path for path in (maps.path / array / "c").rglob("*") if path.is_file())
    first.unlink()
    assert maps.todo() == [range(TILES_PER_CHUNK)]
    assert [maps.is_done(chunk) for chunk in maps.chunks()] == [False, True]
