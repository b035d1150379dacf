"""An inference that is killed at any moment and continued gives, byte for byte, what one that ran through gives."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import contents
from tests.kills import kill_and_resume
from wsi_maxmin.assets import DEMO_MODEL, DEMO_SLIDE

POINTS = 20
# Of the bundled model: few on four tiles, or as many as asked for on all tiles of the bundled slide.
POINTS_ASKED = int(os.environ.get("WSI_MAXMIN_KILLS", "0"))
FEW: dict[str, Any] = {"overlap": 0.0, "region": [5200, 5200, 800, 800], "engine": "torch"}
ALL: dict[str, Any] = {"overlap": 0.5, "region": None, "engine": "openvino"}
PROGRAM = """
import torch
from wsi_maxmin.geometry import Box
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide

torch.set_num_threads(1)
slides = [Path(arguments["slide"])]
region = arguments.get("region")
settings = InferSettings(
    model=arguments["model"],
    engine=arguments.get("engine", "torch"),
    precision="fp32",
    overlap=arguments.get("overlap", 0.5),
    region=region and Box(x=region[0], y=region[1], width=region[2], height=region[3]),
)


def run(out, existing):
    return infer_slide(slides, Path(out), settings=settings, existing=existing, device="cpu").exit_code
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
    slide, out = write_pyramid(tmp_path / "slide.tif", levels), tmp_path / "out"
    # The last ones fall on the end of the run: picture drawn, slide done, run not yet marked done. Few of the changes
    # are made while the model runs: two of those are chosen.
    shares = [*np.random.default_rng(0).random(POINTS - 5).tolist(), 0.94, 0.97, 0.995]
    results = kill_and_resume(PROGRAM, out, shares, also_in="/tilemaps.zarr/", slide=str(slide), model=str(tiny_model))
    assert len(results) == POINTS
    killed_in = {part for result in results for part in Path(result["path"]).relative_to(out).parts}
    assert {"tilemaps.zarr", ".heatmap.ome.zarr.partial"} <= killed_in
    whole = contents(out / "whole")
    assert len(whole) > 30
    for number, result in enumerate(results):
        assert contents(out / f"killed_{number}") == whole, result


@pytest.mark.slow
@pytest.mark.timeout(7200 if POINTS_ASKED else 600)
def test_the_bundled_model_killed_anywhere_and_resumed_is_the_same_to_the_byte(tmp_path: Path) -> None:
    out, given = tmp_path / "out", ALL if POINTS_ASKED else FEW
    shares = np.random.default_rng(1).random(POINTS_ASKED or 1).tolist()
    results = kill_and_resume(
        PROGRAM, out, shares, also_in="/tilemaps.zarr/", slide=str(DEMO_SLIDE), model=DEMO_MODEL, **given
    )
    whole = contents(out / "whole")
    assert len(whole) > 30
    for number, result in enumerate(results):
        assert contents(out / f"killed_{number}") == whole, result
