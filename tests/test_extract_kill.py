"""A run that is killed at any moment and continued gives, byte for byte, what one that was never killed gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import contents
from tests.kills import kill_and_resume

POINTS = 20
PROGRAM = """
from wsi_maxmin.extract_inputs import ExtractInputs
from wsi_maxmin.extraction import ExtractSettings
from wsi_maxmin.pipelines.extract_patches import extract_patches

inputs = ExtractInputs(slides=[Path(path) for path in arguments["slides"]], annotations=Path(arguments["annotations"]))
settings = ExtractSettings(patch_px=64, store=arguments["store"], shard_patches=5)


def run(out, existing):
    return extract_patches(inputs, Path(out), settings=settings, existing=existing, workers=1).exit_code
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
    # The last share but one falls on the end of the run: table written, run not yet marked done.
    shares = [*np.random.default_rng(0).random(POINTS - 2).tolist(), 0.97, 0.999]
    results = kill_and_resume(PROGRAM, out, shares, slides=slides, annotations=str(tmp_path / "xml"), store=store)
    assert "os.rename" in {result["event"] for result in results}
    whole = contents(out / "whole")
    assert len(whole) > (30 if store == "files" else 10)
    for number, result in enumerate(results):
        assert contents(out / f"killed_{number}") == whole, result


SQUARE = [(192, 128), (312, 128), (312, 192), (192, 192)]
