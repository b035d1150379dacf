"""The benchmark of engines: each does the same tiles, and the table says what was measured."""

import importlib
from pathlib import Path

import pytest
import torch

from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.engines._choice import open_engine

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("engines")


def test_its_tiles_are_the_slide_s_and_as_many_as_asked_for(benchmark, tiny_model, tissue_slide):
    checkpoint = load_checkpoint(tiny_model)
    tiles = benchmark.read_tiles(tissue_slide, checkpoint, 200)
    assert len(tiles) == 200
    assert {tile.shape for tile in tiles} == {(64, 64, 3)}
    assert (tiles[0] != tiles[1]).any()


def test_every_engine_does_all_tiles_in_every_round(benchmark, tiny_model, tissue_slide):
    checkpoint = load_checkpoint(tiny_model)
    tiles, seen = benchmark.read_tiles(tissue_slide, checkpoint, 5), []
    engine = open_engine(checkpoint, "torch", device=torch.device("cpu"), precision="fp32", downsample=8)
    submit = engine.submit
    engine.submit = lambda images: (seen.append(len(images)), submit(images))[1]
    rates = benchmark.measure([engine], tiles, batch=2, rounds=2)
    assert seen == [2, 2, 1] * 3
    assert len(rates[0]) == 2
    assert min(rates[0]) > 0


def test_its_table_begins_with_the_reference(benchmark, tiny_model, tissue_slide, capsys):
    options = [
        "--model",
        str(tiny_model),
        "--slide",
        str(tissue_slide),
        "--device",
        "cpu",
        "--tiles",
        "2",
        "--rounds",
        "1",
    ]
    benchmark.main(options)
    left_out, *lines = capsys.readouterr().out.splitlines()
    assert left_out.startswith("left out: this model was not calibrated for int8")
    assert lines[1].startswith("torch     fp32")
    assert lines[1].endswith(" 1.00 of torch fp32, tumour map 0.0000")
    assert {tuple(line.split()[:2]) for line in lines[2:]} >= {
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("onnx", "fp32"),
    }
