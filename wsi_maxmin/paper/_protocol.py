"""What the paper published, and in which order its tables are run again: YAML files beside this one, checked."""

from pathlib import Path
from typing import Literal, TypeVar

import yaml

from wsi_maxmin._strict import Strict, parse
from wsi_maxmin.errors import InputError

FOLDER = Path(__file__).parent
PROTOCOLS = ("glas", "camelyon16-p512")
INFERENCE = "table3"

S = TypeVar("S", bound=Strict)


class ScoreRow(Strict):
    """A method's published scores in per cent; those that it does not have are None.

    Attributes
    ----------
    title : str
    run : str
        The config of this name, in the protocol's folder, is the row.
    """

    title: str
    run: str
    error: float | None = None
    f1_foreground: float
    f1_background: float


class ScoreTable(Strict):
    """Scores of methods on the paper's test images."""

    title: str
    remark: str = ""
    rows: tuple[ScoreRow, ...]


class InferenceRow(Strict):
    """A method's published number of parameters, and seconds for one image where the paper's are known to us.

    Attributes
    ----------
    backward : bool
        Whether its maps are made with a backward pass for each class.
    """

    title: str
    config: str
    parameters: int
    seconds: float | None = None
    backward: bool = False


class ShownImage(Strict):
    """An image that inference is timed on; `config` says how it is read."""

    name: str
    config: str
    size_px: tuple[int, int]


class InferenceTable(Strict):
    """Parameters and inference times of methods, and the device that the paper's were measured on."""

    title: str
    device: str
    images: tuple[ShownImage, ...]
    rows: tuple[InferenceRow, ...]


class Lists(Strict):
    """The paper's lists of samples, relative to ``--data``; None where the config names them itself."""

    train: str | None = None
    valid: str | None = None
    test: str | None = None


class OrderedRun(Strict):
    """A config to run; `weights_of` is another one whose training it takes."""

    run: str
    trained: bool = True
    weights_of: str | None = None


class Protocol(Strict):
    """How the rows of the tables of one data set are run again.

    Attributes
    ----------
    configs : str
        Folder of their configs.
    data : str
        What ``--data`` is, in words.
    tables : tuple of str
    test_images : int
        That the published scores are of.
    label_source : {"true", "predicted"}
        Whose class maps the paper scores.
    lists : Lists
    order : tuple of OrderedRun
        The most important first.
    """

    configs: str
    data: str
    tables: tuple[str, ...]
    test_images: int
    label_source: Literal["true", "predicted"]
    lists: Lists = Lists()
    order: tuple[OrderedRun, ...]

    def config_of(self, run: str) -> str:
        """Return the name of the config that a run is of."""
        return f"{self.configs}/{run}"

    def choose(self, names: tuple[str, ...] | None) -> tuple[OrderedRun, ...]:
        """Return the named runs, in order, and those whose weights they take; all where none is named.

        Raises
        ------
        InputError
            If there is no such run.
        """
        known = {ordered.run: ordered for ordered in self.order}
        if unknown := [name for name in names or () if name not in known]:
            raise InputError("no such row", got=", ".join(unknown), expected=f"some of {', '.join(known)}")
        wanted = set(names or known)
        wanted |= {source for name in wanted if (source := known[name].weights_of) is not None}
        return tuple(ordered for ordered in self.order if ordered.run in wanted)


def load_protocol(name: str) -> Protocol:
    """Read how the tables of ``glas`` or ``camelyon16-p512`` are run again."""
    return _load(Protocol, name)


def load_scores(name: str) -> ScoreTable:
    """Read a published table of scores, such as ``table1``."""
    return _load(ScoreTable, name)


def load_inference() -> InferenceTable:
    """Read the published table of parameters and inference times."""
    return _load(InferenceTable, INFERENCE)


def _load(model: type[S], name: str) -> S:
    path = FOLDER / f"{name}.yaml"
    return parse(model, yaml.safe_load(path.read_text(encoding="utf-8")), source=path.name)
