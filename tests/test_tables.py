"""One table in three forms: the same numbers, nothing that LaTeX or Markdown would take for its own."""

import csv
import io
import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_maxmin.tables import Column, Spread, Table, escape_latex, write_tables

TABLE = Table(
    name="table9",
    title="A & B",
    columns=(
        Column(title="row"),
        Column(title="n"),
        Column(title="F1−", spread=True),
        Column(title="seconds", decimals=4),
    ),
    rows=(
        ("one|two", 11_335_252, Spread.of([59.0, 61.0]), 0.25),
        ("50 % of a_b", None, Spread.of([7.125]), 2.0),
        ("none", "not run", None, None),
    ),
    legend="Means of `some_runs`.",
    notes_title="Know:",
    notes=("λ is 1e-7 & small.",),
)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=9))
def test_the_deviation_is_that_of_a_sample(values):
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(sum(values) / len(values))
    assert (spread.sd, spread.count) == (statistics.stdev(values), len(values))


def test_one_measurement_has_no_deviation():
    assert Spread.of([3.0]) == Spread(mean=3.0, sd=None, count=1)


def test_markdown_has_title_legend_rows_and_notes():
    assert TABLE.markdown() == (
        "## A & B\n\nMeans of `some_runs`.\n\n| row | n | F1− | seconds |\n|---|---|---|---|\n"
        "| one\\|two | 11,335,252 | 60.00 ± 1.41 | 0.2500 |\n"
        "| 50 % of a_b | – | 7.12 | 2.0000 |\n"
        "| none | not run | – | – |\n"
        "\nKnow:\n\n- λ is 1e-7 & small.\n"
    )


def test_csv_has_plain_numbers_and_deviations_of_their_own():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [
        ["row", "n", "F1−", "F1− sd", "seconds"],
        ["one|two", "11335252", "60.00", "1.41", "0.2500"],
        ["50 % of a_b", "", "7.12", "", "2.0000"],
        ["none", "not run", "", "", ""],
    ]


def test_latex_is_a_booktabs_table_with_everything_escaped():
    lines = TABLE.latex().splitlines()
    assert lines[0] == r"% \usepackage{booktabs}"
    assert r"\caption{A \& B}" in lines
    assert r"\begin{tabular}{llrr}" in lines
    assert r"row & n & F1$-$ & seconds \\" in lines
    assert r"one|two & 11,335,252 & 60.00 $\pm$ 1.41 & 0.2500 \\" in lines
    assert r"50 \% of a\_b & -- & 7.12 & 2.0000 \\" in lines
    assert r"Means of \texttt{some\_runs}.\par" in lines
    assert r"$\lambda$ is 1e-7 \& small.\par" in lines
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]


@given(st.text())
def test_no_sign_of_latex_is_left_bare(text):
    escaped = escape_latex(text)
    for command in (r"\\(textbackslash|textasciitilde|textasciicircum|ldots)\{\}", r"\$\\?[a-z-]+\$", r"\\[&%$#_{}]"):
        escaped = re.sub(command, "", escaped)
    assert not re.search(r"[\\&%$#_{}~^±−×]", escaped)


def test_the_three_forms_have_the_same_numbers():
    def numbers(text):
        return re.findall(r"\d+\.\d+", text.replace(",", " "))

    body = TABLE.latex().partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    assert numbers(TABLE.markdown().partition("|---|")[2]) == numbers(TABLE.csv()) == numbers(body)


def test_a_row_has_a_cell_a_column():
    with pytest.raises(ValueError, match="a row of 1 columns has 2 cells"):
        Table(name="t", title="t", columns=(Column(title="a"),), rows=(("x", "y"),))


def test_the_files_are_written_whole(tmp_path):
    files = write_tables(tmp_path / "tables", [TABLE])
    assert [file.name for file in files] == ["table9.md", "table9.csv", "table9.tex"]
    assert [file.read_text(encoding="utf-8") for file in files] == [TABLE.markdown(), TABLE.csv(), TABLE.latex()]
    assert sorted(files) == sorted((tmp_path / "tables").iterdir())
