"""Exported models: equal to the model, and of use without this package."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from wsi_maxmin.assets import DEMO_SLIDE, find_model
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, state_of
from wsi_maxmin.cli import group
from wsi_maxmin.config import RunConfig
from wsi_maxmin.errors import InputError, MissingExtraError, OutputExistsError
from wsi_maxmin.export_model import FORMATS
from wsi_maxmin.geometry import Box
from wsi_maxmin.models import build_model, plugins
from wsi_maxmin.pipelines.export_model import export_model
from wsi_maxmin.readers import open_slide

pytestmark = pytest.mark.usefixtures("one_thread")

MASKS_ALONE = ("constant", "pn", "unet")


def save(
    folder, method="maxmin", *, tile_px=64, mpp=0.25, encoder="test_resnet", classes=("normal", "tumor"), **params
):
    """Write an untrained model whose running statistics have moved."""
    trunk = {} if method in ("constant", "unet") else {"encoder": {"name": encoder}}
    config = RunConfig.model_validate(
        {
            "name": method,
            "notes": "CC0",
            "data": {"classes": classes},
            "model": {"name": method, "params": params, **trunk},
            "slide": {"mpp": mpp, "tile_px": tile_px},
        }
    )
    torch.manual_seed(0)
    model = build_model(config.model, len(classes))
    with torch.no_grad():
        model(tiles(4, tile_px))
    path = folder / f"{method}.safetensors"
    checkpoint = Checkpoint(config=config, weights=state_of(model), epoch=1, metrics={}, optimizer={}, facts={})
    save_checkpoint(path, checkpoint)
    return path


def tiles(count, side=64):
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(count))


@torch.no_grad()
def expected(path, images):
    output = load_checkpoint(path).build()(images)
    values = {"mask": output.mask.numpy()}
    if output.logits is not None:
        values |= {"logits": output.logits.numpy(), "probabilities": torch.softmax(output.logits, 1).numpy()}
    return values


def run_torchscript(folder, images):
    names = [output["name"] for output in describe(folder)["wsi_maxmin"]["outputs"]]
    outputs = torch.jit.load(folder / "model.pt")(images)
    return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}


def run_onnx(folder, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images.numpy()}), strict=True))


def run_openvino(folder, images):
    import openvino

    # Where the processor has bfloat16, OpenVINO would round to it.
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"image": images.numpy()})
    return {output.get_any_name(): found[output] for output in compiled.outputs}


def skip_without(to):
    """Skip where the packages of a format are not installed."""
    needed = {"torchscript": (), "onnx": ("onnxscript", "onnxruntime"), "openvino": ("onnxscript", "openvino")}[to]
    if missing := [name for name in needed if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


RUN = {"torchscript": run_torchscript, "onnx": run_onnx, "openvino": run_openvino}


def describe(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def assert_equal(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_equals_the_model_for_any_number_of_tiles(tmp_path, to):
    skip_without(to)
    path, out = save(tmp_path), tmp_path / "out"
    written = export_model(str(path), to, out)
    assert sorted(written) == sorted(out.iterdir())
    for count in (1, 2, 5):
        assert_equal(RUN[to](out, tiles(count)), expected(path, tiles(count)))


@pytest.mark.parametrize("method", plugins.names())
def test_every_method_exports_and_says_which_outputs_it_has(tmp_path, method):
    path, out = save(tmp_path, method), tmp_path / "out"
    export_model(str(path), "torchscript", out)
    for count in (1, 3):
        assert_equal(run_torchscript(out, tiles(count)), expected(path, tiles(count)))
    outputs = [output["name"] for output in describe(out)["wsi_maxmin"]["outputs"]]
    assert outputs == (["mask"] if method in MASKS_ALONE else ["probabilities", "logits", "mask"])
    assert (out / "torchscript_model.pt").exists() == (method not in MASKS_ALONE)


@pytest.mark.parametrize("params", [{"mask_norm": "image"}, {"mask_norm": "none", "classifier_scale": 0.8}])
@pytest.mark.parametrize("encoder", ["test_resnet", "test_efficientnet"])
def test_options_and_encoders_export_too(tmp_path, encoder, params):
    path, out = save(tmp_path, encoder=encoder, tile_px=96, **params), tmp_path / "out"
    export_model(str(path), "torchscript", out)
    assert_equal(run_torchscript(out, tiles(2, 96)), expected(path, tiles(2, 96)))


def test_the_graph_normalises_pixels_itself(tmp_path):
    path, out = save(tmp_path), tmp_path / "out"
    export_model(str(path), "torchscript", out)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert_equal(run_torchscript(out, pixels / 255), expected(path, pixels))


def test_the_description_is_a_model_config_of_wsinfer(tmp_path):
    """Required keys, types and names of the zoo's schema, version 1.0."""
    path, out = save(tmp_path, classes=("a", "tumor", "c")), tmp_path / "out"
    export_model(str(path), "torchscript", out)
    said = describe(out)
    ours = said.pop("wsi_maxmin")
    assert said == {
        "spec_version": "1.0",
        "architecture": "test_resnet",
        "num_classes": 3,
        "class_names": ["a", "tumor", "c"],
        "patch_size_pixels": 64,
        "spacing_um_px": 0.25,
        "transform": [{"name": "Resize", "arguments": {"size": 64}}, {"name": "ToTensor"}],
    }
    assert (ours["positive"], ours["notes"], ours["threshold"]) == ("tumor", "CC0", 0.5)
    assert ours["input"] == {"name": "image", "shape": ["batch", 3, 64, 64], "type": "float32", "range": [0, 1]}
    shapes = {output["name"]: output["shape"] for output in ours["outputs"]}
    assert shapes == {"probabilities": ["batch", 3], "logits": ["batch", 3], "mask": ["batch", 1, 64, 64]}
    assert ours["model"] == load_checkpoint(path).fingerprint()


def test_wsinfer_s_steps_give_the_model_s_scores_in_a_process_that_knows_only_torch(tmp_path):
    path, out = save(tmp_path), tmp_path / "out"
    export_model(str(path), "torchscript", out)
    np.save(tmp_path / "tiles.npy", tiles(3).numpy())
    script = f"""
import json, sys
import numpy as np, torch
config = json.load(open({str(out / "config.json")!r}))
model = torch.jit.load({str(out / "torchscript_model.pt")!r}, map_location="cpu").eval()
with torch.no_grad():
    logits = model(torch.from_numpy(np.load({str(tmp_path / "tiles.npy")!r})))
assert logits.shape == (3, config["num_classes"]) == (3, len(config["class_names"]))
np.save({str(tmp_path / "found.npy")!r}, torch.softmax(logits, dim=1).numpy())
print([name for name in sys.modules if name.partition(".")[0] in ("wsi_maxmin", "timm")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    wanted = expected(path, tiles(3))["probabilities"]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), wanted, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def real_tiles():
    """Return the three tiles of the bundled slide's scanned part that have most texture, and one of glass."""
    with open_slide(DEMO_SLIDE) as slide:
        corners = [(x, y) for x in range(4096, 7000, 512) for y in range(3584, 7000, 512)] + [(0, 0)]
        pixels = [slide.read(Box(x=x, y=y, width=512, height=512), 512, 512) for x, y in corners]
    *scanned, glass = pixels
    chosen = [*sorted(scanned, key=np.std)[-3:], glass]
    assert chosen[0].std() > 20 > chosen[-1].std()
    return torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "to"),
    [
        ("camelyon16-demo", "torchscript"),
        ("camelyon16-demo", "openvino"),
        ("resnet18", "torchscript"),
        ("resnet18", "onnx"),
    ],
)
def test_an_export_equals_the_model_on_real_tiles(tmp_path, real_tiles, to, model):
    """The bundled EfficientNet-Lite0, and a ResNet18 with the published stem, both with running mask limits.

    Files of OpenVINO are made of ONNX.
    """
    skip_without(to)
    path = find_model("camelyon16-demo")
    if model == "resnet18":
        path = _deep_resnet18(tmp_path)
    export_model(str(path), to, tmp_path / "out")
    for batch in (real_tiles, real_tiles[:1]):
        assert_equal(RUN[to](tmp_path / "out", batch / 255), expected(path, batch))


def _deep_resnet18(folder):
    config = RunConfig.model_validate(
        {
            "model": {"encoder": {"name": "resnet18", "options": {"stem_type": "deep", "stem_width": 64}}},
            "slide": {"mpp": 0.25, "tile_px": 512},
        }
    )
    torch.manual_seed(0)
    model = build_model(config.model, 2)
    with torch.no_grad():
        model(tiles(2, 128))
    path = folder / "resnet18.safetensors"
    checkpoint = Checkpoint(config=config, weights=state_of(model), epoch=1, metrics={}, optimizer={}, facts={})
    save_checkpoint(path, checkpoint)
    return path


def test_a_model_whose_masks_depend_on_their_batch_is_refused(tmp_path):
    path = save(tmp_path, mask_norm="batch")
    with pytest.raises(InputError, match=r"this model cannot be exported; mask_norm: batch makes .*running"):
        export_model(str(path), "torchscript", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_without_mpp_asks_for_it_and_one_with_it_keeps_its_own(tmp_path):
    path, out = save(tmp_path, "constant", mpp=None), tmp_path / "out"
    with pytest.raises(InputError, match=r"does not say the µm per pixel of its tiles; give --mpp"):
        export_model(str(path), "torchscript", out)
    export_model(str(path), "torchscript", out, mpp=0.5)
    assert describe(out)["spacing_um_px"] == 0.5
    with pytest.raises(InputError, match=r"says its own µm per pixel; got 0\.5 beside 0\.25; drop --mpp"):
        export_model(str(save(tmp_path, "constant")), "torchscript", tmp_path / "other", mpp=0.5)


def test_an_export_is_replaced_only_when_told_and_other_files_stay(tmp_path):
    path, out = save(tmp_path, "constant"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "config.json").write_text("old")
    with pytest.raises(OutputExistsError, match=r"holds an export; got config\.json; --overwrite replaces it"):
        export_model(str(path), "torchscript", out)
    assert (out / "config.json").read_text() == "old"
    export_model(str(path), "torchscript", out, overwrite=True)
    assert describe(out)["spec_version"] == "1.0"
    assert sorted(entry.name for entry in out.iterdir()) == ["config.json", "mine.txt", "model.pt"]


@pytest.mark.parametrize(("to", "package", "extra"), [("onnx", "onnxscript", "onnx"), ("openvino", "openvino", "cpu")])
def test_a_missing_package_is_named_with_its_extra_and_nothing_is_left(tmp_path, monkeypatch, to, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"got no module {package}; pip install 'wsi-maxmin\[{extra}\]'"):
        export_model(str(save(tmp_path, "constant")), to, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_command_prints_what_it_wrote_and_refuses_other_formats(tmp_path):
    path, out = save(tmp_path, "constant"), tmp_path / "out"
    options = ["export-model", str(path), "--out", str(out), "--to"]
    done = CliRunner().invoke(group, [*options, "torchscript"])
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(out / "model.pt"), str(out / "config.json")]
    again = CliRunner().invoke(group, [*options, "torchscript"])
    assert (again.exit_code, "--overwrite" in again.stderr) == (2, True)
    assert "'torchscript', 'onnx', 'openvino'" in CliRunner().invoke(group, [*options, "keras"]).stderr
    with pytest.raises(InputError, match=r"unknown format; got keras; expected one of torchscript, onnx, openvino"):
        export_model(str(path), "keras", out)
