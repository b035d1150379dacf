"""What a run was made with and where its time went: the facts of ``run.json``."""

import hashlib
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from wsi_maxmin._version import __version__

RUN_FILE = "run.json"
_LARGE = (".tif", ".tiff")
_PACKAGES = (
    "numpy",
    "torch",
    "torchvision",
    "timm",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "imagecodecs",
    "isal",
    "pillow",
    "zarr",
    "dask",
    "scikit-image",
)


class Stopwatch:
    """Seconds spent in each named stage of one thread; stages of different threads overlap and are told apart.

    Attributes
    ----------
    seconds : dict of str to float
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time until the block ends to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add time that was measured elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @property
    def elapsed(self) -> float:
        """Seconds since this stopwatch was made."""
        return time.perf_counter() - self._start


def environment() -> dict[str, Any]:
    """Versions of what decides a result, the platform, and the commit of a development checkout."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "wsi_maxmin": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "commit": _commit(),
    }


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON; a file of that name is replaced only once the new one is whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read JSON; None where there is no such file or it is not whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def digest(path: Path | None) -> str | None:
    """Return what tells one version of a file from another, without its time; None without a file."""
    if path is None or not path.is_file():
        return None
    if path.suffix.lower() in _LARGE:
        # A mask may be as large as a slide: its size tells enough.
        return f"{path.stat().st_size} bytes"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
