"""A run that is killed at any moment and continued gives, byte for byte, what one that was never killed gives."""

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
# Runs the extraction and kills itself before the nth change that it would make below the output folder. Every change of
# files that Python makes is announced to audit hooks, renames among them.
PROGRAM = """
import json, os, signal, sys

arguments = json.loads(sys.argv[1])
from pathlib import Path
from wsi_maxmin.extract_inputs import ExtractInputs
from wsi_maxmin.extraction import ExtractSettings
from wsi_maxmin.pipelines.extract_patches import extract_patches

inputs = ExtractInputs(slides=[Path(path) for path in arguments["slides"]], annotations=Path(arguments["annotations"]))
settings = ExtractSettings(patch_px=64, store=arguments["store"], shard_patches=5)
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


def run(out, existing):
    return extract_patches(inputs, Path(out), settings=settings, existing=existing, workers=1).exit_code


def child(function):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(function())
        finally:
            os._exit(99)
    return os.waitpid(pid, 0)[1]


def watched(out, kill_at, log):
    seen = 0

    def hook(event, args):
        nonlocal seen
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or event in CHANGES) or not str(args[0]).startswith(out):
            return
        seen += 1
        if seen == kill_at:
            os.write(log, f"{event} {args[0]}\\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    code = run(out, "refuse")
    os.write(log, f"{seen}\\n".encode())
    return code


# What is imported before the fork is imported once.
child(lambda: run(arguments["out"] + "/warm", "refuse"))
whole = arguments["out"] + "/whole"
reader, writer = os.pipe()
assert child(lambda: watched(whole, -1, writer)) == 0
total = int(os.read(reader, 1000))
results = []
for number, share in enumerate(arguments["shares"]):
    out = f"{arguments['out']}/killed_{number}"
    status = child(lambda: watched(out, 1 + int(share * total), writer))
    where = os.read(reader, 1000).decode().split()
    # Killed before the first file was written, a run is not there to be resumed, and none is needed.
    resumed = child(lambda: run(out, "resume"))
    results.append({"signal": os.WTERMSIG(status), "event": where[0], "path": where[1], "resumed": resumed})
print(json.dumps({"total": total, "results": results}))
"""


@pytest.mark.parametrize("store", ["files", "shard"])
def test_killed_anywhere_and_resumed_is_the_same_to_the_byte(
    tmp_path: Path,
    store: str,
    stained: Callable[..., np.ndarray],
    make_pyramid: Callable[..., list[np.ndarray]],
    write_pyramid: Callable[..., Path],
) -> None:
    slides = []
    for seed, name in enumerate(("a", "b")):
        levels = make_pyramid(stained(512, 384, (128, 64, 256, 192), seed=seed), 2)
        slides.append(str(write_pyramid(tmp_path / f"{name}.tif", levels, 2.0)))
    corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(SQUARE))
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "a.xml").write_text(
        '<ASAP_Annotations><Annotations><Annotation Name="A" Type="Polygon" PartOfGroup="Tumor">'
        f"<Coordinates>{corners}</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    )
    out = tmp_path / "out"
    out.mkdir()
    # The last share but one falls on the end of the run: table written, run not yet marked done.
    shares = [*np.random.default_rng(0).random(POINTS - 2).tolist(), 0.97, 0.999]
    arguments = {"slides": slides, "annotations": str(tmp_path / "xml"), "out": str(out), "store": store}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps({**arguments, "shares": shares})],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {result["signal"] for result in report["results"]} == {signal.SIGKILL}
    assert {result["resumed"] for result in report["results"]} == {0}, [r for r in report["results"] if r["resumed"]]
    assert "os.rename" in {result["event"] for result in report["results"]}
    whole = contents(out / "whole")
    assert len(whole) > (30 if store == "files" else 10)
    for number, result in enumerate(report["results"]):
        assert contents(out / f"killed_{number}") == whole, result


SQUARE = [(192, 128), (312, 128), (312, 192), (192, 192)]
