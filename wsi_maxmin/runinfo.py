"""What a run was made with and where its time went: the facts of ``run.json``."""

import hashlib
import json
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from wsi_maxmin._version import __version__

RUN_FILE = "run.json"
SLIDES = "slides.csv"
FAILURES = "failures.log"
_LARGE = (".tif", ".tiff")
_STATM = Path("/proc/self/statm")
_SAMPLE_S = 0.05
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
    """Seconds spent in each named stage; any number of threads may add to them.

    A stage either takes its turn in the thread that leads the work, or is done on threads beside it: then its seconds
    are summed over them, and may be more than the wall clock shows. A pickled stopwatch starts anew: what is measured
    in another process does not come back.

    Attributes
    ----------
    seconds : dict of str to float
    summed : set of str
        Stages that are summed over threads.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.summed: set[str] = set()
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    def __reduce__(self) -> tuple[Any, ...]:
        return Stopwatch, ()

    @contextmanager
    def stage(self, name: str, *, summed: bool = False) -> Iterator[None]:
        """Add the time until the block ends to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start, summed=summed)

    def add(self, name: str, seconds: float, *, summed: bool = False) -> None:
        """Add time that was measured elsewhere."""
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            if summed:
                self.summed.add(name)

    def in_turn(self) -> dict[str, float]:
        """Return the stages that came one after the other."""
        return {name: seconds for name, seconds in self.seconds.items() if name not in self.summed}

    def beside(self) -> dict[str, float]:
        """Return the stages that are summed over threads."""
        return {name: seconds for name, seconds in self.seconds.items() if name in self.summed}

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
    with suppress(OSError):
        # Linux: the other figure begins with that of the process which this one was forked from.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def watching_memory() -> Iterator[Callable[[], int]]:
    """Hand out a function that returns the largest resident memory of this process since the block began.

    It is exact where the process has never had as much before; else the largest of 20 samples a second, since resetting
    the kernel's own mark would spoil it for whatever started the process. Where there is no ``/proc``, it is the peak
    of the process so far.
    """
    before, highest, ended = peak_memory_bytes(), _resident_bytes(), threading.Event()

    def sample() -> None:
        nonlocal highest
        while not ended.wait(_SAMPLE_S):
            highest = max(highest, _resident_bytes())

    def peak() -> int:
        now = peak_memory_bytes()
        return now if now > before else max(highest, _resident_bytes())

    sampler = threading.Thread(target=sample, name="memory", daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()


def _resident_bytes() -> int:
    if not _STATM.exists():
        return peak_memory_bytes()
    return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON; a file of that name is replaced only once the new one is whole."""
    write_text(path, json.dumps(values, indent=2, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text; a file of that name is replaced only once the new one is whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """Read JSON; None where there is no such file or it is not whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def command_of(folder: Path) -> str | None:
    """Return which command a folder's ``run.json`` is of; None where there is none."""
    settings = (read_json(folder / RUN_FILE) or {}).get("settings")
    return settings.get("command") if isinstance(settings, Mapping) else None


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


def size_px_of(facts: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height of a slide's level 0 as its run.json says, of infer-slide or stitch, else None."""
    slide = facts.get("slide") or (facts.get("source") or {}).get("slide") or {}
    if "size_px" not in slide:
        return None
    width, height = slide["size_px"]
    return int(width), int(height)
