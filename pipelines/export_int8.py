"""Calibrate a model for int8 on tissue of slides, and say how well its maps agree with single precision."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from upath import UPath

from wsi_maxmin.assets import find_model
from wsi_maxmin.engines._base import Outputs, Pixels, join
from wsi_maxmin.engines._choice import check_choice, disagreement
from wsi_maxmin.engines._graphs import exported_graph
from wsi_maxmin.engines._int8 import INT8, REPORT, keep_int8, quantise
from wsi_maxmin.engines.openvino import OpenVinoEngine
from wsi_maxmin.errors import InputError, OutputExistsError
from wsi_maxmin.export_model import DESCRIPTION, FILES, SCORES_ALONE, WITH_CLASSES, describe
from wsi_maxmin.metrics import dice
from wsi_maxmin.pipelines._tile_plan import TileSettings, plan_tiles
from wsi_maxmin.progress import Progress, Quiet
from wsi_maxmin.readers import open_slide
from wsi_maxmin.runinfo import environment, write_json
from wsi_maxmin.slide_inputs import RunSlides, SlideInputs
from wsi_maxmin.slide_model import SlideModel, load_slide_model
from wsi_maxmin.tilemaps import main_map, map_downsample

_HELD_OUT = 4
"""One tile in so many is compared, and not calibrated on."""
_FEW = 20
"""Fewer tiles than so many show little of how well maps agree."""
_CPU = torch.device("cpu")
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How the maps of held-out tiles agree with those of single precision.

    Attributes
    ----------
    tiles : int
    mean_difference : float
        Mean absolute difference of the tumour map (of the probability, where there are no masks).
    largest_channel_difference : float
        The same of tumour map or probability, whichever differs more: what ``auto`` goes by.
    dice : float or None
        Of the maps at the model's threshold; None where single precision calls nothing.
    threshold : float
    """

    tiles: int
    mean_difference: float
    largest_channel_difference: float
    dice: float | None
    threshold: float

    def __str__(self) -> str:
        overlap = "nothing called" if self.dice is None else f"Dice {self.dice:.4f}"
        return (
            f"int8 against fp32 on {self.tiles} held-out tiles: {overlap} at {self.threshold:g}, "
            f"mean difference of the map {self.mean_difference:.4f}"
        )

    @property
    def warning(self) -> str:
        """What to say where too few tiles were compared; empty where there were enough."""
        if self.tiles >= _FEW:
            return ""
        return (
            f"WARNING: so few held-out tiles show little; got {self.tiles}; expected at least {_FEW}; "
            f"calibrate on slides with more tissue, or with --tiles {_FEW * (_HELD_OUT - 1)} or more"
        )


def export_int8(
    model: str,
    slides: Sequence[str | Path | UPath],
    out: Path,
    *,
    tiles: int = 300,
    slide_mpp: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[list[Path], Agreement]:
    """Write the graph, its description and ``int8.json`` to `out`, and keep a copy for ``infer-slide``.

    Parameters
    ----------
    model : str
        Bundled name, run folder, file, or TorchScript.
    slides : sequence of str, Path or UPath
        Files, folders, URLs or CSV lists.
    out : Path
        Folder; its other files are left alone.
    tiles : int
        How many to calibrate on, spread over the slides and over the tissue of each.
    slide_mpp : float, optional
        µm per level-0 pixel, for slides that do not say.
    overwrite : bool
        Replace files of the same names.
    progress : Progress, optional

    Raises
    ------
    InputError, SlideError
        If the model or a slide cannot be used, or the slides have too little tissue.
    OutputExistsError
        If a file of the same name is there.
    MissingExtraError
        If OpenVINO or NNCF is not installed.
    """
    progress = progress or Quiet()
    names = (*FILES["openvino"], REPORT)
    if not overwrite and (there := [name for name in names if (out / name).exists()]):
        raise OutputExistsError(f"{out} holds an export", got=", ".join(there), remedy="--overwrite replaces it")
    check_choice(_CPU, "openvino", "fp32")
    loaded = load_slide_model(find_model(model))
    if refusal := loaded.build().refuses_slides:
        raise InputError("this model cannot be run over slides", got=loaded.name, remedy=refusal)
    run = RunSlides(SlideInputs(slides=slides, slide_mpp=slide_mpp), hashed=False, known={})
    found = _read_tiles(loaded, run, tiles * _HELD_OUT // (_HELD_OUT - 1), progress)
    held_out = found[_HELD_OUT - 1 :: _HELD_OUT]
    calibration = [tile for place, tile in enumerate(found) if place % _HELD_OUT != _HELD_OUT - 1]
    if not held_out:
        raise InputError("the slides have too little tissue", got=f"{len(found)} tiles", expected="4 or more")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as place:
        partial = Path(place)
        with progress.track("calibrate", len(calibration), unit="tile") as advance:
            quantise(loaded, calibration, partial, advance)
        agreement = _compare(loaded, partial / names[0], held_out, progress)
        if agreement.warning:
            progress.say(agreement.warning)
        report = {
            "model": loaded.fingerprint(),
            "calibration": {"slides": list(run.slides), "tiles": len(calibration)},
            "agreement": asdict(agreement),
            "environment": environment(),
        }
        write_json(partial / REPORT, report)
        outputs = WITH_CLASSES if loaded.has_masks else SCORES_ALONE
        mask_px = (loaded.slide.tile_px,) * 2
        write_json(partial / DESCRIPTION, describe(loaded, outputs, mpp=loaded.slide.mpp, mask_px=mask_px))
        keep_int8(loaded, partial)
        for name in names:
            (partial / name).replace(out / name)
    return [out / name for name in names], agreement


def _read_tiles(model: SlideModel, run: RunSlides, wanted: int, progress: Progress) -> list[Pixels]:
    """Read about so many tiles that do not overlap, evenly spread over the tissue of every slide."""
    found: list[Pixels] = []
    settings = TileSettings(overlap=0.0)
    with progress.track("read tiles", len(run.slides), unit="slide") as advance:
        for left, (slide_id, path) in zip(range(len(run.slides), 0, -1), run.paths().items(), strict=True):
            with open_slide(path, slide_mpp=run.slide_mpp(slide_id), slide_id=slide_id) as slide:
                grid = plan_tiles(slide, model.slide, settings).grid
                boxes = list(grid.boxes())
                count = min(len(boxes), -(-(wanted - len(found)) // left))
                places = np.linspace(0, len(boxes) - 1, count).round().astype(int)
                found += [slide.read(boxes[place], grid.tile_px, grid.tile_px) for place in places]
            advance()
    return found


def _compare(model: SlideModel, made: Path, tiles: Sequence[Pixels], progress: Progress) -> Agreement:
    graphs = {"fp32": exported_graph(model, "openvino"), INT8: made}
    exact, rounded = (_outputs(model, graph, tiles, precision, progress) for precision, graph in graphs.items())
    positive, threshold = model.classes.index(model.positive), model.slide.threshold
    one, other = (main_map(each.masks, each.logits, positive) for each in (rounded, exact))
    return Agreement(
        tiles=len(tiles),
        mean_difference=float(np.abs(one - other).mean()),
        largest_channel_difference=disagreement(rounded, exact, positive),
        dice=dice(one >= threshold, other >= threshold),
        threshold=threshold,
    )


def _outputs(model: SlideModel, graph: Path, tiles: Sequence[Pixels], precision: str, progress: Progress) -> Outputs:
    side_px = model.slide.tile_px
    engine = OpenVinoEngine(graph, side_px=side_px, precision=precision, downsample=map_downsample(side_px))
    parts = []
    with progress.track(f"compare {precision}", len(tiles), unit="tile") as advance:
        for start in range(0, len(tiles), _BATCH):
            parts.append(engine.run(tiles[start : start + _BATCH]))
            advance(len(parts[-1].logits))
    return join(parts)
