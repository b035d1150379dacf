"""TorchScript classifiers of others: a ``.pt`` file, and a JSON file beside it that says how to run it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from wsi_maxmin.config import Fraction, Positive, SlideConfig, Strict, parse
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import ScriptedClassifier, load_scripted

SUFFIXES = (".pt", ".pth", ".torchscript")
_WSINFER = "config.json"
_TUMOUR = ("tumor", "tumour")
_EXAMPLE = (
    '{"classes": ["normal", "tumor"], "positive": "tumor", "tile_px": 224, "mpp": 0.5, '
    '"pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225], "gives": "logits", "threshold": 0.5}'
)

Mpp = Annotated[float, Field(ge=0.05, le=20)]
Three = tuple[float, float, float]
Deviations = tuple[Positive, Positive, Positive]


class ScriptDescription(Strict):
    """How a TorchScript classifier is to be run."""

    classes: tuple[str, ...] = Field(min_length=2, description="in the order of its outputs")
    positive: str = Field(description="the class whose posterior is mapped")
    tile_px: int = Field(ge=32, description="side of the tiles that it takes")
    mpp: Mpp = Field(description="µm per pixel of these tiles")
    pixel_mean: Three = Field((0.0, 0.0, 0.0), description="subtracted from pixels in [0, 1]")
    pixel_std: Deviations = Field((1.0, 1.0, 1.0), description="what they are then divided by")
    gives: Literal["logits", "probabilities"] = Field("logits", description="probabilities: softmax is in the graph")
    threshold: Fraction = Field(0.5, description="of the probability: labels and pictures use it")
    summary: str = ""
    notes: str = Field("", description="licence of the model and other facts that must travel with it")

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "ScriptDescription":
        if self.positive not in self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"positive {self.positive!r} must be one of {self.classes}, each named once")
        return self


class _Step(Strict):
    name: Literal["Resize", "ToTensor", "Normalize"]
    arguments: dict[str, Any] = Field(default_factory=dict)


class WsinferConfig(Strict):
    """A model config of WSInfer's zoo, spec 1.0; `positive`, `threshold` and `wsi_maxmin` are ours."""

    spec_version: Literal["1.0"] = "1.0"
    architecture: str = ""
    model_type: str = ""
    num_classes: int
    class_names: tuple[str, ...]
    patch_size_pixels: int = Field(gt=0)
    spacing_um_px: Positive
    transform: tuple[_Step, ...]
    positive: str | None = None
    threshold: Fraction | None = None
    wsi_maxmin: dict[str, Any] = Field(default_factory=dict)

    def describe(self, source: str) -> ScriptDescription:
        """Return the same in our words.

        A patch is resized to what the network takes; reading it at the µm per pixel that this makes is the same.
        """
        if self.num_classes != len(self.class_names):
            raise InputError(
                f"{source}: num_classes and class_names disagree", got=f"{self.num_classes} and {len(self.class_names)}"
            )
        arguments = {step.name: step.arguments for step in self.transform}
        normalise = arguments.get("Normalize", {})
        side = _square(arguments.get("Resize", {}).get("size", self.patch_size_pixels), source)
        threshold = self.wsi_maxmin.get("threshold", 0.5) if self.threshold is None else self.threshold
        return parse(
            ScriptDescription,
            {
                "classes": self.class_names,
                "positive": self.positive or self.wsi_maxmin.get("positive") or self._tumour(source),
                "tile_px": side,
                "mpp": self.spacing_um_px * self.patch_size_pixels / side,
                "pixel_mean": normalise.get("mean", (0.0, 0.0, 0.0)),
                "pixel_std": normalise.get("std", (1.0, 1.0, 1.0)),
                "threshold": threshold,
                "notes": self.wsi_maxmin.get("notes", ""),
            },
            source=source,
        )

    def _tumour(self, source: str) -> str:
        found = [name for name in self.class_names if name.lower() in _TUMOUR]
        if len(found) != 1:
            raise InputError(
                f"{source} does not say which class to map",
                got=", ".join(self.class_names),
                remedy=f'add "positive": "{self.class_names[-1]}", or another of them',
            )
        return found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedModel:
    """A TorchScript file and its description.

    Attributes
    ----------
    path : Path
    description : ScriptDescription
    """

    path: Path
    description: ScriptDescription
    has_masks: bool = False

    @property
    def name(self) -> str:
        """What the model is called: its file's stem."""
        return self.path.stem

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the scores."""
        return self.description.classes

    @property
    def positive(self) -> str:
        """The class that is mapped."""
        return self.description.positive

    @property
    def slide(self) -> SlideConfig:
        """How it is to be run over slides."""
        said = self.description
        return SlideConfig(mpp=said.mpp, tile_px=said.tile_px, threshold=said.threshold)

    @property
    def about(self) -> dict[str, str]:
        """Architecture, which its graph alone knows, method, summary and notes."""
        said = self.description
        return {"architecture": "", "method": "torchscript", "summary": said.summary, "notes": said.notes}

    def fingerprint(self) -> str:
        """Return a short digest of file and description."""
        digest = hashlib.sha256(self.description.model_dump_json().encode())
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return f"{self.name}:{digest.hexdigest()[:16]}"

    def build(self) -> ScriptedClassifier:
        """Load the model on the CPU and try it on one tile.

        Raises
        ------
        InputError
            If the file is no TorchScript, or does not give what the description says.
        """
        said = self.description
        return load_scripted(
            self.path,
            num_classes=len(said.classes),
            side_px=said.tile_px,
            mean=said.pixel_mean,
            std=said.pixel_std,
            probabilities=said.gives == "probabilities",
        )


def load_description(path: Path) -> ScriptedModel:
    """Return a TorchScript model by its file; nothing of it is run yet.

    Its description is ``x.json`` beside ``x.pt``, else ``config.json``, in our form or that of WSInfer's zoo.

    Raises
    ------
    InputError
        If there is no description, or it does not say what it must.
    """
    beside = path.with_suffix(".json")
    found = next((file for file in (beside, path.with_name(_WSINFER)) if file.is_file()), None)
    if found is None:
        raise InputError(
            "a TorchScript model needs a description", got=f"no {beside}", remedy=f"write there such as {_EXAMPLE}"
        )
    try:
        values: Any = json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{found} is not JSON", got=str(error)) from None
    if not isinstance(values, dict):
        raise InputError(f"{found} describes no model", got=type(values).__name__, expected=_EXAMPLE)
    source = str(found)
    if "patch_size_pixels" in values:
        description = parse(WsinferConfig, values, source=source).describe(source)
    else:
        description = parse(ScriptDescription, values, source=source)
    return ScriptedModel(path=path, description=description)


def _square(size: Any, source: str) -> int:
    sides = size if isinstance(size, list) else [size]
    if not 1 <= len(sides) <= 2 or len(set(sides)) > 1 or not isinstance(sides[0], int) or sides[0] < 1:
        raise InputError(f"{source}: tiles are squares", got=f"Resize to {size}", expected="one whole number")
    return int(sides[0])
