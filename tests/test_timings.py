import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.engines import plugins
from wsi_maxmin.engines._base import Meter
from wsi_maxmin.engines._choice import open_engine
from wsi_maxmin.pipelines._timings import describe, measuring, totals
from wsi_maxmin.readers import open_slide
from wsi_maxmin.runinfo import Stopwatch, write_json

CPU = torch.device("cpu")


def test_a_device_is_busy_while_any_tile_is_in_it_and_no_longer():
    """Two tiles overlap: the time from the first in to the last out counts once."""
    meter = Meter()
    start = time.perf_counter()
    meter.begin()
    time.sleep(0.02)
    meter.begin()
    meter.end()
    running = meter.read().computing
    meter.end()
    took = time.perf_counter() - start
    time.sleep(0.02)
    assert 0.02 <= running <= meter.read().computing <= took
    meter.add(computing=2.0, transfer=0.5)
    assert meter.read() == (pytest.approx(2.0, abs=took), 0.5)


def test_threads_that_compute_at_once_are_one_busy_device():
    meter = Meter()

    def work(_):
        with meter.computing():
            time.sleep(0.05)

    start = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert 0.05 <= meter.read().computing <= time.perf_counter() - start


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", plugins.names())
def test_every_engine_tells_when_it_computes(tiny_model, name):
    pytest.importorskip(plugins.load(name).NEEDS[0])
    engine = open_engine(load_checkpoint(tiny_model), name, device=CPU, precision="fp32", downsample=8)
    tiles = [np.zeros((64, 64, 3), np.uint8)] * 3
    start = time.perf_counter()
    pending = engine.submit(tiles)
    pending()
    took, times = time.perf_counter() - start, engine.meter.read()
    assert 0 < times.computing <= took
    assert times.transfer == 0
    time.sleep(0.02)
    assert engine.meter.read() == times


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_tells_how_long_it_computes_and_how_long_tiles_travel(tiny_model):
    engine = open_engine(
        load_checkpoint(tiny_model), "torch", device=torch.device("cuda"), precision="fp32", downsample=8
    )
    tiles = [np.zeros((64, 64, 3), np.uint8)] * 32
    engine.run(tiles)
    before, start = engine.meter.read(), time.perf_counter()
    for _ in range(4):
        engine.run(tiles)
    took, after = time.perf_counter() - start, engine.meter.read()
    assert 0 < after.computing - before.computing < took
    assert 0 < after.transfer - before.transfer < took


@pytest.mark.parametrize(
    ("reader", "stages"), [("tiff", {"read", "decode", "resample"}), ("openslide", {"read", "resample"})]
)
def test_readers_tell_reading_decoding_and_resampling_as_far_as_they_can(tissue_slide, reader, stages):
    watch = Stopwatch()
    slide = open_slide(tissue_slide, reader=reader)
    box = slide.info.bounds
    with slide.timed_by(watch):
        slide.read(box, 400, 280)
    assert set(watch.beside()) == stages
    assert not watch.in_turn()
    before = dict(watch.seconds)
    slide.read(box, 400, 280)
    assert watch.seconds == before


def facts_of(tiles, stages):
    with measuring(CPU) as measured:
        measured.tiles = tiles
        for stage, seconds, summed in stages:
            measured.watch.add(stage, seconds, summed=summed)
        meter = Meter()
        meter.add(computing=100.0, transfer=0.0)
        with measured.running(meter):
            meter.add(computing=0.001, transfer=0.0)
        return measured.facts()


STAGES = [("wait for tiles", 1.0, False), ("model", 3.0, False), ("picture", 2.0, False), ("decode", 8.0, True)]


def test_the_rate_is_by_the_time_of_tiles_and_the_share_by_that_of_the_slide():
    facts = facts_of(8, STAGES)
    assert facts["tiles_per_second"] == 2.0
    assert 0 < facts["device_busy_share"] <= 1
    assert facts["timings"]["on_device"] == {"computing": 0.001}
    assert facts["timings"]["in_turn"] == {"wait for tiles": 1.0, "model": 3.0, "picture": 2.0}
    assert facts["timings"]["summed_over_threads"] == {"decode": 8.0}
    assert json.loads(json.dumps(facts)) == facts


def test_a_slide_is_described_in_three_lines():
    facts = facts_of(8, STAGES) | {"elapsed_seconds": 6.5, "device_busy_share": 0.25}
    facts["peak_memory_bytes"] = {"host": 2**30, "device": 2**29}
    facts["timings"]["on_device"]["transfer"] = 0.3
    assert describe("a", facts).splitlines() == [
        "a: 6.5 s; 8 tiles, 2.0 tiles/s, device busy 25%; peak memory 1.00 GiB, of the device 0.50 GiB",
        "  in turn: wait for tiles 1.0, model 3.0, picture 2.0 s",
        "  meanwhile, summed over threads: decode 8.0 s; to and from the device 0.3 s",
    ]


def test_what_workers_devices_did_is_not_known_and_not_said(tmp_path):
    with measuring(CPU) as measured:
        measured.tiles, measured.by_workers = 8, True
    facts = measured.facts()
    assert facts["device_busy_share"] is None
    assert facts["timings"]["on_device"] == {}
    assert "device busy" not in describe("a", facts)
    for name, each in (("a", facts), ("b", facts_of(8, STAGES))):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "run.json", each)
    assert totals([tmp_path / "a", tmp_path / "b"])["device_busy_share"] is None
    assert totals([tmp_path / "b"])["device_busy_share"] is not None


def test_totals_add_up_times_and_take_the_highest_peak(tmp_path):
    for name, tiles, peak in (("a", 8, 5), ("b", 12, 3)):
        (tmp_path / name).mkdir()
        facts = facts_of(tiles, STAGES) | {"elapsed_seconds": 10.0, "peak_memory_bytes": {"host": peak, "device": None}}
        write_json(tmp_path / name / "run.json", facts)
    (tmp_path / "older").mkdir()
    write_json(tmp_path / "older" / "run.json", {"seconds": {"model": 3.0}})
    summed = totals(tmp_path / name for name in ("a", "b", "older", "absent"))
    assert (summed["slides"], summed["tiles_run"], summed["elapsed_seconds"]) == (2, 20, 20.0)
    assert summed["tiles_per_second"] == 20 / 8
    assert summed["timings"]["in_turn"]["model"] == 6.0
    assert summed["peak_memory_bytes"] == {"host": 5, "device": None}
    assert len(describe("2 slides", summed).splitlines()) == 3
    assert totals([])["peak_memory_bytes"]["host"] is None
