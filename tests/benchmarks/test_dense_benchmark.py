"""The benchmark of dense mode: both modes do the same windows, and a map compared with itself does not differ."""

import argparse
import importlib
from pathlib import Path

import numpy as np
import pytest

from wsi_maxmin.readers import open_slide

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("dense")


def options(tiny_model, **more):
    return argparse.Namespace(model=str(tiny_model), engine="torch", precision="fp32", **more)


def test_both_modes_fill_the_same_windows(benchmark, tiny_model, tissue_slide, tmp_path, monkeypatch):
    bench = benchmark.Bench(options(tiny_model), tmp_path)
    # Windows of the tiny model's 64 px step by its cells of 32 px at 50 %.
    monkeypatch.setattr(bench, "maps", lambda slide, overlap, plain=bench.maps: plain(slide, min(overlap, 0.5)))
    with open_slide(tissue_slide) as slide:
        tiles, seconds = bench.run_tiles(slide, 0.75)
        assert tiles.complete
        assert seconds > 0
        count = len(tiles.grid)
        dense, _ = bench.run_dense(slide, bench.regions(1), 1)
    assert dense.complete
    assert len(dense.grid) == count
    assert np.isfinite(benchmark.tumour_of(dense)).any()


def test_a_map_does_not_differ_from_itself(benchmark, capsys):
    values = np.array([[0.2, 0.8], [np.nan, 0.5]], dtype=np.float32)
    benchmark._row("slide", "tile mode", values, values, 0.5, "–")
    benchmark._row("slide", "1", 1 - values, values, 0.5, "–")
    same, other = capsys.readouterr().out.splitlines()
    assert same == "| slide | tile mode | 0.0000 | 0.000 | 1.000 | 66.7% | – |"
    assert other == "| slide | 1 | 0.4000 | 0.600 | 0.500 | 66.7% | – |"


def test_times_are_of_every_round_but_the_first(benchmark, tiny_model, tissue_slide, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark.Bench, "run_tiles", lambda *_: (None, 2.0))
    monkeypatch.setattr(benchmark.Bench, "run_dense", lambda *_: (None, 3.0))
    benchmark.times(options(tiny_model, contexts=[1], rounds=2, slide=tissue_slide), tmp_path)
    assert "ratio 1.50 (1.50–1.50)" in capsys.readouterr().out
