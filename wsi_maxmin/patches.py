"""The table of labelled patches: one row a patch, in ``patches.parquet``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wsi_maxmin.errors import InputError
from wsi_maxmin.labels import MIXED, NORMAL, TUMOUR, UNLABELLED, label_of

__all__ = [
    "MIXED",
    "NORMAL",
    "SCHEMA",
    "TABLE_NAME",
    "TUMOUR",
    "UNLABELLED",
    "PatchTable",
    "label_of",
    "make_rows",
    "read_patch_table",
    "write_patch_table",
]

TABLE_NAME = "patches.parquet"
SCHEMA_VERSION = "2"

SCHEMA = pa.schema(
    [
        ("patch_id", pa.string()),
        ("slide_id", pa.string()),
        ("patient_id", pa.string()),
        ("x", pa.int64()),
        ("y", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mpp", pa.float64()),
        ("patch_px", pa.int32()),
        ("label", pa.string()),
        ("slide_label", pa.string()),
        ("tissue_fraction", pa.float64()),
        ("tumour_fraction", pa.float64()),
        ("image_format", pa.string()),
        ("image_path", pa.string()),
        ("image_offset", pa.int64()),
        ("image_bytes", pa.int64()),
        ("mask_path", pa.string()),
        ("mask_offset", pa.int64()),
        ("mask_bytes", pa.int64()),
        ("split", pa.string()),
    ]
)
_SINCE_VERSION_2 = {"image_format": "png", "image_offset": 0, "image_bytes": -1, "mask_offset": 0, "mask_bytes": -1}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchTable:
    """Labelled patches of any number of slides.

    Attributes
    ----------
    rows : DataFrame
        One row a patch, sorted by slide_id, y, x. ``x, y, width, height`` are level-0 px (top-left corner), ``mpp`` is
        of the stored pixels, ``tumour_fraction`` is NaN without an annotation, paths are relative to the table's
        folder and empty where there is no file; the file's bytes from ``image_offset`` on, ``image_bytes`` of them (-1:
        all), are the image, also where the file is a shard of many. ``image_format`` is ``png``, ``jpeg``, ``raw-jpeg``
        (the slide's own tile) or ``none`` (to be read from the slide). ``slide_label`` says whether the slide holds
        tumour anywhere.
    facts : mapping
        Settings and slide fingerprints; no times.
    """

    rows: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if list(self.rows.columns) != SCHEMA.names:
            raise InputError("not a patch table", got=list(self.rows.columns), expected=SCHEMA.names)
        duplicated = self.rows["patch_id"][self.rows["patch_id"].duplicated()]
        if len(duplicated):
            raise InputError("patch ids are not unique", got=f"{len(duplicated)} repeated, first {duplicated.iloc[0]}")
        named = self.rows[self.rows["split"] != ""]
        splits = named.groupby("patient_id")["split"].nunique()
        if len(divided := splits[splits > 1]):
            raise InputError("a patient is in two splits", got=divided.index[0], expected="one split a patient")


def make_rows(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return records as rows of the table's columns and types, sorted."""
    rows = pa.Table.from_pylist(records, schema=SCHEMA).to_pandas()
    return rows.sort_values(["slide_id", "y", "x"], ignore_index=True)


def write_patch_table(path: Path, table: PatchTable) -> None:
    """Write a table; a file of that name is replaced only once the new one is whole."""
    metadata = {
        "wsi_maxmin.schema": SCHEMA_VERSION,
        "wsi_maxmin.facts": json.dumps(table.facts, sort_keys=True),
    }
    arrow = pa.Table.from_pandas(table.rows, schema=SCHEMA, preserve_index=False).replace_schema_metadata(metadata)
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(arrow, partial)
    partial.replace(path)


def read_patch_table(path: Path) -> PatchTable:
    """Read a table.

    Raises
    ------
    InputError
        If there is none, or it is of another kind.
    """
    if not path.is_file():
        raise InputError("no patch table", got=path, remedy="make one with `wsi-maxmin extract-patches`")
    try:
        arrow = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read", got=str(error), expected="a patch table") from None
    metadata = arrow.schema.metadata or {}
    rows = arrow.to_pandas()
    if metadata.get(b"wsi_maxmin.schema") == b"1":
        rows = rows.assign(**_SINCE_VERSION_2)[SCHEMA.names]
    return PatchTable(rows=rows, facts=json.loads(metadata.get(b"wsi_maxmin.facts", b"{}")))
