"""What a run over slides is asked for, and what of it every worker must know."""

from dataclasses import dataclass
from typing import Any

from wsi_maxmin.dense_grid import CONTEXT_CELLS
from wsi_maxmin.engines._choice import Choice
from wsi_maxmin.pipelines._dense import TILE
from wsi_maxmin.pipelines._engine import EngineSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class InferSettings(EngineSettings):
    """What decides the maps: besides the model see `EngineSettings`, `TileSettings` and `MapSettings`.

    Attributes
    ----------
    model : str
        Name of a bundled model, or path of a checkpoint or of TorchScript.
    mode : {"tile", "dense"}
        Whether the model's trunk is run over tiles, or once over large regions.
    dense_context : int
        Cells around a region that are computed and thrown away.
    """

    model: str = "camelyon16-demo"
    mode: str = TILE
    dense_context: int = CONTEXT_CELLS

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values; without what only dense mode has, unless it is asked for."""
        values = EngineSettings.to_json(self)
        if self.mode == TILE:
            del values["mode"], values["dense_context"]
        return values

    @property
    def suffix(self) -> str:
        """What tells maps of this mode from those of tile mode; empty for tile mode itself."""
        return "" if self.mode == TILE else f"+{self.mode}{self.dense_context}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How tiles are run, wherever that is: small, and the same for all slides of a run.

    Attributes
    ----------
    settings : InferSettings
    fingerprint : str
        Of the model.
    choice : Choice
    batch_size, readers : int
    """

    settings: InferSettings
    fingerprint: str
    choice: Choice
    batch_size: int
    readers: int
