"""The table of patches, through a file and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsi_maxmin.errors import InputError
from wsi_maxmin.patches import SCHEMA, PatchTable, label_of, make_rows, read_patch_table, write_patch_table


def record(slide_id: str = "s", x: int = 0, y: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "patch_id": f"{slide_id}_{x}_{y}",
        "slide_id": slide_id,
        "patient_id": slide_id,
        "x": x,
        "y": y,
        "width": 64,
        "height": 64,
        "mpp": 0.5,
        "patch_px": 32,
        "label": "normal",
        "slide_label": "normal",
        "tissue_fraction": 0.5,
        "tumour_fraction": float("nan"),
        "image_path": "a.png",
        "mask_path": "",
        "split": "",
        **changes,
    }


def test_rows_have_the_schemas_columns_and_are_sorted_by_slide_y_and_x() -> None:
    rows = make_rows([record("b"), record("a", 5, 5), record("a", 9, 0), record("a", 0, 5)])
    assert list(rows.columns) == SCHEMA.names
    assert rows["patch_id"].tolist() == ["a_9_0", "a_0_5", "a_5_5", "b_0_0"]
    assert rows.index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("records", [[record(), record("t", split="train")], []])
def test_a_table_comes_back_as_it_was_written(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    path = tmp_path / "patches.parquet"
    before = PatchTable(rows=make_rows(records), facts={"settings": {"mpp": None}, "slides": {"s": 1}})
    write_patch_table(path, before)
    after = read_patch_table(path)
    pd.testing.assert_frame_equal(after.rows, before.rows)
    assert after.facts == before.facts
    assert [file.name for file in tmp_path.iterdir()] == ["patches.parquet"]
    assert pq.read_schema(path).field("x").type == pa.int64()


def test_the_same_table_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_patch_table(tmp_path / name, PatchTable(rows=make_rows([record()]), facts={"b": 1, "a": 2}))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    write_patch_table(path, PatchTable(rows=make_rows([record()])))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_patch_table(path, PatchTable(rows=make_rows([]), facts={"not": {"json"}}))
    assert path.read_bytes() == before


def test_a_repeated_patch_id_is_named() -> None:
    with pytest.raises(InputError, match="not unique; got 1 repeated, first s_0_0"):
        PatchTable(rows=make_rows([record(), record(), record("t")]))


def test_a_patient_in_two_splits_is_named() -> None:
    pair = [record("s", split="train", patient_id="p"), record("t", split="valid", patient_id="p")]
    with pytest.raises(InputError, match="a patient is in two splits; got p;"):
        PatchTable(rows=make_rows(pair))


def test_a_patient_may_have_patches_that_are_in_no_split() -> None:
    pair = [record("s", split="train", patient_id="p"), record("t", split="", patient_id="p")]
    assert len(PatchTable(rows=make_rows(pair)).rows) == 2


@pytest.mark.parametrize(
    ("tumour_fraction", "label"),
    [(np.nan, "unlabelled"), (0.0, "normal"), (0.001, "mixed"), (0.1999, "mixed"), (0.2, "tumor"), (1.0, "tumor")],
)
def test_a_label_follows_from_the_share_of_tumour(tumour_fraction: float, label: str) -> None:
    assert label_of(tumour_fraction, 0.2) == label


def test_a_patch_without_any_tumour_is_normal_even_if_no_tumour_is_asked_for() -> None:
    assert label_of(0.0, 0.0) == "normal"
    assert label_of(1e-6, 0.0) == "tumor"


def test_a_missing_table_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no patch table; got .*make one with `wsi-maxmin extract-patches`"):
        read_patch_table(tmp_path / "patches.parquet")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "text.parquet", tmp_path / "other.parquet"
    text.write_text("patches")
    pq.write_table(pa.table({"a": [1]}), other)
    with pytest.raises(InputError, match=r"text\.parquet cannot be read; .*expected a patch table"):
        read_patch_table(text)
    with pytest.raises(InputError, match=r"not a patch table; got \['a'\]"):
        read_patch_table(other)
