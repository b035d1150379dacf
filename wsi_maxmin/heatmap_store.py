"""Read the OME-Zarr heatmap of a slide: its channels, its labels, and where its pixels lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import zarr

from wsi_maxmin.errors import InputError, in_one_line
from wsi_maxmin.grids import CHUNK_PX, Georef
from wsi_maxmin.sinks._ngff import ome_metadata


def main_channel(channels: Sequence[str]) -> str:
    """Return which of a heatmap's channels the threshold is for: ``tumour``, else the first."""
    return "tumour" if "tumour" in channels else channels[0]


def not_a_heatmap(path: Path, error: Exception, remedy: str | None = None) -> InputError:
    """Return the error of a store that is missing or cannot be understood."""
    if not path.exists():
        return InputError("no such heatmap", got=path, remedy=remedy)
    return InputError("not a heatmap of wsi-maxmin", got=f"{path} ({in_one_line(error)})", remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeatmapStore:
    """A heatmap on disk, opened to read.

    Attributes
    ----------
    path : Path
    group : zarr.Group
    georef : Georef
        Its display grid.
    channels : tuple of str
    levels : int
        Of its pyramid; level 0 is the largest.
    """

    path: Path
    group: zarr.Group
    georef: Georef
    channels: tuple[str, ...]
    levels: int

    @classmethod
    def open(cls, path: Path, slide_size_px: tuple[int, int], slide_mpp: float | None = None) -> Self:
        """Open a store.

        Parameters
        ----------
        path : Path
            Such as ``heatmap.ome.zarr``.
        slide_size_px : (int, int)
            Width and height of the slide's level 0.
        slide_mpp : float, optional
            µm per level-0 pixel; by default what scale and translation of the store amount to.

        Raises
        ------
        InputError
            If there is no such store, or its metadata are not those of a heatmap.
        """
        try:
            group = zarr.open_group(path, mode="r")
            metadata = ome_metadata(group)
            datasets = metadata["multiscales"][0]["datasets"]
            scale, shift = (step[step["type"]][-1] for step in datasets[0]["coordinateTransformations"])
            channels = tuple(str(channel["label"]) for channel in metadata["omero"]["channels"])
            mpp = float(f"{scale - 2 * shift:.12g}") if slide_mpp is None else slide_mpp
            georef = Georef(slide_size_px=slide_size_px, slide_mpp=mpp, downsample=round(scale / mpp))
        except (OSError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
            raise not_a_heatmap(path, error, remedy="run `wsi-maxmin infer-slide`") from None
        return cls(path=path, group=group, georef=georef, channels=channels, levels=len(datasets))

    def level(self, level: int = 0) -> zarr.Array:
        """Return the channels at a level, (C, H, W) uint8, unread."""
        return self.group[str(level)]

    def labels(self, level: int = 0) -> zarr.Array:
        """Return ``labels/tumour`` at a level, (H, W) uint8, unread."""
        return self.group[f"labels/tumour/{level}"]

    def unreadable(self) -> Path | None:
        """Return the first array of which a part cannot be read; None where all can. All is read."""
        for name in (f"{image}{level}" for level in range(self.levels) for image in ("", "labels/tumour/")):
            try:
                array = self.group[name]
                for top in range(0, array.shape[-2], CHUNK_PX):
                    array[..., top : top + CHUNK_PX, :]
            except Exception:  # a damaged file may make any library raise anything
                return self.path / name
        return None

    @property
    def main_channel(self) -> str:
        """The channel that the threshold is for."""
        return main_channel(self.channels)

    @property
    def valued(self) -> tuple[str, ...]:
        """The channels that say something of the tissue; ``coverage`` does not."""
        return tuple(name for name in self.channels if name != "coverage")
