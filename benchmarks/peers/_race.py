"""Run programs in turn, each in a process of its own, and keep what they say of themselves."""

import argparse
import contextlib
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
            said = run(contender, arguments.peers, work, sample_s=0.05 if turn == 0 else None)
            if said is None:
                running.remove(contender)
                continue
            once = turn == 0 and said["seconds"] > arguments.patience
            if turn or once:
                contender.rates.append(said["tiles"] / said["seconds"])
            if once:
                running.remove(contender)
            print(f"round {turn}: {contender.name}: {said['tiles'] / said['seconds']:.0f} tiles/s", flush=True)


def run(contender: Contender, peers: Path, work: Path, *, sample_s: float | None) -> dict[str, Any] | None:
    """Run a contender once and return what it said and `wall`, its seconds from start to end.

    None, and its error, if it failed. Its memory is looked at every `sample_s` seconds, or not at all.
    """
    python = python_of(peers, contender.venv)
    if isinstance(python, str):
        contender.error = python
        return None
    out, errors, lines = work / "out", work / "errors.txt", work / "said.txt"
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
    with errors.open("w") as bad, lines.open("w") as good:
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=good, stderr=bad, start_new_session=True, env=os.environ | own)
        try:
            deadline = start + LONGEST_S
            while sample_s and child.poll() is None and time.monotonic() < deadline:
                contender.peak_mb = max(contender.peak_mb or 0.0, memory_mb(child.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(sample_s)
            child.wait(timeout=max(deadline - time.monotonic(), 1))
            wall = time.monotonic() - start
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
    said: dict[str, Any] = {"wall": wall} | json.loads(lines.read_text(errors="replace").splitlines()[-1])
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
