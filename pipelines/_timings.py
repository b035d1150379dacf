"""Where the time of a slide went: what is kept of it in ``run.json``, and how it is said."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wsi_maxmin.engines._base import DeviceTimes, Meter
from wsi_maxmin.runinfo import RUN_FILE, Stopwatch, read_json, watching_memory

_WHILE_TILES = ("wait for tiles", "model", "wait for writing", "windows", "workers")


class Measurement:
    """What is measured while a slide is worked on.

    Attributes
    ----------
    watch : Stopwatch
        Its stages in turn add up to the time of the slide, but for moments between them.
    tiles : int
        Those that this run computed.
    by_workers : bool
        Whether other processes computed them, whose devices are not watched.
    """

    def __init__(self, device: torch.device, peak: Callable[[], int]) -> None:
        self.watch = Stopwatch()
        self.tiles = 0
        self.by_workers = False
        self._device, self._peak = device, peak
        self._computing = DeviceTimes(0.0, 0.0)

    @contextmanager
    def running(self, meter: Meter) -> Iterator[None]:
        """Take what the engine's device does in the block for this slide's."""
        before = meter.read()
        try:
            yield
        finally:
            after = meter.read()
            self._computing = DeviceTimes(after.computing - before.computing, after.transfer - before.transfer)

    @property
    def device_busy_share(self) -> float | None:
        """Time in which the device computed, by the time of the slide from opening it to its picture.

        On a GPU that is between the first kernel of a batch and its last; on a CPU, while some tile was in the engine.
        If slides share a device at once, what it does for others counts too: it is busy. None where workers computed.
        """
        if self.by_workers:
            return None
        return min(self._computing.computing / self.watch.elapsed, 1.0)

    @property
    def tiles_per_second(self) -> float:
        """Tiles by the time from the first read to the last output written."""
        return self.tiles / max(_seconds_of_tiles(self.watch.in_turn()), 1e-9)

    def facts(self) -> dict[str, Any]:
        """Return what ``run.json`` keeps."""
        busy = self.device_busy_share
        on_device = {} if busy is None else {"computing": self._computing.computing}
        if on_device and self._device.type == "cuda":
            on_device["transfer"] = self._computing.transfer
        return {
            "tiles_run": self.tiles,
            "elapsed_seconds": round(self.watch.elapsed, 3),
            "tiles_per_second": round(self.tiles_per_second, 3),
            "device_busy_share": None if busy is None else round(busy, 4),
            "timings": {
                "in_turn": _rounded(self.watch.in_turn()),
                "summed_over_threads": _rounded(self.watch.beside()),
                "on_device": _rounded(on_device),
            },
            "peak_memory_bytes": {
                "host": self._peak(),
                "device": torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None,
            },
        }


@contextmanager
def measuring(device: torch.device) -> Iterator[Measurement]:
    """Measure a slide; peaks of memory are of the process and device while the block runs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with watching_memory() as peak:
        yield Measurement(device, peak)


def describe(name: str, facts: Mapping[str, Any]) -> str:
    """Return three lines that say where the time of a slide went."""
    timings, memory, busy = facts["timings"], facts["peak_memory_bytes"], facts["device_busy_share"]
    transfer = timings.get("on_device", {}).get("transfer")
    peaks = f"peak memory {memory['host'] / 2**30:.2f} GiB"
    if memory["device"] is not None:
        peaks += f", of the device {memory['device'] / 2**30:.2f} GiB"
    return "\n".join(
        (
            f"{name}: {facts['elapsed_seconds']:.1f} s; {facts['tiles_run']} tiles, {facts['tiles_per_second']:.1f}"
            f" tiles/s{'' if busy is None else f', device busy {busy:.0%}'}; {peaks}",
            f"  in turn: {_listed(timings['in_turn'])} s",
            f"  meanwhile, summed over threads: {_listed(timings['summed_over_threads'])} s"
            + ("" if transfer is None else f"; to and from the device {transfer:.1f} s"),
        )
    )


def totals(folders: Iterable[Path]) -> dict[str, Any]:
    """Add up what ``run.json`` keeps of slides."""
    kept = [facts for folder in folders if "timings" in (facts := read_json(folder / RUN_FILE) or {})]
    elapsed, tiles = sum(facts["elapsed_seconds"] for facts in kept), sum(facts["tiles_run"] for facts in kept)
    summed: dict[str, dict[str, float]] = {}
    for facts in kept:
        for kind, stages in facts["timings"].items():
            for stage, seconds in stages.items():
                within = summed.setdefault(kind, {})
                within[stage] = within.get(stage, 0.0) + seconds
    watched = [stages["computing"] for facts in kept if (stages := facts["timings"]["on_device"])]
    busy = round(min(sum(watched) / max(elapsed, 1e-9), 1.0), 4) if len(watched) == len(kept) else None
    tile_seconds = _seconds_of_tiles(summed.get("in_turn", {}))
    return {
        "slides": len(kept),
        "tiles_run": tiles,
        "elapsed_seconds": round(elapsed, 3),
        "tiles_per_second": round(tiles / max(tile_seconds, 1e-9), 3),
        "device_busy_share": busy,
        "timings": {kind: _rounded(stages) for kind, stages in summed.items()},
        "peak_memory_bytes": {
            where: max(
                (peak for facts in kept if (peak := facts["peak_memory_bytes"][where]) is not None), default=None
            )
            for where in ("host", "device")
        },
    }


def _seconds_of_tiles(in_turn: Mapping[str, float]) -> float:
    """Return the time from the first read to the last output written, in this process or by workers."""
    return sum(in_turn.get(stage, 0.0) for stage in _WHILE_TILES)


def _rounded(stages: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(seconds, 3) for stage, seconds in stages.items()}


def _listed(stages: Mapping[str, float]) -> str:
    return ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items())
