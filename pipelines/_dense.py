"""Dense mode of a run: whether it can be had, and the tile maps of a slide by it."""

from wsi_maxmin.dense import regions_to_do, run_dense
from wsi_maxmin.dense_grid import DenseGrid, check_cells
from wsi_maxmin.engines._choice import AUTO
from wsi_maxmin.engines._regions import ENGINES, RegionEngine, no_such_engine
from wsi_maxmin.errors import InputError
from wsi_maxmin.grids import overlap_to_stride
from wsi_maxmin.models import TileModel
from wsi_maxmin.models._dense import dense_method
from wsi_maxmin.pipelines._engine import EngineSettings
from wsi_maxmin.pipelines._timings import Measurement
from wsi_maxmin.progress import Progress
from wsi_maxmin.readers import Reader
from wsi_maxmin.tilemaps import TileMaps

TILE, DENSE = "tile", "dense"
MODES = (TILE, DENSE)

_BATCH = {"cuda": 8}
_BATCH_ELSEWHERE = 4


def check_dense(built: TileModel, tile_px: int, settings: EngineSettings) -> int:
    """See whether a model can be run densely so; return the pixels of a cell.

    Raises
    ------
    InputError
        If the method, its trunk, the engine or the overlap does not allow it.
    """
    if settings.compile or settings.precision == "int8":
        raise InputError(
            "dense mode does not run so",
            got="--compile" if settings.compile else "--precision int8",
            remedy="leave it out, or --mode tile",
        )
    if settings.engine not in (AUTO, *ENGINES):
        raise no_such_engine(settings.engine)
    _, cell_px = dense_method(built, tile_px)
    check_cells(tile_px, overlap_to_stride(tile_px, settings.overlap), cell_px)
    return cell_px


def compute_densely(
    engine: RegionEngine,
    slide: Reader,
    maps: TileMaps,
    context: int,
    *,
    readers: int,
    measured: Measurement,
    progress: Progress,
) -> None:
    """Compute what is missing of a slide's tile maps, with a bar of its regions."""
    dense = DenseGrid(grid=maps.grid, cell_px=engine.cell_px, context=context)
    missing, every = regions_to_do(maps, dense, engine.passes), engine.passes * len(dense.keep)
    with (
        progress.track(slide.info.slide_id, every, unit="region", done=every - missing) as advance,
        measured.running(engine.meter),
    ):
        run_dense(
            engine,
            slide,
            maps,
            dense,
            batch_size=_BATCH.get(engine.device.type, _BATCH_ELSEWHERE),
            readers=readers,
            advance=advance,
            stopwatch=measured.watch,
        )
