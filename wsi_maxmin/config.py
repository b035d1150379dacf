"""What a YAML file may say, checked; names of bundled configs; ``--set key.sub=value``.

A config lists only what differs from the defaults. ``dataset: NAME`` lays the file ``configs/datasets/NAME.yaml``
beneath it. What a method itself can be told (``model.params``) is described by that method's own module.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from wsi_maxmin._strict import Strict as Strict
from wsi_maxmin._strict import parse as parse
from wsi_maxmin.errors import InputError

CONFIGS = Path(__file__).parent / "configs"

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class DataConfig(Strict):
    """Where samples and their image-level labels come from."""

    format: str = Field("labels", description="a module of wsi_maxmin.data: labels, glas or patches")
    train: str | None = Field(None, description="list of training samples, relative to --data")
    valid: str | None = Field(None, description="list of validation samples; else valid_fraction is split off")
    test: str | None = Field(None, description="list of test samples")
    valid_fraction: Fraction = 0.2
    split_by: Literal["group", "sample"] = "group"
    exclude_groups: tuple[str, ...] = ()
    fold: int | None = Field(None, ge=0, description="of patches with folds: validate on it, train on the others")
    slides: str | None = Field(
        None, description="of patches without images: folder of moved slides, relative to --data"
    )
    classes: tuple[str, ...] = ("normal", "tumor")
    positive: str = "tumor"
    shorter_side_px: int | None = Field(None, gt=0, description="resize so that the shorter side has this length")

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "DataConfig":
        if len(self.classes) < 2 or self.positive not in self.classes:
            raise ValueError(f"positive {self.positive!r} and at least one other class must be in {self.classes}")
        return self


class AugmentConfig(Strict):
    """Random changes of a training image, and of its mask together with it."""

    crop_px: int | None = Field(None, gt=0, description="random square crop; null keeps the whole image")
    horizontal_flip: Fraction = 0.5
    vertical_flip: Fraction = 0.5
    rotate_90: bool = True
    jitter: tuple[float, float, float, float] = Field(
        (0.5, 0.5, 0.5, 0.05),
        description="brightness, contrast, saturation, hue, as in torchvision's ColorJitter",
    )


class EncoderConfig(Strict):
    """The trunk: any encoder that timm knows."""

    name: str = "resnet18"
    weights: str = Field("none", description="none, hub, package:MODULE, or the path of a weights file")
    freeze_norm: bool = Field(
        False, description="keep batch-norm statistics as they came; batches of a few images shift them"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of timm.create_model")


class ModelConfig(Strict):
    """The method, its trunk and what the method itself can be told."""

    name: str = Field("maxmin", description="a module of wsi_maxmin.models")
    encoder: EncoderConfig = EncoderConfig()
    pixel_mean: tuple[float, float, float] | None = Field(None, description="null: the encoder's own")
    pixel_std: tuple[float, float, float] | None = None
    params: dict[str, Any] = Field(default_factory=dict, description="checked by the method's own Params")


class TrainingConfig(Strict):
    """SGD with Nesterov momentum and a stepped learning rate."""

    epochs: int = Field(80, gt=0)
    batch_size: int = Field(4, gt=0)
    learning_rate: Positive = 1e-3
    decay: Positive = Field(0.9, description="the learning rate is multiplied by it every decay_every epochs")
    decay_every: int = Field(10, gt=0)
    learning_rate_floor: float = Field(1e-7, ge=0)
    momentum: Fraction = 0.9
    weight_decay: float = Field(1e-4, ge=0)
    balance_classes: bool = Field(False, description="draw every class equally often, with replacement")
    workers: int = Field(2, ge=0, description="processes that load samples")


class SlideConfig(Strict):
    """How the trained model is to be run over slides."""

    mpp: Annotated[float, Field(ge=0.05, le=20)] | None = Field(None, description="µm per pixel of the samples")
    tile_px: int = Field(512, ge=32)
    threshold: Fraction = Field(0.5, description="of the tumour map; labels, Dice and exports use it")


class TissueConfig(Strict):
    """How tissue is told from glass."""

    overview_mpp: Positive = Field(8.0, description="µm per pixel of the overview")
    closing_um: float = Field(16.0, ge=0, description="radius of the closing")
    smallest_hole_um2: float = Field(5_000.0, ge=0, description="smaller holes are filled")
    smallest_speck_um2: float = Field(5_000.0, ge=0, description="smaller pieces are dropped")


class RunConfig(Strict):
    """One training run: everything that decides its result but the data themselves."""

    name: str = "run"
    summary: str = ""
    notes: str = Field("", description="licence of the data and other facts that must travel with the model")
    seed: int = Field(0, ge=0)
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    slide: SlideConfig = SlideConfig()

    def identity(self) -> dict[str, Any]:
        """Return, as JSON values, what two runs must share for one to continue the other.

        More epochs, another number of loader processes or another place of the slides do not change the epochs that are
        done.
        """
        return self.model_dump(mode="json", exclude={"training": {"epochs", "workers"}, "data": {"slides"}})


def load_config(name_or_path: str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a config by its bundled name (``glas/maxmin-sem``) or path, with ``key.sub=value`` overrides on top."""
    path = find_config(name_or_path)
    values = _read_yaml(path)
    values.setdefault("name", path.stem)
    for override in overrides:
        values = merge(values, parse_override(override))
    dataset = values.pop("dataset", None)
    if dataset is not None:
        values = merge(_read_yaml(find_config(f"datasets/{dataset}", near=path)), values)
    return parse(RunConfig, values, source=name_or_path)


def list_configs() -> list[str]:
    """Return the names of the bundled configs, without the dataset files that they build on."""
    names = (path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))
    return sorted(name for name in names if not name.startswith("datasets/"))


def find_config(name_or_path: str, *, near: Path | None = None) -> Path:
    """Return the YAML file that a path or a bundled name stands for; `near` is a config that refers to it."""
    candidates = [Path(name_or_path)] if Path(name_or_path).suffix in {".yaml", ".yml"} else []
    if near is not None:
        candidates += [near.parent / f"{name_or_path}.yaml"]
    candidates += [CONFIGS / f"{name_or_path}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = list_configs()
    close = difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.4)
    raise InputError(
        "no such config",
        got=name_or_path,
        expected=f"the path of a YAML file or one of {', '.join(known)}",
        remedy=f"did you mean {close[0]}?" if close else None,
    )


def parse_override(text: str) -> dict[str, Any]:
    """Turn ``key.sub=value`` into ``{"key": {"sub": value}}``; the value is read as YAML.

    >>> parse_override("model.params.sigma=0.2")
    {'model': {'params': {'sigma': 0.2}}}
    """
    key, equals, raw = text.partition("=")
    if not equals or not key or not all(key.split(".")):
        raise InputError("--set cannot be read", got=repr(text), expected="key.sub=value, such as training.epochs=5")
    try:
        value: Any = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise InputError("--set cannot be read", got=repr(text), expected=f"a YAML value ({error})") from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `top` over `base`, section by section; neither is changed."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML", got=str(error)) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no config", got=type(values).__name__, expected="keys and values")
    return values
