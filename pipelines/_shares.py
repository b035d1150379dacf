"""What goes between a run and its workers: names, paths and numbers. Pixels and maps go over the file system."""

import json
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch
from upath import UPath

from wsi_maxmin._version import __version__
from wsi_maxmin.device import pick_device
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._job import Job
from wsi_maxmin.readers import Reader

HOST = platform.node()


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What must be the same on every worker.

    Attributes
    ----------
    device : str
        As `pick_device` takes it, or as it gave it.
    torch_threads : int or None
        None leaves what the worker was started with.
    versions : tuple of (str, str)
        Of `versions`.
    """

    device: str
    torch_threads: int | None
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def of_this_run(cls, device: str, torch_threads: int | None = None) -> "Worker":
        """Return a worker that has the versions of this process."""
        return cls(device=device, torch_threads=torch_threads, versions=versions())

    def prepare(self) -> torch.device:
        """Make this process such a worker; return its device.

        Raises
        ------
        InputError
            If it has other versions, or no such device.
        """
        if differing := sorted(set(versions()) ^ set(self.versions)):
            name = differing[0][0]
            raise InputError(
                f"a worker has another version of {name}",
                got=f"{dict(versions())[name]} on {HOST}",
                expected=dict(self.versions)[name],
                remedy="install the same versions everywhere",
            )
        if self.torch_threads is not None:
            torch.set_num_threads(self.torch_threads)
        try:
            return pick_device(self.device)
        except InputError as error:
            raise InputError(f"a worker on {HOST} cannot take part: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A slide as any machine can open it.

    Attributes
    ----------
    path : Path or UPath
        Absolute.
    reader : str
    slide_mpp : float or None
    slide_id : str
    """

    path: Path | UPath
    reader: str
    slide_mpp: float | None
    slide_id: str

    @classmethod
    def of(cls, slide: Reader) -> "Source":
        """Describe an open slide."""
        info = slide.info
        path = info.path.absolute() if isinstance(info.path, Path) else info.path
        return cls(path=path, reader=info.reader, slide_mpp=info.mpp, slide_id=info.slide_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Some chunks of the tile maps of a slide, for one worker to compute.

    Attributes
    ----------
    job : Job
    worker : Worker
    source : Source
    fingerprint : str
        Of the slide, by `fingerprint`.
    maps : Path
        Absolute.
    chunks : tuple of range
        Tiles of each chunk. No chunk is in two shares, so no two workers write to one file.
    """

    # dask logs arguments where a task fails, and a slide's name may be what nobody should read.
    job: Job = field(repr=False)
    worker: Worker
    source: Source = field(repr=False)
    fingerprint: str = field(repr=False)
    maps: Path = field(repr=False)
    chunks: tuple[range, ...]

    def begin(self) -> None:
        """Note that a worker begins with it, where a run that finds it dead can read that."""
        with self._note.open("ab") as file:
            file.write(b".")

    def begun(self) -> int:
        """Return how many workers have begun with it."""
        return self._note.stat().st_size if self._note.exists() else 0

    @property
    def _note(self) -> Path:
        return self.maps / f".share-{self.chunks[0].start}.partial"  # `TileMaps.tidy` removes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a worker says of a share: numbers alone.

    Attributes
    ----------
    tiles : int
    seconds : dict of str to float
        See `Stopwatch`.
    """

    tiles: int
    seconds: dict[str, float]


def versions() -> tuple[tuple[str, str], ...]:
    """Return what must be the same everywhere; of torch without the device that it was built for."""
    return ("wsi-maxmin", __version__), ("torch", torch.__version__.partition("+")[0])


def fingerprint(slide: Reader) -> str:
    """Return what tells a slide's file from another of its name."""
    return json.dumps(slide.fingerprint(), sort_keys=True)
