"""Whether the data of a protocol can be read for what is missing of its runs; said before any of it is done."""

from collections.abc import Sequence

from wsi_maxmin.config import load_config
from wsi_maxmin.data import Sample, Split, read_samples
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines._reproduce_plan import PlannedRun
from wsi_maxmin.pipelines._row_runs import Workplace
from wsi_maxmin.pipelines.evaluate import check_masks

_IN_WORDS = {"valid": "validation"}


def has_test(place: Workplace) -> bool:
    """Say whether the data have the paper's test images."""
    try:
        return bool(_read(place, "test"))
    except InputError:
        return False


def check_data(place: Workplace, planned: Sequence[PlannedRun]) -> None:
    """Check that the samples are there that these runs are trained and scored on; no image is opened.

    Raises
    ------
    InputError
        If they are not.
    """
    protocol = place.protocol
    if any(plan.trains for plan in planned):
        try:
            for split in ("train", "valid"):
                _read(place, split)
        except InputError as error:
            raise InputError(
                f"{place.data} does not hold the data of {protocol.configs}: {error}",
                remedy=f"give --data {protocol.data}",
            ) from error
    if any(plan.state.startswith("to ") for plan in planned):
        try:
            check_masks(_read(place, place.split))
        except InputError as error:
            raise InputError(
                f"the {_IN_WORDS.get(place.split, place.split)} images in {place.data} cannot be scored: {error}",
                remedy="restore them, or give --split valid" if place.split == "test" else "restore them",
            ) from error


def _read(place: Workplace, split: Split) -> list[Sample]:
    config = load_config(place.protocol.config_of(place.protocol.order[0].run), place.reading())
    return read_samples(place.data, config.data, split, seed=config.seed)
