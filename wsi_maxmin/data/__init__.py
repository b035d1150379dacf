"""Sources of labelled samples, one file each, and the torch datasets made of them.

A source module exposes ``read(root, config, split) -> list[Sample]`` and ``has_split(root, config, split) -> bool``;
see `wsi_maxmin.data.labels`.
"""

from dataclasses import replace
from pathlib import Path

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.config import DataConfig
from wsi_maxmin.data._samples import Sample, Split
from wsi_maxmin.errors import InputError
from wsi_maxmin.splits import holdout

__all__ = ["Sample", "Split", "plugins", "read_samples"]

plugins = Plugins(package=__name__, path=__path__, kind="data format")


def read_samples(root: Path, config: DataConfig, split: Split, *, seed: int) -> list[Sample]:
    """List the samples of one split, without opening an image.

    Where the source has no validation split of its own, `config.valid_fraction` of the training samples is held out,
    the same ones for the same seed. With `config.unmasked_is_background`, a sample of another class than the positive
    one that has no mask is known to have no foreground.

    Raises
    ------
    InputError
        If the split has no samples.
    """
    source = plugins.load(config.format)
    if split != "test" and not source.has_split(root, config, "valid"):
        samples = _without(config.exclude_groups, source.read(root, config, "train"))
        train, valid = holdout(
            [sample.label for sample in samples],
            [sample.group for sample in samples] if config.split_by == "group" else None,
            fraction=config.valid_fraction,
            seed=seed,
        )
        samples = [samples[index] for index in (train if split == "train" else valid)]
    else:
        samples = _without(config.exclude_groups, source.read(root, config, split))
    if not samples:
        raise InputError(
            f"the {split} split of {root} has no samples",
            remedy="check the lists, data.exclude_groups and data.valid_fraction of the config",
        )
    return _with_empty_truth(samples, config) if config.unmasked_is_background else samples


def _without(groups: tuple[str, ...], samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.group not in groups]


def _with_empty_truth(samples: list[Sample], config: DataConfig) -> list[Sample]:
    positive = config.classes.index(config.positive)
    return [
        replace(sample, background_only=True) if sample.mask is None and sample.label != positive else sample
        for sample in samples
    ]
