"""Run programs in turn, each in a process of its own, and keep what they say of themselves."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers._venvs import last_line, python_of

HERE = Path(__file__).resolve().parent
LIMIT, OURS, PEER = "limit", "ours", "peer"
LONGEST_S = 3600


@dataclass(kw_only=True)
class Contender:
    """One row of a table: what to run, and what came of it.

    Attributes
    ----------
    name, kind : str
        Kind is one of `LIMIT`, `OURS` and `PEER`.
    command : tuple of str
        A script of `peers` and its arguments.
    venv : str or None
        Whose interpreter runs it; None is our own.
    against : str or None
        Name of the limit that it is compared with.
    rates : list of float
        Tiles a second, one a round.
    tiles, peak_mb, what, error
        What it said, memory of all its processes together, and why it did not run.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    venv: str | None = None
    against: str | None = None
    rates: list[float] = field(default_factory=list)
    tiles: int = 0
    peak_mb: float | None = None
    what: str = ""
    error: str = ""


def race(contenders: Sequence[Contender], arguments: argparse.Namespace, work: Path) -> None:
    """Run everybody once to warm up, then in turn; write into the contenders what came of it."""
    running = list(contenders)
    for turn in range(arguments.rounds + 1):
        for contender in list(running):
            said = run(contender, arguments.peers, work, sample=turn == 0)
            if said is None:
                running.remove(contender)
                continue
            once = turn == 0 and said["seconds"] > arguments.patience
            if turn or once:
                contender.rates.append(said["tiles"] / said["seconds"])
            if once:
                running.remove(contender)
            print(f"round {turn}: {contender.name}: {said['tiles'] / said['seconds']:.0f} tiles/s", flush=True)


def run(contender: Contender, peers: Path, work: Path, *, sample: bool) -> dict[str, Any] | None:
    """Run a contender once and return what it said; None, and its error, if it failed."""
    python = python_of(peers, contender.venv)
    if isinstance(python, str):
        contender.error = python
        return None
    out, errors = work / "out", work / "errors.txt"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()
    script, *arguments = contender.command
    command = [python, "-P", "-W", "ignore", HERE / script, *(a.replace("{out}", str(out)) for a in arguments)]
    own = {"PYTHONPATH": str(HERE.parents[1])}
    if contender.venv is not None:
        own = {"PYTHONPATH": "", "LD_LIBRARY_PATH": str(peers / contender.venv / "libs")}
    # Readers are compared in one thread; an extractor may use all that libvips takes.
    own |= {"VIPS_CONCURRENCY": "1"} if script == "read_tiles.py" else {}
    with errors.open("w") as file:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True, env=os.environ | own
        )
        try:
            deadline = time.monotonic() + LONGEST_S
            while sample and child.poll() is None and time.monotonic() < deadline:
                contender.peak_mb = max(contender.peak_mb or 0.0, memory_mb(child.pid))
                time.sleep(0.05)
            printed = child.communicate(timeout=max(deadline - time.monotonic(), 1))[0]
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            contender.error = f"still running after {LONGEST_S} s"
            return None
        finally:
            shutil.rmtree(out, ignore_errors=True)
    if child.returncode:
        contender.error = last_line(errors.read_text(errors="replace"))
        return None
    said: dict[str, Any] = json.loads(printed.splitlines()[-1])
    contender.tiles, contender.what = said["tiles"], said["what"]
    return said


def memory_mb(session: int) -> float:
    """Return the memory of all processes of a session, shared pages counted once (Linux; elsewhere 0)."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                rollup = (stat.parent / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration, IndexError):
            continue
    return total / 1000
