"""Reading tables that people write by hand."""

import gzip
from pathlib import Path

import pytest

from wsi_maxmin.csvs import read_csv_rows, read_table
from wsi_maxmin.errors import InputError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def test_columns_may_come_in_any_order_and_optional_ones_may_be_absent(table: Path) -> None:
    table.write_text("mpp,slide\n 0.25 ,a.svs\n\n,b.svs\n")
    rows = read_table(table, required=["slide"], optional=["mpp", "patient_id"])
    assert rows == [
        {"slide": "a.svs", "mpp": "0.25", "patient_id": ""},
        {"slide": "b.svs", "mpp": "", "patient_id": ""},
    ]
    assert [row.where for row in rows] == [f"{table}, line 2", f"{table}, line 4"]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("zipped", [False, True])
def test_line_ends_byte_order_mark_and_gzip_make_no_difference(tmp_path: Path, ends: str, zipped: bool) -> None:
    data = ends.join(["slide", '"a, b"', ""]).encode("utf-8-sig")
    path = tmp_path / ("t.csv.gz" if zipped else "t.csv")
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert read_table(path, required=["slide"]) == [{"slide": "a, b"}]
    assert read_csv_rows(path) == [["slide"], ["a, b"]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"table\.csv is empty; expected the header slide,split\[,mpp\]"),
        ("slide,split,colour\n", r"unknown column; got 'colour'; expected the header slide,split\[,mpp\]"),
        ("slide;split\n", r"unknown column; got 'slide;split'; expected the header slide,split"),
        ("slide,split,slide\n", "column there twice; got 'slide'"),
        ("slide,mpp\na,1\n", "no column 'split'; got slide,mpp; expected the header slide,split"),
        ("slide,split\na,test\n\nb\n", r"table\.csv, line 4: malformed row; got b; expected 2 cells"),
        ("slide,split\na,test,\n", r"line 2: malformed row; got a,test,; expected 2 cells"),
        ("slide,split\na,\n", r"line 2: no split; got a,; expected slide,split"),
    ],
)
def test_a_mistake_is_named_by_file_and_line(table: Path, text: str, says: str) -> None:
    table.write_text(text)
    with pytest.raises(InputError, match=says):
        read_table(table, required=["slide", "split"], optional=["mpp"])


@pytest.mark.parametrize(
    ("name", "data"),
    [("t.csv", b"\xff\xfe\x00"), ("t.csv.gz", b"slide\n"), ("t.csv.gz", gzip.compress(b"slide", mtime=0)[:-9])],
)
def test_what_is_no_text_is_one_error(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=r"a table cannot be read; got .*t\.csv.* expected UTF-8 text"):
        read_table(tmp_path / name, required=["slide"])


def test_a_cell_longer_than_any_slide_name_is_one_error(table: Path) -> None:
    table.write_text("slide\n" + "x" * 200_000)
    with pytest.raises(InputError, match="a table cannot be read"):
        read_table(table, required=["slide"])


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such table; got .*gone\.csv"):
        read_table(tmp_path / "gone.csv", required=["slide"])
    with pytest.raises(InputError, match="no such list of samples"):
        read_csv_rows(tmp_path / "gone.csv")
