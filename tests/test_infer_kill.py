"""An inference that is killed at any moment and continued gives, byte for byte, what one that ran through gives."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import contents

POINTS = 20
# Runs and kills itself before the nth change that it would make below the output folder; all that Python does to files
# is announced to audit hooks, whatever the thread.
PROGRAM = """
import json, os, signal, sys

arguments = json.loads(sys.argv[1])
from pathlib import Path
import torch
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide

torch.set_num_threads(1)
slides = [Path(arguments["slide"])]
settings = InferSettings(model=arguments["model"], engine="torch", precision="fp32")
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


def run(out, existing):
    return infer_slide(slides, Path(out), settings=settings, existing=existing, device="cpu").exit_code


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


whole = arguments["out"] + "/whole"
reader, writer = os.pipe()
assert child(lambda: watched(whole, -1, writer)) == 0
seen = json.loads(Path(arguments["out"] + ".seen").read_text())
# Few of the changes are made while the model runs: two of those, besides the ones drawn.
running = [number for number, path in enumerate(seen, start=1) if "/tilemaps.zarr/" in path]
points = [1 + int(share * len(seen)) for share in arguments["shares"]] + running[len(running) // 3 :][:2]
results = []
for number, point in enumerate(points):
    out = f"{arguments['out']}/killed_{number}"
    status = child(lambda: watched(out, point, writer))
    where = os.read(reader, 1000).decode().split()
    resumed = child(lambda: run(out, "resume"))
    results.append({"signal": os.WTERMSIG(status), "event": where[0], "path": where[-1], "resumed": resumed})
print(json.dumps({"results": results}))
"""


@pytest.mark.slow
def test_killed_anywhere_and_resumed_is_the_same_to_the_byte(
    tmp_path: Path,
    tiny_model: Path,
    stained: Callable[..., np.ndarray],
    make_pyramid: Callable[..., list[np.ndarray]],
    write_pyramid: Callable[..., Path],
) -> None:
    levels = make_pyramid(stained(700, 500, (128, 64, 448, 320)), 3)
    slide = write_pyramid(tmp_path / "slide.tif", levels)
    out = tmp_path / "out"
    out.mkdir()
    # The last ones fall on the end of the run: pictures drawn, slides done, run not yet marked done.
    shares = [*np.random.default_rng(0).random(POINTS - 5).tolist(), 0.94, 0.97, 0.995]
    arguments = {"slide": str(slide), "model": str(tiny_model), "out": str(out), "shares": shares}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["results"]) == POINTS
    assert {result["signal"] for result in report["results"]} == {signal.SIGKILL}
    assert {result["resumed"] for result in report["results"]} == {0}, [r for r in report["results"] if r["resumed"]]
    killed_in = {part for result in report["results"] for part in Path(result["path"]).relative_to(out).parts}
    assert {"tilemaps.zarr", ".heatmap.ome.zarr.partial"} <= killed_in
    whole = contents(out / "whole")
    assert len(whole) > 30
    for number, result in enumerate(report["results"]):
        assert contents(out / f"killed_{number}") == whole, result
