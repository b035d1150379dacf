"""What goes wrong on disks: each slide ends with one line, the others are done, and a resumed run mends it."""

import errno
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.conftest import contents
from tests.test_extract_options import Listener
from wsi_maxmin.cohort import CohortResult, Existing
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines import _one_slide as one_slide
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide, slide_result
from wsi_maxmin.pipelines.stitch import MapSettings, stitch_results
from wsi_maxmin.readers import open_slide

pytestmark = pytest.mark.usefixtures("one_thread")

READERS = ("tiff", "openslide")
TISSUE = (64, 64, 384, 256)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing, which takes longer than all else here."""
    monkeypatch.setattr(one_slide.picture, "write", lambda *_, **__: None)


@pytest.fixture
def settings(tiny_model: Path) -> InferSettings:
    return InferSettings(model=str(tiny_model), overlap=0.0, engine="torch", precision="fp32")


@pytest.fixture
def victim(tmp_path: Path, stained: Callable[..., np.ndarray], make_pyramid: Callable[..., Any]) -> Path:
    """Return a slide in JPEG tiles; beside it lies another."""
    for seed, name in enumerate(("victim", "other")):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as tiff:
            for index, pixels in enumerate(make_pyramid(stained(512, 384, TISSUE, seed=seed), 2)):
                tiff.write(
                    pixels,
                    photometric="ycbcr",
                    tile=(64, 64),
                    compression="jpeg",
                    subfiletype=int(index > 0),
                    resolution=(4e4 / 2**index, 4e4 / 2**index),
                    resolutionunit="CENTIMETER",
                    metadata=None,
                )
    return tmp_path / "victim.tif"


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let slides be opened by one reader."""
    monkeypatch.setattr("wsi_maxmin.readers._choice.choose_reader", lambda _: request.param)
    return str(request.param)


def infer(victim: Path, out: Path, settings: InferSettings, existing: Existing = "refuse", **how: Any) -> CohortResult:
    slides = [victim, victim.with_name("other.tif")]
    return infer_slide(slides, out, settings=settings, existing=existing, device="cpu", **how)


def failed_alone(result: CohortResult, *said: str) -> str:
    """Check that the victim failed, in one line and everywhere, and that the other slide is done; return the line."""
    first, second = result.outcomes
    assert (first.status, second.status, result.exit_code) == ("failed", "done", 1)
    assert "\n" not in first.why
    for words in said:
        assert words in first.why
    run = json.loads((result.out / "run.json").read_text())
    assert run["status"] == "failed"
    assert {slide["slide_id"]: slide["status"] for slide in run["slides"]} == {"victim": "failed", "other": "done"}
    with pytest.raises(InputError, match="victim has no finished result"):
        slide_result(result.out, "victim")
    return first.why


def mended(victim: Path, result: CohortResult, settings: InferSettings, tmp_path: Path) -> None:
    """Check that a resumed run ends as one in which nothing went wrong."""
    resumed = infer(victim, result.out, settings, "resume")
    assert [outcome.status for outcome in resumed.outcomes] == ["done", "skipped"]
    infer(victim, tmp_path / "whole", settings)
    for name in ("victim", "other"):
        assert contents(result.out / name) == contents(tmp_path / "whole" / name)


def tile_of(path: Path) -> tuple[int, int]:
    """Return offset and count of the bytes of a tile in the tissue."""
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages[0].dataoffsets[2 * 8 + 3], tiff.pages[0].databytecounts[2 * 8 + 3]


def overwrite(path: Path, start: int, data: bytes) -> None:
    """Change bytes in place."""
    content = bytearray(path.read_bytes())
    content[start : start + len(data)] = data
    path.write_bytes(content)


def broken_tile(path: Path) -> None:
    """Overwrite 64 bytes in the middle of a tile in the tissue."""
    offset, count = tile_of(path)
    overwrite(path, offset + count // 2, b"\xff" * 64)


def broken_off_tile(path: Path) -> None:
    """Overwrite the second half of a tile with zeros, as a copy that failed leaves them."""
    offset, count = tile_of(path)
    overwrite(path, offset + count // 2, bytes(count - count // 2))


def cut_pixels(path: Path) -> None:
    """Keep all that says where the pixels are, and half of them."""
    path.write_bytes(path.read_bytes()[: tile_of(path)[0] + 100])


def cut_directory(path: Path) -> None:
    """Keep a header that points to nothing."""
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [broken_tile, cut_pixels, cut_directory])
def test_a_damaged_slide_fails_alone_and_a_repaired_one_is_as_if_it_never_was(
    victim: Path, reader: str, damage: Callable[[Path], None], settings: InferSettings, tmp_path: Path
) -> None:
    whole = victim.read_bytes()
    damage(victim)
    result = infer(victim, tmp_path / "out", settings)
    failed_alone(result, "victim.tif", "; got ")
    victim.write_bytes(whole)
    mended(victim, result, settings, tmp_path)


def test_a_tile_that_breaks_off_is_never_painted_grey(victim: Path) -> None:
    """libjpeg does, without a word, whether the bytes are missing or the file ends."""
    for damage in (broken_off_tile, cut_pixels):
        path = shutil.copy(victim, victim.with_name("copy.tif"))
        damage(path)
        slide = open_slide(path, reader="tiff")
        for ask in (slide.read_level, slide.jpeg):
            with pytest.raises(OSError, match=r"JPEG data without an end at level 0, 192,128 64×64|the file ends"):
                ask(0, 192, 128, 64, 64)


class During(Listener):
    """Does something once the tiles of the victim are known, and something else when it has failed."""

    def __init__(self, then: Callable[[], Any], after: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self._then, self._after = then, after

    def say(self, message: str) -> None:
        super().say(message)
        if message.startswith("victim: ") and "tiles of" in message:
            self._then()
        if message.startswith("victim: failed"):
            self._after()


def test_a_slide_that_is_deleted_while_it_is_read_is_read_to_its_end_or_named(
    victim: Path, reader: str, settings: InferSettings, tmp_path: Path
) -> None:
    """The TIFF reader holds the file; OpenSlide opens it again and again."""
    whole = victim.read_bytes()
    result = infer(victim, tmp_path / "out", settings, progress=During(victim.unlink))
    if reader == "openslide":
        failed_alone(result, "victim.tif is gone; put it back")
        victim.write_bytes(whole)
        mended(victim, result, settings, tmp_path)
        return
    assert result.exit_code == 0
    victim.write_bytes(whole)
    infer(victim, tmp_path / "whole", settings)
    assert contents(tmp_path / "out" / "victim") == contents(tmp_path / "whole" / "victim")


def test_files_that_may_not_grow_end_the_slide_and_not_the_run(
    victim: Path, settings: InferSettings, tmp_path: Path
) -> None:
    """The system itself refuses, wherever the bytes come from."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    progress = During(
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1])),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
    )
    try:
        result = infer(victim, tmp_path / "out", settings, progress=progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    failed_alone(result, "File too large", "raise the limit of a file's size, then --resume")
    mended(victim, result, settings, tmp_path)


def test_a_folder_that_becomes_read_only_ends_the_slide_and_not_the_run(
    victim: Path, settings: InferSettings, tmp_path: Path
) -> None:
    folder, closed = tmp_path / "out" / "victim", tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("root may write anywhere")
    progress = During(lambda: folder.chmod(0o500), lambda: folder.chmod(0o700))
    result = infer(victim, tmp_path / "out", settings, progress=progress)
    failed_alone(result, "Permission denied", "make it readable and writable, then --resume")
    mended(victim, result, settings, tmp_path)


FULL: list[str] = []


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if FULL and writes and any(part in str(args[0]) for part in FULL):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))


@pytest.fixture
def full() -> Iterator[list[str]]:
    """Return parts of paths that nothing more can be written to, whatever the thread; audit hooks cannot be removed."""
    if not FULL:
        sys.addaudithook(_refuse)
    yield FULL
    FULL.clear()


@pytest.mark.parametrize(
    "place", ["tilemaps.zarr/mask", "tilemaps.zarr/done", ".heatmap.ome.zarr.partial/0/0", "/.run.json.partial"]
)
def test_a_full_disk_ends_the_slide_and_not_the_run(
    victim: Path, place: str, full: list[str], settings: InferSettings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    progress = During(lambda: full.append(f"out/victim/{place.removeprefix('/')}"), full.clear)
    result = infer(victim, out, settings, progress=progress)
    failed_alone(result, "No space left on device", "make room on the disk of --out, then --resume")
    # What could not be finished takes no room; threads that were still writing may leave folders.
    assert not [path for path in (out / "victim").glob(".heatmap*/**/*") if path.is_file()]
    mended(victim, result, settings, tmp_path)


def test_a_run_goes_on_where_its_own_file_has_no_room_and_says_so(
    victim: Path, full: list[str], settings: InferSettings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    progress = During(lambda: full.extend([f"{out}/.run.json.partial", f"{out}/failures.log"]))
    result = infer(victim, out, settings, progress=progress)
    assert result.exit_code == 0
    warnings = [line for line in progress.said if line.startswith("WARNING")]
    assert "run.json is not up to date" in warnings[0]
    assert "No space left" in warnings[0]
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    full.clear()
    resumed = infer(victim, out, settings, "resume")
    assert [outcome.status for outcome in resumed.outcomes] == ["skipped", "skipped"]
    assert json.loads((out / "run.json").read_text())["status"] == "done"


def test_a_finished_slide_is_none_while_its_map_is_replaced(
    victim: Path, full: list[str], settings: InferSettings, tmp_path: Path
) -> None:
    """With the old mark, a run that asks for the old blend again would skip a slide that has no map."""
    out, mean = tmp_path / "out", replace(settings, blend="mean")
    infer(victim, out, settings)
    full.append("victim/.heatmap.ome.zarr.partial")
    failed_alone(infer(victim, out, mean, "resume"), "No space left")
    full.clear()
    back = infer(victim, out, settings, "resume")
    assert [outcome.status for outcome in back.outcomes] == ["done", "done"]
    infer(victim, tmp_path / "whole", settings)
    assert contents(out / "victim") == contents(tmp_path / "whole" / "victim")


def test_a_stitched_slide_is_unfinished_while_it_is_stitched_again(
    victim: Path, full: list[str], settings: InferSettings, tmp_path: Path
) -> None:
    infer(victim, tmp_path / "run", settings)
    out = tmp_path / "out"
    stitch_results([tmp_path / "run" / "victim"], out, settings=MapSettings(blend="mean"))
    facts = json.loads((tmp_path / "run" / "victim" / "run.json").read_text())
    changed = facts | {"slide": facts["slide"] | {"bytes": 1}}  # the slide was inferred anew
    (tmp_path / "run" / "victim" / "run.json").write_text(json.dumps(changed))
    full.append("out/victim/.heatmap.ome.zarr.partial")
    stitch_results([tmp_path / "run" / "victim"], out, settings=MapSettings(blend="mean"), existing="resume")
    assert json.loads((out / "victim" / "run.json").read_text())["status"] == "running"


# What has changed since.


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (grow, {"bytes", "sampled", "modified"}),
        (broken_tile, {"sampled", "modified"}),
        (lambda path: os.utime(path, (0, 0)), {"modified"}),
    ],
)
def test_a_finished_slide_whose_file_changed_is_refused_with_what_changed(
    victim: Path, change: Callable[[Path], None], named: set[str], settings: InferSettings, tmp_path: Path
) -> None:
    infer(victim, tmp_path / "out", settings)
    before = contents(tmp_path / "out" / "victim")
    change(victim)
    result = infer(victim, tmp_path / "out", settings, "resume")
    assert [outcome.status for outcome in result.outcomes] == ["failed", "skipped"]
    why = result.outcomes[0].why
    assert "victim is done, but from another file" in why
    assert {
        fact for fact in ("file", "bytes", "size_px", "sampled", "modified") if f"{fact} " in why.split(";")[1]
    } == (named)
    assert contents(tmp_path / "out" / "victim") == before


def test_an_unfinished_slide_whose_file_changed_is_done_from_the_start(
    victim: Path, full: list[str], settings: InferSettings, tmp_path: Path
) -> None:
    """Its tile maps would be of both files: those are there, but nothing of them shows."""
    full.append("out/victim/.heatmap")
    failed_alone(infer(victim, tmp_path / "out", settings))
    full.clear()
    os.utime(victim, (0, 0))
    said = Listener()
    infer(victim, tmp_path / "out", settings, "resume", progress=said)
    assert "victim: not that of the earlier run (modified): done from the start" in said.said
    facts = slide_result(tmp_path / "out", "victim").facts
    assert facts["tiles_run"] == facts["tiles"] > 0


def test_every_setting_that_changed_is_named(victim: Path, settings: InferSettings, tmp_path: Path) -> None:
    infer(victim, tmp_path / "out", settings)
    other = replace(settings, overlap=0.5, min_tissue=0.2)
    named = r"got --min-tissue 0\.2, --overlap 0\.5; expected --min-tissue 0\.1, --overlap 0\.0"
    with pytest.raises(InputError, match=named):
        infer(victim, tmp_path / "out", other, "resume")
