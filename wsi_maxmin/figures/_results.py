"""What figures are drawn from: finished runs by the row of the paper's tables that they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from wsi_maxmin.data._samples import Split
from wsi_maxmin.errors import MissingResultsError
from wsi_maxmin.run_results import RunResult

SEM = "maxmin-sem"
METHODS = {
    "all-ones": "All ones",
    "pn": "PN",
    "erase": "ERASE",
    "cam-max": "CAM-Max",
    "cam-lse": "CAM-LSE",
    "grad-cam": "Grad-CAM",
    "cam-avg": "CAM-Avg",
    "wildcat": "WILDCAT",
    "deep-mil": "Deep MIL",
    "maxmin-eem": "Max-Min EEM",
    SEM: "Max-Min SEM",
    "u-net": "U-Net",
}
"""What runs are called, and what the paper calls them, in the order of its tables."""

_SPLITS: tuple[Split, ...] = ("test", "valid", "train")
_PATCH_PX = 416


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set of the paper.

    Attributes
    ----------
    name : str
        What the command that reproduces its results calls it.
    title : str
    classes : tuple of str
        By these, and by the size of the crops, its runs are known.
    """

    name: str
    title: str
    classes: tuple[str, ...]

    def holds(self, run: RunResult) -> bool:
        """Say whether a run learnt from it."""
        classes = run.settings.get("data", {}).get("classes", ())
        return tuple(classes) == self.classes and run.settings.get("augment", {}).get("crop_px") == _PATCH_PX

    @property
    def command(self) -> str:
        """What trains and scores every method on it."""
        return f"wsi-maxmin reproduce {self.name} --data DIR --out RUNS"


GLAS = Dataset(name="glas", title="GlaS", classes=("benign", "malignant"))
P512 = Dataset(name="camelyon16-p512", title="Camelyon16-P512", classes=("normal", "tumor"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """The runs of one method, by seed."""

    name: str
    runs: tuple[RunResult, ...]

    @property
    def title(self) -> str:
        """Its name in the paper."""
        return METHODS[self.name]

    @property
    def facts(self) -> dict[str, Any]:
        """Which runs it is, and how they were scored."""
        scores = [run.scores or {} for run in self.runs]
        facts: dict[str, Any] = {"run": self.name, "seeds": [run.seed for run in self.runs]}
        return facts | {key: [of[key] for of in scores if key in of] for key in ("model", "threshold", "label_source")}

    @property
    def with_model(self) -> RunResult | None:
        """The run of the lowest seed whose model was kept."""
        return next((run for run in self.runs if run.model is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictured:
    """An image and what models mark on it.

    Attributes
    ----------
    name : str
    image : (H, W, 3) uint8
    truth : (h, w) bool, or None
    masks : mapping of str to (h, w) float32 in [0, 1]
        The soft mask of each method by its name.
    scores : mapping of str to (float or None, float or None)
        F1+ and F1− of each, in per cent.
    """

    name: str
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.bool_] | None
    masks: Mapping[str, npt.NDArray[np.float32]]
    scores: Mapping[str, tuple[float | None, float | None]]


Look = Callable[[Sequence[RunResult], Split, Sequence[str]], list[Pictured]]
"""Runs, split and names of images to those images with the soft masks of the runs' models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that may be drawn.

    Attributes
    ----------
    runs : sequence of RunResult
    look : callable or None
        Runs models over images; None where no data were given.
    """

    runs: Sequence[RunResult]
    look: Look | None = None

    def trained(self, dataset: Dataset) -> list[Method]:
        """Return the methods of the paper that were trained on a data set, in its order.

        Raises
        ------
        MissingResultsError
            If there is none.
        """
        return self._methods(dataset, [run for run in self.runs if dataset.holds(run)], "run")

    def scored(self, dataset: Dataset) -> tuple[list[Method], Split]:
        """Return the methods with scores on one split, the test split where there are any, and that split.

        Raises
        ------
        MissingResultsError
            If there is none.
        """
        runs = [run for run in self.runs if dataset.holds(run) and run.scores is not None]
        by_split = {split: [run for run in runs if (run.scores or {}).get("split") == split] for split in _SPLITS}
        split = next((split for split in _SPLITS if by_split[split]), _SPLITS[0])
        return self._methods(dataset, by_split[split], "scored run"), split

    @staticmethod
    def _methods(dataset: Dataset, runs: Sequence[RunResult], kind: str) -> list[Method]:
        found = [Method(name=name, runs=tuple(run for run in runs if run.name == name)) for name in METHODS]
        if methods := [method for method in found if method.runs]:
            return methods
        raise MissingResultsError(
            f"no {kind} of the paper's methods on {dataset.title}",
            got=", ".join(sorted({run.name for run in runs})) or None,
            remedy=dataset.command,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure, and what it was drawn from.

    Attributes
    ----------
    figure : Figure
    facts : mapping
        Runs, seeds, split, thresholds, rules.
    left_out : tuple of str
        What it lacks, and the command that makes it.
    """

    figure: Figure
    facts: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def left_out(methods: Sequence[Method], dataset: Dataset, *besides: str, lack: str = "no such run") -> tuple[str, ...]:
    """Name the methods of the paper that are neither among these nor in `besides`, and what they lack."""
    names = {*besides, *(method.name for method in methods)}
    if absent := [title for name, title in METHODS.items() if name not in names]:
        return (f"{', '.join(absent)}: {lack}; {dataset.command}",)
    return ()


def seeds_of(methods: Sequence[Method]) -> str:
    """Say which seeds the runs have: of all where they agree, of each otherwise."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for method in methods:
        by_seeds.setdefault(tuple(run.seed for run in method.runs), []).append(method.title)
    words = [
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        + (f" ({', '.join(titles)})" if len(by_seeds) > 1 else "")
        for seeds, titles in by_seeds.items()
    ]
    return "; ".join(words)


def split_of(split: str) -> str:
    """Return a split in words."""
    return {"valid": "validation"}.get(split, split)
