"""Which engine and precision: what the user says, or what is fastest here and gives the same maps."""

import importlib.util
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch

from wsi_maxmin.engines import plugins
from wsi_maxmin.engines._base import Engine, Outputs, Pixels
from wsi_maxmin.errors import InputError, MissingExtraError
from wsi_maxmin.slide_model import SlideModel
from wsi_maxmin.tilemaps import main_map, softmax
from wsi_maxmin.workers import give_back_memory

AUTO = "auto"
AGREEMENT = 0.005
"""Most that maps may differ from single precision's, as a mean over pixels, to be chosen without being asked for."""

_REFERENCE = ("torch", "fp32")
_SECONDS_EACH = 1.0
_SECONDS_A_TILE = 0.002
"""What timing an engine may cost a short run, for each of its tiles."""
_WORTH = 4
"""A start must be worth so many times its seconds of the engine that is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An engine and a precision, and why.

    Attributes
    ----------
    engine, precision : str
    why : str
        Empty where the user left no choice.
    variant : str
        What else the maps depend on; empty where nothing.
    """

    engine: str
    precision: str
    why: str = ""
    variant: str = ""

    @property
    def suffix(self) -> str:
        """What tells maps of this choice from those of the reference; empty for the reference itself."""
        parts = [self.engine, self.precision, *([self.variant] if self.variant else [])]
        return "" if tuple(parts) == _REFERENCE else f"+{'-'.join(parts)}"

    def to_json(self) -> dict[str, str]:
        """Return what runs into one folder must share, as JSON values."""
        values = {"engine": self.engine, "precision": self.precision}
        return values | ({"variant": self.variant} if self.variant else {})


def choose(
    model: SlideModel,
    *,
    device: torch.device,
    engine: str,
    precision: str,
    downsample: int,
    tiles: Sequence[Pixels],
    expected_tiles: int,
) -> Choice:
    """Settle ``auto``: time the candidates on real tiles, and take the fastest that gives the same maps.

    An engine that takes long to start is tried only if the run is long.

    Parameters
    ----------
    model : SlideModel
    device : torch.device
    engine, precision : str
        A name, or ``auto``.
    downsample : int
    tiles : sequence of (H, W, 3) uint8
        Of tissue; without any, the first candidate is taken, single precision in torch if that is one.
    expected_tiles : int
        Of the whole run, about.

    Raises
    ------
    InputError
        If there is no such engine, or it does not compute so on this device.
    MissingExtraError
        If the engine's package is not installed.
    """
    candidates = list(_candidates(device, engine, precision))
    if len(candidates) == 1 or not tiles:
        name, number_format = candidates[0]
        return Choice(engine=name, precision=number_format)
    positive = model.classes.index(model.positive)
    reference: Outputs | None = None
    timed: list[tuple[float, str, str]] = []
    notes = []
    for name, number_format in candidates:
        if timed and expected_tiles / max(timed)[0] < _WORTH * plugins.load(name).start_seconds(model):
            continue
        opened = open_engine(model, name, device=device, precision=number_format, downsample=downsample)
        outputs, rate = _try(opened, tiles, min(_SECONDS_EACH, _SECONDS_A_TILE * expected_tiles))
        del opened  # the next need not lie beside it in memory
        reference = reference or outputs
        difference = disagreement(outputs, reference, positive)
        remark = f" (maps differ by {difference:.4f})" if difference else ""
        notes.append(f"{name} {number_format} {rate:.1f} tiles/s{remark}")
        if difference <= AGREEMENT:
            timed.append((rate, name, number_format))
    give_back_memory()
    _, name, number_format = max(timed)
    return Choice(engine=name, precision=number_format, why="; ".join(notes))


def check_choice(device: torch.device, engine: str, precision: str, *, compiled: bool = False) -> None:
    """See whether there is an engine to choose, before anything is written.

    Raises
    ------
    InputError, MissingExtraError
        If there is none.
    """
    engine = meant(engine, compiled=compiled)
    if engine != AUTO:
        _check(plugins.load(engine), engine, device, "fp32" if precision == AUTO else precision)
    elif precision != AUTO:
        list(_candidates(device, engine, precision))


def meant(engine: str, *, compiled: bool) -> str:
    """Return the engine that is asked for: torch, where it shall be compiled.

    Raises
    ------
    InputError
        If another one is asked for.
    """
    if compiled and engine not in (AUTO, "torch"):
        raise InputError("only torch is compiled", got=f"--compile with --engine {engine}", remedy="leave one out")
    return "torch" if compiled else engine


def open_engine(
    model: SlideModel, name: str, *, device: torch.device, precision: str, downsample: int, compiled: bool = False
) -> Engine:
    """Make an engine ready to run; `compiled` is for torch alone.

    Raises
    ------
    InputError
        If there is no such engine, or it does not compute so on this device.
    MissingExtraError
        If its package is not installed.
    """
    module = plugins.load(name)
    _check(module, name, device, precision)
    more = {"compiled": True} if compiled else {}
    engine: Engine = module.open(model, device=device, precision=precision, downsample=downsample, **more)
    return engine


def disagreement(outputs: Outputs, reference: Outputs, positive: int) -> float:
    """Return by how much two channels of a heatmap differ, whichever differs more: a mean over pixels.

    They are the tumour map (posterior of the positive class × soft mask) and the probability (that posterior); of a
    method without classes there is the mask alone, of a classifier without masks the probability.
    """
    if not reference.logits.shape[1]:
        return _mean_difference(outputs.masks, reference.masks)
    main = (main_map(each.masks, each.logits, positive) for each in (outputs, reference))
    probability = (softmax(each.logits)[:, positive] for each in (outputs, reference))
    return max(_mean_difference(*main), _mean_difference(*probability))


def _mean_difference(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean())


def _candidates(device: torch.device, engine: str, precision: str) -> Iterator[tuple[str, str]]:
    """Yield engines and precisions to try, the reference first where it is among them."""
    # ONNX Runtime gives what OpenVINO gives, more slowly: it is for those who ask for it.
    names = [engine] if engine != AUTO else [name for name in ("torch", "openvino") if _is_usable(name, device)]
    found = []
    for name in names:
        module = plugins.load(name)
        if precision == AUTO:
            _check(module, name, device, "fp32")
            found += [(name, number_format) for number_format in module.fast(device)]
        elif engine != AUTO or precision in module.PRECISIONS[device.type]:
            found.append((name, precision))
    if not found:
        raise InputError("no engine computes so here", got=f"{precision} on {device}", remedy="--precision auto")
    yield from sorted(found, key=lambda pair: pair != _REFERENCE)


def _is_usable(name: str, device: torch.device) -> bool:
    module = plugins.load(name)
    return device.type in module.PRECISIONS and importlib.util.find_spec(module.NEEDS[0]) is not None


def _check(module: ModuleType, name: str, device: torch.device, precision: str) -> None:
    known = module.PRECISIONS.get(device.type, ())
    if precision not in known:
        raise InputError(
            f"the engine {name} cannot run so",
            got=f"{precision} on {device}",
            expected=" or ".join(known) if known else f"a device of {', '.join(module.PRECISIONS)}",
        )
    package, extra = module.NEEDS
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(
            f"the engine {name} needs a package that is not installed",
            got=f"no module {package}",
            remedy=f"pip install 'wsi-maxmin[{extra}]'",
        )


def _try(engine: Engine, tiles: Sequence[Pixels], seconds: float) -> tuple[Outputs, float]:
    """Run the tiles once to warm up, then for about so long, at least once more; return outputs, and tiles a second."""
    outputs = engine.run(tiles)
    done, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds or not done:
        engine.run(tiles)
        done += len(tiles)
    return outputs, done / elapsed if elapsed else float("inf")
