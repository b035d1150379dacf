"""How many patches a protocol may draw from each slide without tumour: as many in all as the tumour slides gave."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_maxmin.runinfo import read_json, write_json

QUOTA_FILE = "normal_quota.json"


class Quotas:
    """Tumour patches counted until the last tumour slide is done, then dealt evenly to the normal slides of a split.

    What was dealt is kept in a file, so that a resumed run draws the same, also where a tumour slide that had failed is
    cut later.

    Parameters
    ----------
    tumour, normal : sequence of str
        Ids of the slides with and without tumour.
    splits : mapping of slide_id to str
        Each split, and the slides without one, are a subset with a balance of its own.
    out : Path
        Folder of the run.
    """

    def __init__(self, *, tumour: Sequence[str], normal: Sequence[str], splits: Mapping[str, str], out: Path) -> None:
        self._waiting = set(tumour)
        self._normal = sorted(normal)
        self._splits = splits
        self._path = out / QUOTA_FILE
        self._counts: dict[str, int] = {}
        self._changed = threading.Condition()
        self._abandoned = False

    def report(self, slide_id: str, patches: int) -> None:
        """Say how many patches a slide with tumour gave; 0 if it failed."""
        with self._changed:
            if slide_id in self._waiting:
                split = self._splits.get(slide_id, "")
                self._counts[split] = self._counts.get(split, 0) + patches
                self._waiting.discard(slide_id)
                self._changed.notify_all()

    def of(self, slide_id: str) -> int:
        """Wait until all slides with tumour have reported; return how many patches a normal slide gives.

        Raises
        ------
        KeyboardInterrupt
            If the run was abandoned meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or not self._waiting)
            if self._abandoned:
                raise KeyboardInterrupt
            dealt = read_json(self._path)
            if dealt is None or slide_id not in dealt:
                # A slide that came later gets its share; those that are done keep theirs.
                dealt = {**self._deal(), **(dealt or {})}
                write_json(self._path, dealt)
            return int(dealt[slide_id])

    def abandon(self) -> None:
        """Stop waiting: the run is interrupted."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def _deal(self) -> dict[str, int]:
        dealt: dict[str, int] = {}
        for split in {self._splits.get(slide_id, "") for slide_id in self._normal}:
            slides = [slide_id for slide_id in self._normal if self._splits.get(slide_id, "") == split]
            share, rest = divmod(self._counts.get(split, 0), len(slides))
            dealt |= {slide_id: share + (index < rest) for index, slide_id in enumerate(slides)}
        return dict(sorted(dealt.items()))
