"""Engines: the same model by other means, and the choice between them."""

import importlib.util
import shutil
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
import torch

from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint, state_of
from wsi_maxmin.config import RunConfig
from wsi_maxmin.engines import _choice, plugins
from wsi_maxmin.engines._base import Engine, Outputs, join, reduce_mask
from wsi_maxmin.engines._choice import AGREEMENT, Choice, check_choice, choose, disagreement, open_engine
from wsi_maxmin.engines._graphs import cache_folder, exported_graph, is_exported
from wsi_maxmin.engines._int8 import keep_int8, quantise
from wsi_maxmin.errors import InputError, MissingExtraError
from wsi_maxmin.models import build_model
from wsi_maxmin.progress import Quiet

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
ON_CPU = [(name, precision) for name in plugins.names() for precision in plugins.load(name).PRECISIONS["cpu"]]


@pytest.fixture(scope="module")
def checkpoint(tiny_model):
    return load_checkpoint(tiny_model)


@pytest.fixture(scope="module", autouse=True)
def calibrated(checkpoint, tiles, tmp_path_factory):
    """Make what int8 needs, of the very tiles."""
    out = tmp_path_factory.mktemp("int8")
    with Quiet().track("calibrate", len(tiles), unit="tile") as advance:
        quantise(checkpoint, tiles, out, advance)
    (out / "int8.json").write_text("{}")
    keep_int8(checkpoint, out)


@pytest.fixture(scope="module")
def tiles():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, axis=1).repeat(8, axis=2))


def opened(checkpoint, name="torch", precision="fp32", downsample=8):
    return open_engine(checkpoint, name, device=CPU, precision=precision, downsample=downsample)


@pytest.mark.parametrize(("name", "precision"), ON_CPU)
def test_every_engine_gives_the_model_s_own_maps(checkpoint, tiles, name, precision):
    engine = opened(checkpoint, name, precision)
    assert (engine.name, engine.precision) == (name, precision)
    outputs = engine.run(tiles)
    assert (outputs.masks.shape, outputs.masks.dtype) == ((5, 1, 8, 8), np.float16)
    assert (outputs.logits.shape, outputs.logits.dtype) == ((5, 2), np.float32)
    with torch.inference_mode():
        own = checkpoint.build()(torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2))
    pooled = own.mask.unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(4, 5))
    logits_atol, masks_atol = {"fp32": (1e-4, 1e-3), "bf16": (0.05, 0.02), "int8": (0.1, 0.1)}[precision]
    np.testing.assert_allclose(outputs.logits, own.logits, atol=logits_atol)
    np.testing.assert_allclose(outputs.masks, pooled, atol=masks_atol)


@pytest.mark.parametrize(("name", "precision"), ON_CPU)
def test_a_tile_s_outputs_do_not_depend_on_its_batch_and_batches_keep_their_order(checkpoint, tiles, name, precision):
    engine = opened(checkpoint, name, precision)
    together = engine.run(tiles)
    pending = [engine.submit(tiles[:2]), engine.submit(tiles[2:3]), engine.submit(tiles[3:])]
    apart = join([wait() for wait in pending])
    np.testing.assert_array_equal(apart.masks, together.masks)
    np.testing.assert_array_equal(apart.logits, together.logits)


def test_an_error_inside_openvino_comes_out_where_the_outputs_are_waited_for(checkpoint, tiles):
    engine = opened(checkpoint, "openvino", downsample=7)  # does not divide the mask
    with pytest.raises(ValueError, match="cannot reshape"):
        engine.run(tiles)


def test_an_engine_of_openvino_that_is_let_go_frees_its_model(checkpoint, tiles):
    engine = opened(checkpoint, "openvino")
    engine.run(tiles)
    streams = weakref.ref(engine._streams)
    del engine
    for _ in range(200):  # a thread has just handed its last outputs over
        if streams() is None:
            break
        time.sleep(0.01)
    assert streams() is None


def test_the_streams_of_several_processes_are_not_held_to_the_same_cores(checkpoint):
    request = opened(checkpoint, "openvino")._streams._idle.get()
    assert request.get_compiled_model().get_property("ENABLE_CPU_PINNING") is False


def test_threads_begin_once_the_binding_was_used_by_one_alone(checkpoint, tiles, monkeypatch):
    module = plugins.load("openvino")
    module._first_use.cache_clear()
    users = []
    outputs = module._outputs

    def used(request, inputs):
        users.append(threading.current_thread())
        return outputs(request, inputs)

    monkeypatch.setattr(module, "_outputs", used)
    for _ in range(2):
        opened(checkpoint, "openvino").run(tiles)
    assert users[0] is threading.current_thread()
    assert threading.current_thread() not in users[1:]
    assert len(users) == 1 + 2 * len(tiles)


def test_a_model_is_exported_once(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("WSI_MAXMIN_CACHE", str(tmp_path / "cache"))
    assert not is_exported(checkpoint, "onnx")
    graph = exported_graph(checkpoint, "onnx")
    assert graph.is_relative_to(tmp_path / "cache")
    assert is_exported(checkpoint, "onnx")
    monkeypatch.setattr("wsi_maxmin.engines._graphs.trace", None)
    assert exported_graph(checkpoint, "onnx") == graph
    assert [path.name for path in graph.parent.parent.iterdir()] == [graph.parent.name]


def test_an_export_that_fails_leaves_nothing_behind(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("WSI_MAXMIN_CACHE", str(tmp_path))

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("wsi_maxmin.engines._graphs.trace", fail)
    with pytest.raises(OSError, match="disk full"):
        exported_graph(checkpoint, "onnx")
    assert not list((tmp_path / "graphs").iterdir())


def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv("WSI_MAXMIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "wsi-maxmin"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "wsi-maxmin"


def test_a_model_whose_tiles_cannot_be_compared_is_refused():
    params = {"encoder": {"name": "test_resnet"}, "params": {"mask_norm": "batch"}}
    config = RunConfig.model_validate({"model": params})
    weights = state_of(build_model(config.model, 2))
    batch = Checkpoint(config=config, weights=weights, epoch=1, metrics={}, optimizer={}, facts={})
    with pytest.raises(InputError, match="mask_norm: running"):
        opened(batch)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("tensorrt", "auto", "unknown engine; got 'tensorrt'; expected one of onnx, openvino, torch"),
        ("torch", "fp16", "the engine torch cannot run so; got fp16 on cpu; expected fp32 or bf16"),
        ("onnx", "bf16", "the engine onnx cannot run so; got bf16 on cpu; expected fp32"),
        ("auto", "fp16", "no engine computes so here; got fp16 on cpu; --precision auto"),
    ],
)
def test_what_cannot_be_run_here_is_refused_at_once(engine, precision, message):
    with pytest.raises(InputError, match=message):
        check_choice(CPU, engine, precision)


def test_an_engine_for_another_device_is_refused():
    with pytest.raises(
        InputError, match="the engine openvino cannot run so; got fp32 on meta; expected a device of cpu"
    ):
        check_choice(torch.device("meta"), "openvino", "auto")


def test_an_engine_that_is_not_installed_names_the_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    with pytest.raises(MissingExtraError, match=r"no module onnxruntime; pip install 'wsi-maxmin\[onnx\]'"):
        check_choice(CPU, "onnx", "auto")


class Fake(Engine):
    """Gives what it is told to."""

    def __init__(self, name, precision, masks):
        self.name, self.precision, self.masks = name, precision, masks

    def submit(self, images):
        return lambda: Outputs(
            np.full((len(images), 1, 2, 2), self.masks, "f2"), np.array([[0, 9]] * len(images), "f4")
        )


@pytest.fixture
def fakes(monkeypatch):
    """Let the engines have rates and maps: {(name, precision): (tiles/s, mask)}; return what was opened."""
    tried = []

    def install(engines):
        def fake_open(_checkpoint, name, *, device, precision, downsample):
            tried.append((name, precision))
            return Fake(name, precision, engines[name, precision][1])

        monkeypatch.setattr(_choice, "open_engine", fake_open)
        monkeypatch.setattr(
            _choice, "_try", lambda engine, tiles, _: (engine.run(tiles), engines[engine.name, engine.precision][0])
        )
        monkeypatch.setattr(plugins.load("openvino"), "fast", lambda _: ("fp32", "bf16"))
        monkeypatch.setattr(plugins.load("torch"), "fast", lambda _: ("fp32",))
        return tried

    return install


def settle(checkpoint, tiles, engine="auto", precision="auto", expected_tiles=10**6):
    return choose(
        checkpoint,
        device=CPU,
        engine=engine,
        precision=precision,
        downsample=8,
        tiles=tiles,
        expected_tiles=expected_tiles,
    )


def test_the_fastest_engine_with_the_same_maps_is_chosen_and_says_why(checkpoint, tiles, fakes):
    fakes({("torch", "fp32"): (5, 0.5), ("openvino", "fp32"): (9, 0.5), ("openvino", "bf16"): (20, 0.503)})
    choice = settle(checkpoint, tiles)
    assert (choice.engine, choice.precision, choice.suffix) == ("openvino", "bf16", "+openvino-bf16")
    assert choice.why.startswith("torch fp32 5.0 tiles/s; openvino fp32 9.0 tiles/s; openvino bf16 20.0 tiles/s (maps")


def test_a_faster_engine_whose_maps_differ_is_not_chosen(checkpoint, tiles, fakes):
    fakes({("torch", "fp32"): (5, 0.5), ("openvino", "fp32"): (9, 0.5), ("openvino", "bf16"): (20, 0.52)})
    assert settle(checkpoint, tiles).precision == "fp32"


def test_an_engine_that_takes_long_to_start_is_not_tried_for_a_short_run(checkpoint, tiles, fakes, monkeypatch):
    tried = fakes({("torch", "fp32"): (5, 0.5), ("openvino", "fp32"): (9, 0.5), ("openvino", "bf16"): (20, 0.5)})
    monkeypatch.setattr(plugins.load("openvino"), "start_seconds", lambda _: 30.0)
    assert settle(checkpoint, tiles, expected_tiles=500).engine == "torch"
    assert tried == [("torch", "fp32")]
    assert settle(checkpoint, tiles, expected_tiles=700).engine == "openvino"


@pytest.mark.parametrize(("expected_tiles", "seconds"), [(50, 0.1), (10**5, 1.0)])
def test_a_short_run_is_not_timed_for_long(checkpoint, tiles, fakes, monkeypatch, expected_tiles, seconds):
    fakes({("torch", "fp32"): (5, 0.5), ("openvino", "fp32"): (9, 0.5), ("openvino", "bf16"): (20, 0.5)})
    monkeypatch.setattr(plugins.load("openvino"), "start_seconds", lambda _: 0.0)
    given = []

    def tried(engine, tiles, most):
        given.append(most)
        return engine.run(tiles), len(given)

    monkeypatch.setattr(_choice, "_try", tried)
    settle(checkpoint, tiles, expected_tiles=expected_tiles)
    assert given == pytest.approx([seconds] * 3)


def test_an_engine_is_warmed_up_and_run_once_more_at_least():
    engine, passes = Fake("torch", "fp32", 0.5), []
    engine.submit = lambda images: passes.append(len(images)) or Fake.submit(engine, images)
    outputs, rate = _choice._try(engine, [np.zeros((2, 2, 3), np.uint8)] * 4, 0.0)
    assert passes == [4, 4]
    assert len(outputs.masks) == 4
    assert rate > 0
    _choice._try(engine, [np.zeros((2, 2, 3), np.uint8)] * 4, 0.02)
    assert len(passes) > 4


def test_what_the_user_says_is_not_timed(checkpoint, tiles, fakes):
    tried = fakes({})
    assert settle(checkpoint, tiles, "openvino", "bf16") == Choice(engine="openvino", precision="bf16")
    assert settle(checkpoint, tiles, "torch") == Choice(engine="torch", precision="fp32")
    assert settle(checkpoint, []) == Choice(engine="torch", precision="fp32")
    assert tried == []


def test_one_precision_leaves_the_engines_to_choose_from(checkpoint, tiles, fakes):
    tried = fakes({("torch", "bf16"): (9, 0.5), ("openvino", "bf16"): (3, 0.5)})
    assert settle(checkpoint, tiles, precision="bf16").engine == "torch"
    assert tried == [("torch", "bf16"), ("openvino", "bf16")]


@pytest.mark.parametrize("has", ["avx512_bf16", "amx_bf16", "sve_bf16"])
def test_torch_s_bf16_is_a_candidate_where_the_processor_has_it(monkeypatch, has):
    fast = plugins.load("torch").fast
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, has: True})
    assert fast(CPU) == ("fp32", "bf16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, has: False})
    assert fast(CPU) == ("fp32",)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fast(CPU) == ("fp32",)
    assert fast(torch.device("mps")) == ("fp32",)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_torch_gives_the_same_maps_and_compiles_once(checkpoint, tiles, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    engine = open_engine(checkpoint, "torch", device=CPU, precision="fp32", downsample=8, compiled=True)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compiled >= 1
    outputs = join([engine.run(tiles[:2]), engine.run(tiles[2:])])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
    plain = opened(checkpoint).run(tiles)
    np.testing.assert_allclose(outputs.logits, plain.logits, atol=1e-4)
    np.testing.assert_allclose(outputs.masks, plain.masks, atol=1e-3)


def test_where_nothing_compiles_the_error_says_what_to_install(checkpoint, monkeypatch):
    def fail(*_, **__):
        def run(_):
            raise RuntimeError("No working C++ compiler found\nin the list")

        return run

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(InputError, match=r"got RuntimeError: No working C\+\+ compiler found; install a C\+\+"):
        open_engine(checkpoint, "torch", device=CPU, precision="fp32", downsample=8, compiled=True)


def test_a_compiled_batch_on_a_gpu_keeps_its_shape(checkpoint, tiles, monkeypatch):
    """Here on a CPU that is taken for a GPU where batches are made."""
    engine = opened(checkpoint)
    assert engine._filled(tiles[:2]) is not None
    seen, forward = [], engine._forward
    engine._compute = lambda batch: (seen.append(len(batch)), forward(batch))[1]
    plain = join([engine.run(tiles[:3]), engine.run(tiles[3:])])
    assert seen == [1] * 5
    monkeypatch.setattr(engine, "_device", torch.device("meta"))
    assert [len(engine._filled(tiles[:count])) for count in (3, 2, 1)] == [3, 3, 3]
    assert len(plain.logits) == 5


def test_compiling_is_torch_s_alone(tmp_path):
    with pytest.raises(InputError, match="only torch is compiled; got --compile with --engine onnx; leave one out"):
        check_choice(CPU, "onnx", "auto", compiled=True)
    check_choice(CPU, "auto", "auto", compiled=True)
    choice = Choice(engine="torch", precision="fp32", variant="compiled")
    assert (choice.suffix, choice.to_json()["variant"]) == ("+torch-fp32-compiled", "compiled")
    assert "variant" not in Choice(engine="torch", precision="fp32").to_json()


def test_maps_disagree_by_the_channel_that_differs_more():
    masks, undecided = np.full((2, 1, 2, 2), 0.5, "f2"), np.array([[0, 0], [0, 0]], "f4")
    one = Outputs(masks, undecided)
    assert disagreement(one, one, 1) == 0
    assert disagreement(Outputs(masks + np.float16(0.25), undecided), one, 1) == pytest.approx(0.125)
    certain = Outputs(masks, np.array([[0, 99], [0, 0]], "f4"))
    assert disagreement(certain, one, 1) == disagreement(certain, one, 0) == pytest.approx(0.25)
    without = Outputs(masks, np.empty((2, 0), "f4"))
    assert disagreement(Outputs(masks / 2, np.empty((2, 0), "f4")), without, 1) == pytest.approx(0.25)
    assert AGREEMENT == 0.005


def test_masks_are_averaged_over_blocks():
    mask = np.arange(2 * 16, dtype="f4").reshape(2, 1, 4, 4) / 32
    np.testing.assert_allclose(reduce_mask(mask, 2)[1, 0], [[18.5 / 32, 20.5 / 32], [26.5 / 32, 28.5 / 32]], atol=1e-3)
    np.testing.assert_allclose(reduce_mask(mask, 1), mask, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_the_maps_are_the_cpu_s(checkpoint, tiles, precision):
    reference = opened(checkpoint).run(tiles)
    device = torch.device("cuda")
    engine = open_engine(checkpoint, "torch", device=device, precision=precision, downsample=8)
    pending = [engine.submit(tiles[:3]), engine.submit(tiles[3:])]
    assert disagreement(join([wait() for wait in pending]), reference, 1) < AGREEMENT


def test_streams_do_not_lock_against_python_when_they_first_run_together_nor_when_it_ends(tiny_model):
    program = """
import sys, numpy, torch
from pathlib import Path
from wsi_maxmin.checkpoint import load_checkpoint
from wsi_maxmin.engines._choice import open_engine
sys.setswitchinterval(1e-6)
torch.set_num_threads(2)
model = load_checkpoint(Path(sys.argv[1]))
engine = open_engine(model, "openvino", device=torch.device("cpu"), precision="fp32", downsample=8)
engine.run([numpy.zeros((64, 64, 3), numpy.uint8)] * 8)
"""
    command = [sys.executable, "-c", program, str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
