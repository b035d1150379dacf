"""The virtual environments of the programs that the benchmarks compare with: what is installed in each, and how."""

import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

HOME = Path.home() / ".cache" / "wsi-maxmin-peers"
_TORCH = ["torch==2.14.1", "torchvision==0.29.1"]
# TIAToolbox pins an older torch than the other programs are run with: so it goes in alone, and these beside it.
_TIATOOLBOX = [
    "numpy<2.4.4",
    "opencv-python<5",
    "openslide-python<1.4.6",
    "openslide-bin<4.0.1.2",
    "pandas<3.0.3",
    "scikit-image<0.26.1",
    "scikit-learn<1.9",
    "scipy<1.17.1",
    "shapely<=2.1.2",
    "tifffile<2026.3.3",
    "imagecodecs<2026.3.6",
    "zarr<3.2",
    "glymur<0.14.8",
    "wsidicom<0.34",
    "pydicom<3.0.2",
    "joblib",
    "pyyaml",
    "requests",
    "tqdm<4.69",
    "pillow<12.2",
    "timm",
    "dask<2026.7.1",
    "aiohttp",
    "numba",
    "umap-learn",
    "matplotlib<3.11.1",
    "filelock",
    "huggingface_hub<1.24",
    "transformers<5.14.1",
    "SimpleITK",
    "defusedxml",
    "click<8.4.2",
    "s3fs",
    "psutil",
]

# Each inner list is one call of pip.
INSTALLS: dict[str, list[list[str]]] = {
    "cucim": [["cucim-cu12==26.10.0"]],
    "dlup": [["dlup==0.9.4", "openslide-python", "openslide-bin"]],
    # openslide-python 1.3, which histolab asks for, brings no library and does not find that of openslide-bin.
    "histolab": [["histolab==0.7.0"], ["--no-deps", "openslide-python==1.4.7", "openslide-bin"]],
    # PyTurboJPEG wants a libturbojpeg 2 in `<venv>/libs` or of the system; without, hs2p encodes with Pillow.
    "hs2p": [
        ["hs2p==6.1.0", "pyvips", "pyvips-binary", "openslide-python", "openslide-bin", "cucim-cu12", "PyTurboJPEG<2"]
    ],
    "lazyslide": [_TORCH, ["lazyslide==0.13.0", *_TORCH]],
    "pyvips": [["pyvips", "pyvips-binary", "numpy"]],
    "tiatoolbox": [_TORCH, ["--no-deps", "tiatoolbox==2.1.3"], _TIATOOLBOX],
    "tiffslide": [["tiffslide"]],
    # wsi-patching 0.5.5 does not import without torch, though it does not ask for it.
    "wsi-patching": [["wsi-patching==0.5.5", *_TORCH]],
    # wsinfer 0.6.1 does not import with the zarr 3 that it lets in.
    "wsinfer": [_TORCH, ["wsinfer==0.6.1", "zarr<3", "tiffslide<3", "openslide-python", "openslide-bin", *_TORCH]],
}
INFERRING = ("wsinfer", "tiatoolbox")
EXTRACTING = tuple(name for name in INSTALLS if name != "wsinfer")
_NAMED = ("cucim-cu12", "fastslide", "openslide-python", "pyvips-binary", "tifffile", "torch", "wsidata")
_ERROR = "install-error.txt"


def install(folder: Path, names: Iterable[str]) -> None:
    """Make the environments that are not there yet; keep the last line of what goes wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        home = folder / name
        if (home / "bin").exists() and not (home / _ERROR).exists():
            continue
        print(f"installing {name}", flush=True)
        venv.create(home, with_pip=True)
        (home / _ERROR).unlink(missing_ok=True)
        for packages in INSTALLS[name]:
            command = [home / "bin" / "python", "-m", "pip", "install", "-q", *packages]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                (home / _ERROR).write_text(last_line(done.stderr), encoding="utf-8")
                break


def python_of(folder: Path, name: str | None) -> Path | str:
    """Return the interpreter of a peer, our own for None; or, as str, why there is none."""
    if name is None:
        return Path(sys.executable)
    error = folder / name / _ERROR
    if error.exists():
        return f"not installed: {error.read_text(encoding='utf-8')}"
    python = folder / name / "bin" / "python"
    return python if python.exists() else "not installed; see --install-peers"


def version_of(folder: Path, name: str) -> dict[str, str]:
    """Return the versions of a peer and of the readers beside it."""
    python = python_of(folder, name)
    if isinstance(python, str):
        return {}
    names = [name, *_NAMED]
    code = (
        "import sys; from importlib.metadata import distributions as all\n"
        "[print(d.metadata['Name'].lower(), d.version) for d in all() if d.metadata['Name'].lower() in sys.argv[1:]]"
    )
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=False)
    return dict(line.split() for line in sorted(done.stdout.splitlines()))


def last_line(text: str) -> str:
    """Return the last line that says something, without the names of folders of this machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].replace(str(Path.home()), "~")[:200] if lines else "no message"
