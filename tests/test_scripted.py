"""TorchScript classifiers of others: their description, their maps, and every engine that runs them."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from click.testing import CliRunner
from torch import nn

from wsi_maxmin.assets import find_model
from wsi_maxmin.cli import group
from wsi_maxmin.engines import plugins
from wsi_maxmin.engines._base import join
from wsi_maxmin.engines._choice import AGREEMENT, choose, disagreement, open_engine
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, slide_result
from wsi_maxmin.pipelines.plan_heatmaps import plan_heatmaps
from wsi_maxmin.pipelines.stitch import stitch_results
from wsi_maxmin.scripted import load_description
from wsi_maxmin.slide_model import load_slide_model
from wsi_maxmin.tilemaps import TileMaps, softmax

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
ON_CPU = [
    (name, precision)
    for name in plugins.names()
    for precision in plugins.load(name).PRECISIONS["cpu"]
    if precision != "int8"
]
MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.2, 0.1)
DESCRIPTION = {
    "classes": ["normal", "tumor", "other"],
    "positive": "tumor",
    "tile_px": 64,
    "mpp": 0.25,
    "pixel_mean": MEAN,
    "pixel_std": STD,
    "threshold": 0.3,
}
WSINFER = {
    "spec_version": "1.0",
    "architecture": "tiny",
    "num_classes": 3,
    "class_names": ["normal", "Tumor", "other"],
    "patch_size_pixels": 100,
    "spacing_um_px": 0.25,
    "transform": [
        {"name": "Resize", "arguments": {"size": 64}},
        {"name": "ToTensor"},
        {"name": "Normalize", "arguments": {"mean": list(MEAN), "std": list(STD)}},
    ],
}


def network(classes=3):
    torch.manual_seed(0)
    trunk = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*trunk, nn.Linear(8, classes)).eval()


def save(folder, module=None, description=DESCRIPTION, name="x"):
    """Write a TorchScript file and, unless it is None, a description beside it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.pt"
    torch.jit.save(torch.jit.script(network() if module is None else module), path)
    if description is not None:
        path.with_suffix(".json").write_text(json.dumps(description))
    return path


@pytest.fixture(scope="module")
def tiles():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, axis=1).repeat(8, axis=2))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_slide_model(save(tmp_path_factory.mktemp("scripted")))


@torch.inference_mode()
def own_scores(tiles):
    images = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    return network()((images - mean) / std).numpy()


@pytest.mark.parametrize(("name", "precision"), ON_CPU)
def test_every_engine_gives_the_network_s_own_scores_and_no_mask(model, tiles, name, precision):
    engine = open_engine(model, name, device=CPU, precision=precision, downsample=8)
    outputs = join([engine.run(tiles[:2]), engine.run(tiles[2:])])
    assert (outputs.masks.shape, outputs.masks.dtype) == ((5, 0, 8, 8), np.float16)
    np.testing.assert_allclose(outputs.logits, own_scores(tiles), atol=1e-5 if precision == "fp32" else 0.05)


def test_auto_times_engines_by_the_probability_alone(model, tiles):
    choice = choose(model, device=CPU, engine="auto", precision="auto", downsample=8, tiles=tiles, expected_tiles=10**7)
    assert "torch fp32" in choice.why
    outputs = open_engine(model, "torch", device=CPU, precision="fp32", downsample=8).run(tiles)
    certain = outputs._replace(logits=np.tile(np.array([0, 99, 0], "f4"), (5, 1)))
    expected = (1 - softmax(outputs.logits)[:, 1]).mean()
    assert disagreement(certain, outputs, 1) == pytest.approx(expected, abs=1e-5)
    assert expected > AGREEMENT


def test_probabilities_are_taken_as_they_are(tmp_path, tiles):
    module = nn.Sequential(network(), nn.Softmax(1))
    probabilities = load_slide_model(save(tmp_path, module, DESCRIPTION | {"gives": "probabilities"}))
    for name in plugins.names():
        found = open_engine(probabilities, name, device=CPU, precision="fp32", downsample=8).run(tiles)
        np.testing.assert_allclose(softmax(found.logits), softmax(own_scores(tiles)), atol=1e-5)


def test_a_slide_gets_a_map_of_probability_that_can_be_stitched_and_resumed(tmp_path, tissue_slide):
    path = save(tmp_path / "model")
    settings = InferSettings(engine="torch", precision="fp32", model=str(path))
    out = tmp_path / "out"
    assert infer_slide([tissue_slide], out, settings=settings).exit_code == 0
    result = slide_result(out, "slide")
    maps = TileMaps(result.tilemaps)
    assert maps.mask.shape[1] == 0
    assert maps.spec.class_names == ("normal", "tumor", "other")
    table = pd.read_parquet(result.folder / "tiles.parquet")
    np.testing.assert_allclose(table["posterior_tumor"], maps.posterior()[:, 1])
    assert "mask_mean" not in table
    heatmap = zarr.open_group(result.heatmap, mode="r")
    labels = [channel["label"] for channel in heatmap.attrs["omero"]["channels"]]
    assert labels == ["probability", "uncertainty", "coverage"]
    assert [channel["active"] for channel in heatmap.attrs["omero"]["channels"]] == [True, False, False]
    probability, covered = heatmap["0"][0], heatmap["0"][2] > 0
    assert abs(probability[covered].mean() / 255 - table["posterior_tumor"].mean()) < 0.01
    tumour = heatmap["labels/tumour/0"][:] == 2
    np.testing.assert_array_equal(tumour, (probability >= np.ceil(255 * 0.3)) & (heatmap["labels/tumour/0"][:] > 0))
    assert result.overview.is_file()

    stitched = tmp_path / "stitched"
    assert stitch_results([out], stitched).exit_code == 0
    again = zarr.open_group(stitched / "slide" / "heatmap.ome.zarr", mode="r")
    np.testing.assert_array_equal(again["0"][:], heatmap["0"][:])

    logits = np.asarray(maps.logits[:])
    maps.logits[:64], maps._done[:64] = 0, False
    facts = json.loads((result.folder / "run.json").read_text())
    (result.folder / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    infer_slide([tissue_slide], out, settings=settings, existing="resume")
    assert json.loads((result.folder / "run.json").read_text())["tiles_run"] == 64
    np.testing.assert_array_equal(TileMaps(result.tilemaps).logits[:], logits)


def test_a_dry_run_says_how_many_tiles(tmp_path, tissue_slide):
    settings = InferSettings(engine="torch", precision="fp32", model=str(save(tmp_path / "model")))
    (expected,) = plan_heatmaps([tissue_slide], settings=settings).slides
    assert not expected.fails
    assert expected.number > 0


def test_a_folder_of_wsinfer_is_a_model_and_is_read_at_its_own_scale(tmp_path):
    save(tmp_path / "zoo", description=None, name="torchscript_model")
    (tmp_path / "zoo" / "config.json").write_text(json.dumps(WSINFER))
    model = load_slide_model(find_model(str(tmp_path / "zoo")))
    assert (model.classes, model.positive) == (("normal", "Tumor", "other"), "Tumor")
    assert (model.slide.tile_px, model.slide.mpp) == (64, pytest.approx(0.25 * 100 / 64))
    assert model.description.pixel_mean == MEAN


def test_what_this_package_exports_can_be_run_as_torchscript_too(tmp_path, tiny_model, tiles):
    from wsi_maxmin.checkpoint import load_checkpoint
    from wsi_maxmin.pipelines.export_model import export_model

    export_model(str(tiny_model), "torchscript", tmp_path / "exported")
    scripted = load_slide_model(find_model(str(tmp_path / "exported")))
    assert (scripted.positive, scripted.slide.threshold, scripted.slide.tile_px) == ("tumor", 0.2, 64)
    found, own = (
        open_engine(each, "torch", device=CPU, precision="fp32", downsample=8).run(tiles)
        for each in (scripted, load_checkpoint(tiny_model))
    )
    np.testing.assert_allclose(found.logits, own.logits, atol=1e-5)


def without(key, description):
    return {name: value for name, value in description.items() if name != key}


def zoo(**changes):
    return WSINFER | changes


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (without("mpp", DESCRIPTION), "mpp: got .* expected: Field required"),
        (DESCRIPTION | {"treshold": 0.5}, "treshold: unknown key; did you mean 'threshold'"),
        (DESCRIPTION | {"positive": "cancer"}, "positive 'cancer' must be one of"),
        ([1], "describes no model; got list"),
        (zoo(class_names=["a", "b", "c"]), 'does not say which class to map; got a, b, c; add "positive": "c"'),
        (zoo(num_classes=2), "num_classes and class_names disagree; got 2 and 3"),
        (zoo(transform=[{"name": "CenterCrop"}]), "transform.0.name: got 'CenterCrop'"),
        (zoo(transform=[{"name": "Resize", "arguments": {"size": [64, 32]}}]), "tiles are squares; got Resize to"),
    ],
)
def test_a_description_that_will_not_do_says_why(tmp_path, description, message):
    with pytest.raises(InputError, match=message):
        load_description(save(tmp_path, description=description))


def test_without_a_description_the_error_shows_one_that_is_good(tmp_path):
    path = save(tmp_path, network(2), description=None)
    with pytest.raises(InputError, match=r"needs a description; got no .*x\.json; write there such as \{") as caught:
        load_description(path)
    example = re.search(r"\{.*\}", str(caught.value)).group()
    path.with_suffix(".json").write_text(example)
    assert load_slide_model(path).build().scores(torch.rand(1, 3, 224, 224)).shape == (1, 2)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_description(path)


class Pair(nn.Module):
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image, image


class Fixed(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.reshape(-1, 3 * 32 * 32)


class Nan(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((2, 3)) * float("nan")


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (network(2), {}, r"got shape \(1, 2\); expected \(1, 3\), a value for each class"),
        (Pair(), {}, r"does not give one tensor; got a tuple; .*take torchscript_model\.pt"),
        (Fixed(), {}, r"gives of one tile what cannot be used; got shape \(4, 3072\)"),
        (Nan(), {}, "values that are not finite"),
        (network(), {"gives": "probabilities"}, 'gives no probabilities; .*write "gives": "logits"'),
        (nn.Linear(3, 3), {}, "cannot run a tile; got 64 px: .*shapes"),
    ],
)
def test_a_file_that_is_not_what_its_description_says_is_refused(tmp_path, module, changes, message):
    model = load_slide_model(save(tmp_path, module, DESCRIPTION | changes))
    with pytest.raises(InputError, match=message):
        model.build()


def test_weights_alone_are_no_model(tmp_path):
    torch.save(network().state_dict(), tmp_path / "x.pt")
    (tmp_path / "x.json").write_text(json.dumps(DESCRIPTION))
    with pytest.raises(InputError, match=r"no TorchScript model; .*weights alone \(torch\.save\) do not say"):
        load_slide_model(tmp_path / "x.pt").build()


def test_reading_and_freezing_say_nothing_of_torch_s_plans(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built = model.build().on(CPU)
    assert built.refuses_slides is None


def test_another_file_or_description_has_another_fingerprint(tmp_path):
    path = save(tmp_path)
    first = load_slide_model(path).fingerprint()
    assert first == load_slide_model(path).fingerprint()
    save(tmp_path, description=DESCRIPTION | {"mpp": 0.5})
    second = load_slide_model(path).fingerprint()
    save(tmp_path, nn.Sequential(network(), nn.Identity()), DESCRIPTION | {"mpp": 0.5})
    assert len({first, second, load_slide_model(path).fingerprint()}) == 3


def test_a_graph_that_a_converter_does_not_take_names_the_engine_that_does(model, monkeypatch, tmp_path):
    monkeypatch.setenv("WSI_MAXMIN_CACHE", str(tmp_path))

    def fail(*_, **__):
        raise ValueError("no such operation\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(InputError, match="cannot be run by onnx; got ValueError: no such operation; --engine torch"):
        open_engine(model, "onnx", device=CPU, precision="fp32", downsample=8)


def test_the_command_takes_a_torchscript_file(tmp_path, tissue_slide):
    arguments = ["infer-slide", str(tissue_slide), "--model", str(save(tmp_path / "model")), "--out"]
    done = CliRunner().invoke(group, [*arguments, str(tmp_path / "out"), "--engine", "torch", "--precision", "fp32"])
    assert done.exit_code == 0, done.output
    (tmp_path / "model" / "x.json").unlink()
    done = CliRunner().invoke(group, [*arguments, str(tmp_path / "other")])
    assert done.exit_code == 2
    assert '"tile_px"' in done.stderr


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_that_it_cannot_be_compiled_is_said_before_anything_is_written(tmp_path, tissue_slide, engine):
    arguments = ["infer-slide", str(tissue_slide), "--model", str(save(tmp_path / "model")), "--engine", engine]
    done = CliRunner().invoke(group, [*arguments, "--out", str(tmp_path / "out"), "--compile"])
    assert done.exit_code == 2
    assert done.stderr == "error: a TorchScript classifier cannot be compiled; leave --compile out\n"
    assert not (tmp_path / "out").exists()


def test_that_it_has_no_dense_mode_is_said_in_words(tmp_path, tissue_slide):
    settings = InferSettings(model=str(save(tmp_path / "model")), mode="dense")
    with pytest.raises(InputError, match="cannot be run densely; got a TorchScript classifier; expected a method"):
        infer_slide([tissue_slide], tmp_path / "out", settings=settings)
