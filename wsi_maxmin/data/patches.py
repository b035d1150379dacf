"""Samples from a folder that ``extract-patches`` made: its ``patches.parquet``."""

from pathlib import Path

from wsi_maxmin.config import DataConfig
from wsi_maxmin.data._samples import Sample, Split, class_index
from wsi_maxmin.patches import TABLE_NAME, read_patch_table


def has_split(root: Path, config: DataConfig, split: Split) -> bool:  # noqa: ARG001 - a source's form
    """Say whether the table's own ``split`` column names the split."""
    return bool((read_patch_table(root / TABLE_NAME).rows["split"] == split).any())


def read(root: Path, config: DataConfig, split: Split) -> list[Sample]:
    """Read the patches whose label is one of the config's classes; others (mixed, unlabelled) are left out.

    A table whose ``split`` is empty everywhere belongs to the training split.
    """
    table = read_patch_table(root / TABLE_NAME).rows
    table = table[table["label"].isin(config.classes)]
    unsplit = bool((table["split"] == "").all())
    table = table[table["split"].isin([split, *([""] if unsplit and split == "train" else [])])]
    return [
        Sample(
            image=root / row.image_path,
            mask=root / row.mask_path if row.mask_path else None,
            label=class_index(row.label, config.classes, row.patch_id),
            group=row.patient_id,
            background_only=not row.mask_path and row.tumour_fraction == 0,
        )
        for row in table.itertuples()
    ]
