"""The built wheel: installed elsewhere it holds what it needs, and its demo runs."""

import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from wsi_maxmin import __version__

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_is_small_and_holds_real_files_of_the_linked_folders(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.stat().st_size < 20e6
    assert "wsi_maxmin/pipelines/demo.py" in names
    assert "wsi_maxmin/configs/camelyon16-demo/maxmin-sem.yaml" in names
    assert "wsi_maxmin/configs/datasets/glas.yaml" in names
    assert "wsi_maxmin/paper/table1.yaml" in names
    assert "wsi_maxmin/assets/camelyon16-demo.safetensors" in names
    assert "wsi_maxmin/py.typed" in names
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "wsi_maxmin/viewer/page").rglob("*") if path.is_file()}
    page |= {f"wsi_maxmin/reports/page/{path.name}" for path in (ROOT / "wsi_maxmin/reports/page").iterdir()}
    assert page <= set(names)
    assert {
        "wsi_maxmin/viewer/page/openseadragon/LICENSE.txt",
        "wsi_maxmin/viewer/page/js/slide.js",
        "wsi_maxmin/reports/page/page.html",
    } <= page
    assert {name.split("/")[0] for name in names} == {"wsi_maxmin", f"wsi_maxmin-{__version__}.dist-info"}


@pytest.mark.slow
def test_the_demo_runs_from_a_wheel_installed_elsewhere(wheel, tmp_path):
    """Dependencies come from this environment through a path file, wsi_maxmin from the wheel alone."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True, capture_output=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    where = subprocess.run(
        [python, "-c", "import wsi_maxmin; print(wsi_maxmin.__file__)"], cwd=tmp_path, capture_output=True, text=True
    )
    assert str(tmp_path) in where.stdout
    command = [tmp_path / "venv" / "bin" / "wsi-maxmin", "demo", "--out", "demo", "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Dice" in done.stdout
    assert (tmp_path / "demo" / "heatmaps" / "tumor_001_region" / "overview.png").is_file()


def test_the_linked_folders_are_relative_links():
    for name in ("pipelines", "configs"):
        link = ROOT / "wsi_maxmin" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name
