"""What ships with the package: a real piece of a Camelyon16 slide, its annotation, and the demonstration model."""

from pathlib import Path

from wsi_maxmin.errors import InputError

ASSETS = Path(__file__).parent
DEMO_SLIDE = ASSETS / "tumor_001_region.tif"
DEMO_ANNOTATION = ASSETS / "tumor_001_region.xml"
DEMO_VALID = ASSETS / "tumor_001_region_valid.png"
DEMO_MODEL = "camelyon16-demo"


def model_names() -> list[str]:
    """Names of the bundled models."""
    return sorted(path.stem for path in ASSETS.glob("*.safetensors"))


def find_model(name_or_path: str) -> Path:
    """Return the file that a bundled name or a path stands for.

    A run folder stands for its best model, a folder of WSInfer for its TorchScript.

    Raises
    ------
    InputError
        If there is none.
    """
    path = Path(name_or_path)
    for candidate in (
        path,
        path / "model.safetensors",
        path / "torchscript_model.pt",
        ASSETS / f"{name_or_path}.safetensors",
    ):
        if candidate.is_file():
            return candidate
    raise InputError(
        "no such model",
        got=name_or_path,
        expected=f"the path of a .safetensors or TorchScript file, a run folder, or one of {', '.join(model_names())}",
    )


def model_card(name: str) -> Path:
    """Return the card of a bundled model: what it learnt from, under which licences, and how well it does."""
    return ASSETS / f"{name}.md"
