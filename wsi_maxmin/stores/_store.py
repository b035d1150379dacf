"""What every store does."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from wsi_maxmin.formats import Encoded


class Place(NamedTuple):
    """Where bytes are: a file, relative to the output folder, and the part of it that is theirs."""

    path: str
    offset: int
    size: int


NOWHERE = Place("", 0, 0)


class Store(ABC):
    """Takes the patches of one chunk, one after the other."""

    @abstractmethod
    def put(
        self, patch_id: str, image: Encoded | None, mask: bytes | None, facts: dict[str, Any]
    ) -> tuple[Place, Place]:
        """Write a patch; return the places of its image and of its mask, `NOWHERE` for what it has not.

        Parameters
        ----------
        patch_id : str
        image : Encoded or None
        mask : bytes or None
            A PNG.
        facts : dict
            The patch's row of the table, for stores that keep facts beside pixels.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish what is open."""

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
