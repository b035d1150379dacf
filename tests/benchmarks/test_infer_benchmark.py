"""The benchmark of inference: everybody is given the same, and table and picture say what was measured."""

import csv
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SIDE, LEVELS = 2048, 3

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a script as it is imported when it runs: from its own folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def benchmark(load) -> ModuleType:
    return load("infer")


class Mean(nn.Module):
    """Two scores: the mean of a normalised tile, and its negative."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = image.mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean], dim=1)


@pytest.fixture
def tiny_script(tmp_path) -> Path:
    torch.jit.trace(Mean(), torch.rand(1, 3, 64, 64)).save(tmp_path / "model.pt")
    said = {"classes": ["normal", "tumor"], "positive": "tumor", "tile_px": 64, "mpp": 0.5}
    said |= {"pixel_mean": [0.5, 0.5, 0.5], "pixel_std": [0.25, 0.25, 0.25]}
    (tmp_path / "model.json").write_text(json.dumps(said))
    return tmp_path / "model.pt"


@pytest.fixture
def names(benchmark) -> dict:
    """Two slides: starting takes 4 s and a tile 0.5 s, 1 s or 0.25 s."""
    rows = [
        benchmark.Entrant(name="alone", kind="limit", command=(), rates=[5.0, 4.0, 3.0], by="ov fp32", tiles=64),
        benchmark.Entrant(
            name="mine",
            kind="ours",
            command=(),
            rates=[100 / 54, 100 / 54],
            by="ov fp32",
            small_by="ov fp32",
            small=(20, 14.0),
            large=(100, 54.0),
            tiles=100,
            peak_mb=900.4,
            what="heatmap",
        ),
        benchmark.Entrant(
            name="theirs",
            kind="peer",
            command=(),
            rates=[0.8],
            by="t fp32",
            small_by="t fp32",
            small=(16, 20.0),
            large=(80, 100.0),
            tiles=80,
        ),
        benchmark.Entrant(name="gone", kind="peer", command=(), error="no such package"),
    ]
    return {row.name: row for row in rows}


def test_a_rate_without_start_is_that_of_the_tiles_by_which_the_slides_differ(names):
    assert names["mine"].without_start == pytest.approx(2)
    assert names["theirs"].without_start == pytest.approx(0.8)
    assert names["alone"].without_start == 4
    assert names["gone"].without_start is None


def test_a_table_gives_ratios_to_the_fastest_peer_and_to_the_model_in_the_same_engine(benchmark, names):
    assert benchmark.table(list(names.values())).splitlines()[2:] == [
        "| alone | – | 3.00–5.00 | – | 4.00 | 5.00 | – | 64 | – | ov fp32 |  |",
        "| **mine** | 1.85 | 1.85–1.85 | 2.31 | 2.00 | 2.50 | 0.50 | 100 | 900 | ov fp32 | heatmap |",
        "| theirs | 0.80 | one run | 1.00 | 0.80 | 1.00 | – | 80 | – | t fp32 |  |",
        "| gone | – | – | – | – | – | – | – | – | – | no such package |",
    ]


def test_everybody_runs_twice_on_little_tissue_and_then_on_the_slide(benchmark, monkeypatch, tmp_path):
    ran = []

    def run(entrant, *_, **__):
        ran.append((entrant.name, entrant.command[1]))
        if entrant.name == "absent":
            entrant.error = "no such package"
            return None
        few = entrant.command[1] == "few"
        return {"tiles": 10 if few else 50, "wall": 3.0 if few else 11.0, "by": "torch fp32"}

    monkeypatch.setattr(benchmark, "run", run)
    rows = [
        benchmark.Entrant(name=name, kind=kind, command=("x.py", "{slide}"))
        for name, kind in (("limit", "limit"), ("mine", "ours"), ("theirs", "peer"), ("absent", "peer"))
    ]
    benchmark.race(rows, ("few", "many"), benchmark.parse(["--rounds", "2"]), tmp_path)
    assert ran == [
        ("mine", "few"),
        ("theirs", "few"),
        ("absent", "few"),
        ("mine", "few"),
        ("theirs", "few"),
        *[("limit", "many"), ("mine", "few"), ("mine", "many"), ("theirs", "many")] * 2,
    ]
    assert rows[2].without_start == pytest.approx(5)
    assert rows[1].without_start == pytest.approx(5)
    assert rows[1].rates == pytest.approx([50 / 11] * 2)
    assert rows[3].error == "no such package"


def test_a_program_that_takes_another_engine_for_few_tiles_has_no_rate_without_start(benchmark, monkeypatch, tmp_path):
    def run(entrant, *_, **__):
        few = entrant.command[1] == "few"
        return {"tiles": 10 if few else 50, "wall": 3.0 if few else 11.0, "by": "slow" if few else "fast"}

    monkeypatch.setattr(benchmark, "run", run)
    row = benchmark.Entrant(name="mine", kind="ours", command=("x.py", "{slide}"))
    benchmark.race([row], ("few", "many"), benchmark.parse(["--rounds", "2"]), tmp_path)
    assert (row.by, row.without_start) == ("fast", None)


def test_a_slide_is_alone_in_its_folder_and_made_once(load, monkeypatch, tmp_path):
    inputs, made = load("_infer_inputs"), []

    def write(path, side, *, levels, tissue):
        made.append((side, levels, tissue))
        path.write_bytes(b"pixels")
        path.with_suffix(".xml").write_text("outlines")
        return path

    monkeypatch.setattr(inputs, "write_slide", write)
    slides = {inputs.make_slide(tmp_path, 1024, 2, share) for share in (0.1, 0.4, 0.1)}
    assert made == [(1024, 2, 0.1), (1024, 2, 0.4)]
    for slide in slides:
        assert [path.name for path in slide.parent.iterdir()] == ["slide.tif"]


def test_int8_that_cannot_be_made_is_said_and_is_not_made_twice(load, monkeypatch, tmp_path, capsys):
    inputs, ran = load("_infer_inputs"), []

    def fails(command, **_):
        ran.append(command)
        return inputs.subprocess.CompletedProcess(command, 2, "", "error: no such engine\n")

    monkeypatch.setattr(inputs.subprocess, "run", fails)
    inputs.calibrate(tmp_path / "model.pt", tmp_path / "slide.tif", tmp_path)
    assert capsys.readouterr().out == "int8: error: no such engine\n"
    assert ran[0][3:5] == ["export-model", str(tmp_path / "model.pt")]
    (tmp_path / "cache" / "int8").mkdir(parents=True)
    inputs.calibrate(tmp_path / "model.pt", tmp_path / "slide.tif", tmp_path)
    assert len(ran) == 1


def test_a_slide_of_more_tissue_has_all_that_one_of_less_has(load):
    field = load("_camelyon_like").tissue_field
    less, more = (field(8192, share, np.random.default_rng(0)) > 0 for share in (0.05, 0.2))
    assert 0 < less.sum() < more.sum()
    assert more[less].all()


def test_tiles_in_memory_are_the_slide_s(load, tissue_slide):
    tiles = load("peers.infer_bare").read_tiles(tissue_slide, 64, 3)
    assert [tile.shape for tile in tiles] == [(64, 64, 3)] * 3
    assert (tiles[0] != tiles[1]).any()


def test_the_model_s_descriptions_agree(load, tmp_path):
    path = load("_infer_inputs").make_model(tmp_path)
    ours, wsinfer = (json.loads((tmp_path / name).read_text()) for name in ("model.json", "wsinfer.json"))
    assert ours["classes"] == wsinfer["class_names"]
    assert (ours["tile_px"], ours["mpp"]) == (wsinfer["patch_size_pixels"], wsinfer["spacing_um_px"])
    assert wsinfer["transform"][1]["arguments"] == {"mean": ours["pixel_mean"], "std": ours["pixel_std"]}
    assert torch.jit.load(path)(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


def test_the_bare_loop_runs_every_tile_normalised(load, tiny_script, monkeypatch):
    bare = load("peers.infer_bare")
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(3)]
    seen = []
    frozen = torch.jit.freeze
    monkeypatch.setattr(torch.jit, "freeze", lambda graph: lambda image: seen.append(frozen(graph)(image)))
    bare.scripted(tiny_script, [tiles[:2], tiles[2:]])()
    expected = [(tile.mean() / 255 - 0.5) / 0.25 for tile in tiles]
    assert torch.cat(seen)[:, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_growth_runs_every_slide_with_every_number_of_workers_in_turn(load, benchmark, monkeypatch, tmp_path):
    growth, ran = load("_infer_growth"), []

    def run(one, _peers, _work, *, sample_s):
        workers, slide = int(one.command[-1]), one.command[1]
        ran.append((slide, workers))
        if (slide, workers) == ("four.tif", 2):
            one.error = "no such option"
            return None
        one.peak_mb = 500.4 * workers * sample_s
        return {"tiles": 30, "wall": 12.345}

    monkeypatch.setattr(growth, "run", run)
    slides = {1: Path("one.tif"), 4: Path("four.tif")}
    rows = growth.measure_growth(slides, tmp_path, benchmark.parse(["--growth-rounds", "2"]), tmp_path)
    once = [("one.tif", 1), ("one.tif", 2), ("four.tif", 1), ("four.tif", 2)]
    assert ran == [("one.tif", 1), *once, *once]
    assert [(row.tissue, row.workers, row.round) for row in rows] == [
        (times, workers, turn) for turn in (0, 1) for times, workers in ((1, 1), (1, 2), (4, 1))
    ]
    assert (rows[1].seconds, rows[1].peak_mb, rows[1].tiles) == (12.35, 1001, 30)


def test_growth_is_written_as_a_table_of_runs_and_a_small_picture(load, tmp_path):
    growth = load("_infer_growth")
    rows = [
        growth.Row(tissue=times, workers=workers, round=turn, tiles=100 * times, seconds=9.5 + turn, peak_mb=700)
        for times in (1, 4, 16)
        for workers in (1, 2)
        for turn in (0, 1)
    ]
    growth.write_growth(rows, tmp_path / "growth.csv", tmp_path / "growth.png")
    with (tmp_path / "growth.csv").open() as file:
        read = list(csv.DictReader(file))
    assert len(read) == 12
    assert read[1] == {"tissue": "1", "workers": "1", "round": "1", "tiles": "100", "seconds": "10.5", "peak_mb": "700"}
    with Image.open(tmp_path / "growth.png") as image:
        assert image.width > 800
    assert (tmp_path / "growth.png").stat().st_size < 200_000


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no such call here")
def test_workers_run_on_as_many_cores_and_the_rest_comes_back(load, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = os.sched_getaffinity(0)
    with load("_infer_growth").cores(1):
        assert len(os.sched_getaffinity(0)) == 1
        assert "OMP_NUM_THREADS" not in os.environ
    assert os.sched_getaffinity(0) == before
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_quick_writes_no_figures_unless_told_where(benchmark):
    quick, asked = benchmark.parse(["--quick"]), benchmark.parse(["--quick", "--out", "here", "--rounds", "4"])
    assert (quick.side, quick.out, quick.pictures) == (8192, None, None)
    assert (asked.out, asked.rounds, asked.pictures) == (Path("here"), 4, None)
    assert benchmark.parse([]).out == BENCHMARKS / "results"


@pytest.mark.slow
def test_the_script_runs_the_model_alone_in_a_process_of_its_own(benchmark, tmp_path, capsys):
    given = ["--quick", "--only", "table", "--programs", "TorchScript", "--side", str(SIDE), "--levels", str(LEVELS)]
    given += ["--tissue", "0.4", "--bare-tiles", "2", "--threads", "1"]
    cores, threads = os.sched_getaffinity(0), os.environ.get("OMP_NUM_THREADS", "1")
    try:
        benchmark.main([*given, "--out", str(tmp_path / "figures"), "--work", str(tmp_path / "work")])
    finally:
        os.sched_setaffinity(0, cores)
        os.environ["OMP_NUM_THREADS"] = threads
    (program,) = json.loads((tmp_path / "figures" / "infer.json").read_text())["programs"]
    assert (program["tiles"], program["by"], len(program["rates"])) == (2, "torch fp32", 1)
    assert "| model alone: torch, TorchScript |" in capsys.readouterr().out
