"""Fixtures that several test files share."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import settings
from PIL import Image

# No test reports the use of OpenVINO to its makers, however it imports it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how Python marks it missing

WritePyramid = Callable[..., Path]

# A busy machine is not a failure: pytest-timeout ends what hangs.
# CI tries the same examples each time: what it refuses must be what was changed.
settings.register_profile("wsi-maxmin", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("wsi-maxmin")


def contents(folder: Path) -> dict[str, bytes]:
    """Return every data file below a folder; the others hold times and process numbers."""
    times = ("run.json", ".lock", "failures.log")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in times)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def data_dir() -> Path:
    """Return the folder of real data; tests that use it carry ``@pytest.mark.data``."""
    named = os.environ.get("WSI_MAXMIN_DATA")
    if not named:
        pytest.skip("real data: WSI_MAXMIN_DATA does not name a folder")
    return Path(named)


@pytest.fixture(scope="module", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests export out of the user's cache, and out of other files': what is exported may be chosen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSI_MAXMIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_handler_of_ended_children() -> Iterator[None]:
    """Take back the handler that torch's loaders leave for SIGCHLD.

    Where OpenVINO has computed in AMX, Linux in a virtual machine may fail to deliver a signal that has a handler, and
    end the process without a word: si_code is SI_KERNEL, in the middle of poll().
    """
    yield
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread: tiny networks gain nothing from more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def labelled_folder(tmp_path: Path) -> Path:
    """Return a folder of four bluish and four reddish 64×64 images, and ``labels.csv``; its masks do not exist."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["image,mask,label,group"]
    for index in range(8):
        label, colour = (("normal", (60, 60, 180)), ("tumor", (180, 60, 60)))[index % 2]
        pixels = np.array(colour) + rng.integers(-50, 51, (64, 64, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{index}_mask.png,{label},slide_{index // 2 % 2}_{label}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def make_pyramid() -> Callable[..., list[np.ndarray]]:
    """Return a function that halves an image `levels` - 1 times, by the mean of each 2×2 block."""

    def make(pixels: np.ndarray, levels: int) -> list[np.ndarray]:
        pyramid = [pixels]
        for _ in range(levels - 1):
            last = pyramid[-1]
            padded = np.pad(last, ((0, last.shape[0] % 2), (0, last.shape[1] % 2), (0, 0)), mode="edge")
            blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, 3)
            pyramid.append(blocks.mean(axis=(1, 3)).round().astype(np.uint8))
        return pyramid

    return make


@pytest.fixture(scope="session")
def write_pyramid() -> WritePyramid:
    """Return a function that writes a lossless tiled TIFF, its µm per pixel in the resolution tags (per cm)."""

    def write(
        path: Path, levels: Sequence[np.ndarray], mpp: float | tuple[float, float] | None = 0.25, tile: int = 64
    ) -> Path:
        across, down = mpp if isinstance(mpp, tuple) else (mpp, mpp)
        with tifffile.TiffWriter(path) as tiff:
            for index, pixels in enumerate(levels):
                # None of the two tags is written without a unit, and OpenSlide then knows no mpp.
                resolution = None if across is None else (1e4 / across / 2**index, 1e4 / down / 2**index)
                tiff.write(
                    pixels,
                    photometric="rgb",
                    tile=(tile, tile),
                    compression="deflate",
                    subfiletype=int(index > 0),
                    resolution=resolution,
                    resolutionunit="NONE" if resolution is None else "CENTIMETER",
                    metadata=None,
                )
        return path

    return write


@pytest.fixture(scope="session")
def stained() -> Callable[..., np.ndarray]:
    """Return a function that paints white glass with pink, textured rectangles given as (x, y, width, height)."""

    def paint(width: int, height: int, *rectangles: tuple[int, int, int, int], seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        pixels = np.full((height, width, 3), 245, dtype=np.uint8)
        for x, y, across, down in rectangles:
            noise = rng.integers(-20, 21, (down, across, 3))
            pixels[y : y + down, x : x + across] = (np.array([190, 110, 170]) + noise).astype(np.uint8)
        return pixels

    return paint


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a small, untrained Max-Min for tiles of 64 px at 0.25 µm."""
    import torch

    from wsi_maxmin.checkpoint import Checkpoint, save_checkpoint, state_of
    from wsi_maxmin.config import RunConfig
    from wsi_maxmin.models import build_model

    torch.manual_seed(0)
    config = RunConfig.model_validate(
        {
            "name": "tiny",
            "model": {"encoder": {"name": "test_resnet"}, "params": {"mask_norm": "running"}},
            "slide": {"mpp": 0.25, "tile_px": 64, "threshold": 0.2},
        }
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    weights = state_of(build_model(config.model, 2))
    save_checkpoint(path, Checkpoint(config=config, weights=weights, epoch=1, metrics={}, optimizer={}, facts={}))
    return path


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    stained: Callable[..., np.ndarray],
    make_pyramid: Callable[..., list[np.ndarray]],
    write_pyramid: WritePyramid,
) -> Path:
    """Return the folder of a run of the tiny model over two slides, a and b; the slides are gone."""
    from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide

    folder = tmp_path_factory.mktemp("run")
    levels = make_pyramid(stained(1000, 700, (256, 128, 512, 384)), 3)
    slides = [write_pyramid(folder / f"{name}.tif", levels) for name in "ab"]
    infer_slide(slides, folder / "out", settings=InferSettings(model=str(tiny_model), engine="torch", precision="fp32"))
    for slide in slides:
        slide.unlink()
    return folder / "out"


@pytest.fixture
def tissue_slide(
    tmp_path: Path,
    stained: Callable[..., np.ndarray],
    make_pyramid: Callable[..., list[np.ndarray]],
    write_pyramid: WritePyramid,
) -> Path:
    """Return a slide of 1000×700 px at 0.25 µm whose tissue is one rectangle, (256, 128) to (768, 512)."""
    return write_pyramid(tmp_path / "slide.tif", make_pyramid(stained(1000, 700, (256, 128, 512, 384)), 3))


@pytest.fixture
def make_slide(
    tmp_path: Path,
    stained: Callable[..., np.ndarray],
    make_pyramid: Callable[..., list[np.ndarray]],
    write_pyramid: Callable[..., Path],
) -> Callable[..., Path]:
    """Return a function that writes a slide of 512 × 384 px at 2 µm with a rectangle of tissue."""

    def make(name: str, *rectangles: tuple[int, int, int, int], seed: int = 0) -> Path:
        levels = make_pyramid(stained(512, 384, *rectangles, seed=seed), 2)
        return write_pyramid(tmp_path / f"{name}.tif", levels, 2.0)

    return make
