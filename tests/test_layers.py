"""Imports point one way, and nothing heavy is loaded before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wsi_maxmin

ROOT = Path(wsi_maxmin.__file__).parent
# Behind a link, where `rglob` does not go by itself.
PIPELINES = (ROOT / "pipelines").rglob("*.py")
FILES = sorted(path for path in {*ROOT.rglob("*.py"), *PIPELINES} if "configs" not in path.parts)

ONLY_IN = {
    "torch": (
        "figures",
        "models",
        "losses",
        "data",
        "training",
        "checkpoint",
        "engines",
        "device",
        "pipelines",
        "export_model",
    ),
    "torchvision": ("data",),
    "timm": ("models",),
    "safetensors": ("checkpoint", "models"),
    "dask": ("stitching", "sinks", "pipelines"),
    "distributed": ("pipelines",),
    "openslide": ("readers",),
    "tifffile": ("annotations", "exports", "readers"),
    "imagecodecs": ("formats", "readers"),
    "click": ("cli",),
    "rich": ("cli",),
    "matplotlib": ("exports", "figures", "sinks"),
    "jinja2": ("reports",),
    "napari": ("viewer",),
}
BELOW_CONFIG = ("geometry", "grids", "errors", "_version", "_plugins", "_strict", "_layers")


def part_of(path):
    """Name the top-level module or folder that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def own_parts(path):
    names = (name.split(".") for name in imports_of(path) if name.startswith("wsi_maxmin."))
    return {parts[1] for parts in names}


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_only_where_it_belongs(library):
    users = {part_of(path) for path in FILES if any(name.split(".")[0] == library for name in imports_of(path))}
    assert users, f"nothing imports {library} any more"
    assert users <= set(ONLY_IN[library])


def test_geometry_and_errors_import_nothing_of_ours_but_each_other():
    for path in FILES:
        if part_of(path) in BELOW_CONFIG:
            assert own_parts(path) <= set(BELOW_CONFIG), path
        if part_of(path) == "config":
            assert own_parts(path) <= {*BELOW_CONFIG, "config"}, path


def test_only_the_command_line_imports_pipelines_and_nothing_imports_the_command_line():
    for path in FILES:
        if part_of(path) not in ("cli", "pipelines", "__main__"):
            assert not own_parts(path) & {"cli", "pipelines"}, path
        if part_of(path) == "pipelines":
            assert "cli" not in own_parts(path), path


def test_no_module_is_longer_than_250_lines():
    long = {path.name: count for path in FILES if (count := len(path.read_text().splitlines())) > 250}
    assert not long


@pytest.mark.parametrize("program", ["import wsi_maxmin", "from wsi_maxmin.cli import main; main()"])
def test_the_package_and_its_help_load_nothing_heavy(program):
    script = f"""
import sys
sys.argv = ["wsi-maxmin", "--help"]
try:
    {program}
except SystemExit:
    pass
print([name for name in ("torch", "openslide", "dask", "distributed", "matplotlib", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_public_name_is_there():
    assert len(wsi_maxmin.__all__) <= 12
    for name in wsi_maxmin.__all__:
        assert getattr(wsi_maxmin, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        wsi_maxmin.nonsense  # noqa: B018
