"""What a YAML file may say, checked; names of bundled configs; ``--set key.sub=value``.

A config lists only what differs from the defaults. ``dataset: NAME`` lays the file ``configs/datasets/NAME.yaml``
beneath it, ``encoder: NAME`` the file ``configs/encoders/NAME.yaml`` between the two. What a method itself can be told
(``model.params``) is described by that method's own module.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from wsi_maxmin._layers import CONFIGS as CONFIGS
from wsi_maxmin._layers import find_config as find_config
from wsi_maxmin._layers import list_configs as list_configs
from wsi_maxmin._layers import merge as merge
from wsi_maxmin._layers import parse_override as parse_override
from wsi_maxmin._layers import resolve
from wsi_maxmin._strict import Strict as Strict
from wsi_maxmin._strict import parse as parse

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


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
    unmasked_is_background: bool = Field(
        False, description="a sample of another class than the positive one needs no mask: it has no foreground"
    )
    shorter_side_px: int | None = Field(None, gt=0, description="resize so that the shorter side has this length")

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "DataConfig":
        if len(self.classes) < 2 or self.positive not in self.classes:
            raise ValueError(f"positive {self.positive!r} and at least one other class must be in {self.classes}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"a class is named twice in {self.classes}")
        return self


class AugmentConfig(Strict):
    """Random changes of a training image, and of its mask together with it."""

    crop_px: int | None = Field(None, gt=0, description="random square crop; null keeps the whole image")
    horizontal_flip: Fraction = 0.5
    vertical_flip: Fraction = 0.5
    rotate_90: bool = True
    jitter: tuple[NotNegative, NotNegative, NotNegative, Annotated[float, Field(ge=0, le=0.5)]] = Field(
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
    pixel_std: tuple[Positive, Positive, Positive] | None = None
    params: dict[str, Any] = Field(default_factory=dict, description="checked by the method's own Params")


class TrainingConfig(Strict):
    """SGD with Nesterov momentum and a stepped learning rate."""

    start_from: str | None = Field(None, description="weights of another model of the same method and encoder")
    epochs: int = Field(80, gt=0)
    repeat: int = Field(1, gt=0, description="times that an epoch shows the training samples")
    batch_size: int = Field(4, gt=0, description="samples at once on each device")
    accumulate: int = Field(1, gt=0, description="batches whose gradients make one step")
    learning_rate: Positive = 1e-3
    decay: Positive = Field(0.9, description="the learning rate is multiplied by it every decay_every epochs")
    decay_every: int = Field(10, gt=0)
    learning_rate_floor: float = Field(1e-7, ge=0)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: float = Field(1e-4, ge=0)
    balance_classes: bool = Field(False, description="draw every class equally often, with replacement")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of the forward pass; weights, loss and validation stay in fp32"
    )
    devices: int = Field(1, gt=0, description="GPUs (or processes on the CPU) that share every step")
    workers: int = Field(2, ge=0, description="processes that load samples, for each device")
    keep_mb: int = Field(
        1024, ge=0, description="of decoded images that stay in memory, for training and again for validation"
    )
    max_minutes: Positive | None = Field(None, description="stop before an epoch that would end later; resumable")
    tensorboard: bool = Field(False, description="write the metrics for TensorBoard as well")


class SlideConfig(Strict):
    """How the trained model is to be run over slides."""

    mpp: Annotated[float, Field(ge=0.05, le=20)] | None = Field(None, description="µm per pixel of the samples")
    tile_px: int = Field(512, ge=32)
    threshold: Fraction = Field(0.5, description="of the tumour map of slides: labels, pictures and exports use it")


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
        done. The number of devices does; a checkpoint holds it apart, since it may come from outside the config.
        """
        without = {"epochs", "devices", "workers", "keep_mb", "max_minutes", "tensorboard"}
        return self.model_dump(mode="json", exclude={"training": without, "data": {"slides"}})


def load_config(name_or_path: str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a config by its bundled name (``glas/maxmin-sem``) or path, with ``key.sub=value`` overrides on top.

    From the lowest layer to the highest, each winning over those before it: defaults, the file of ``dataset``, the file
    of ``encoder``, the config itself, overrides.

    Raises
    ------
    InputError
        If a file is missing or is no YAML, or a key or value is not known.
    """
    return parse(RunConfig, resolve(name_or_path, overrides), source=name_or_path)
