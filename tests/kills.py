"""Runs that are killed before a chosen change that they would make to files, and then continued."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# Follows a program that defines `run(out, existing)` and may read `arguments`. All that Python does to files, renames
# among it, is announced to audit hooks, whatever the thread; the run kills itself before the nth such change.
HARNESS = """
import contextlib, importlib, os, signal

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


def child(function):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(function())
        finally:
            os._exit(99)
    return os.waitpid(pid, 0)[1]


def watched(out, kill_at, log):
    seen = []

    def hook(event, args):
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or event in CHANGES) or not str(args[0]).startswith(out):
            return
        seen.append(str(args[0]))
        if len(seen) == kill_at:
            os.write(log, f"{event} {args[0]}\\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    code = run(out, "refuse")
    Path(arguments["out"] + ".seen").write_text(json.dumps(seen))
    return code


def warm():
    code = run(arguments["out"] + "/warm", "refuse")
    Path(arguments["out"] + ".modules").write_text("\\n".join(sys.modules))
    return code


# What is imported before the fork is imported once. The run itself starts threads, which a fork would lose.
assert child(warm) == 0
for name in Path(arguments["out"] + ".modules").read_text().splitlines():
    if name not in sys.modules and "__main" not in name:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
reader, writer = os.pipe()
assert child(lambda: watched(arguments["out"] + "/whole", -1, writer)) == 0
seen = json.loads(Path(arguments["out"] + ".seen").read_text())
chosen = [number for number, path in enumerate(seen, start=1) if arguments["also_in"] and arguments["also_in"] in path]
points = [1 + int(share * len(seen)) for share in arguments["shares"]] + chosen[len(chosen) // 3 :][:2]
results = []
for number, point in enumerate(points):
    out = f"{arguments['out']}/killed_{number}"
    status = child(lambda: watched(out, point, writer))
    where = os.read(reader, 1000).decode().split()
    resumed = child(lambda: run(out, "resume"))
    results.append({"signal": os.WTERMSIG(status), "event": where[0], "path": where[-1], "resumed": resumed})
print(json.dumps(results))
"""


def kill_and_resume(
    program: str, out: Path, shares: list[float], *, also_in: str = "", **arguments: Any
) -> list[dict[str, Any]]:
    """Kill runs into `out`/killed_0 and so on at shares of all changes, and resume them; `out`/whole ran through.

    Two further runs are killed in changes of paths that contain `also_in`. All must have been killed, and resumed
    without an error.
    """
    out.mkdir()
    given = {**arguments, "out": str(out), "shares": shares, "also_in": also_in}
    start = "import json, sys\nfrom pathlib import Path\n\narguments = json.loads(sys.argv[1])\n"
    done = subprocess.run(
        [sys.executable, "-c", start + program + HARNESS, json.dumps(given)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(results) == len(shares) + 2 * bool(also_in)
    assert {result["signal"] for result in results} == {signal.SIGKILL}
    assert {result["resumed"] for result in results} == {0}, [r for r in results if r["resumed"]]
    return results
