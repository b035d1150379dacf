"""The paper's figures, and runs beside them: what is shown as what, and what is said to differ."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_configs import PARAMETERS
from wsi_maxmin.config import list_configs, load_config
from wsi_maxmin.errors import InputError
from wsi_maxmin.paper import (
    PROTOCOLS,
    inference_table,
    load_inference,
    load_protocol,
    load_scores,
    score_table,
    what_differs,
)
from wsi_maxmin.run_results import RunResult, read_runs
from wsi_maxmin.tables import Spread

COMMITTED = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "glas"
GLAS = load_protocol("glas")
SCORES = {
    "error": 0.0, "samples": 80, "f1_foreground": 70.0, "f1_background": 60.0, "predicted_fraction": 0.5,
    "true_fraction": 0.49, "split": "test", "label_source": "true", "threshold": 0.5,
}  # fmt: skip


def run_of(row, *changes, seed=0, epochs=None, scores=SCORES, protocol=GLAS):
    """Return a finished run of a row, as the paper did it but for what is changed."""
    lists = [f"data.{split}={path}" for split, path in protocol.lists if path is not None]
    config = load_config(protocol.config_of(row), [*lists, f"seed={seed}", *changes])
    return RunResult(
        name=row,
        seed=seed,
        settings={"command": "train", **config.identity()},
        epochs=tuple({"epoch": index + 1} for index in range(epochs or config.training.epochs)),
        best_epoch=1,
        seconds=1.0,
        device="cuda",
        packages={"torch": "2.11.0"},
        scores=scores,
        images=None,
        folder=None,
    )


def cells(table, title):
    return [row for row in table.rows if row[0] == title]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_row_of_every_table_is_run_and_has_a_config(name):
    protocol = load_protocol(name)
    rows = {row.run for table in protocol.tables for row in load_scores(table).rows}
    assert rows == {ordered.run for ordered in protocol.order}
    assert {protocol.config_of(row) for row in rows} <= set(list_configs())
    sources = {ordered.weights_of for ordered in protocol.order if ordered.weights_of}
    assert sources == {"cam-avg"}


def test_a_row_comes_after_the_one_whose_weights_it_takes_also_where_it_alone_is_named():
    for name in PROTOCOLS:
        assert [ordered.run for ordered in load_protocol(name).choose(("grad-cam",))] == ["cam-avg", "grad-cam"]
    assert GLAS.choose(None) == GLAS.order
    with pytest.raises(InputError, match="no such row; got sem; expected some of all-ones, maxmin-sem"):
        GLAS.choose(("sem", "pn"))


def test_the_published_figures_are_the_paper_s():
    published = {name: {row.run: row for row in load_scores(name).rows} for name in ("table1", "table2", "table4")}
    assert [len(rows) for rows in published.values()] == [12, 12, 5]
    sem = published["table1"]["maxmin-sem"]
    assert (sem.error, sem.f1_foreground, sem.f1_background) == (0, 71.94, 69.23)
    for row in ("maxmin-sem", "maxmin-eem"):
        one, other = published["table1"][row], published["table4"][row]
        assert (one.error, one.f1_foreground, one.f1_background) == (
            other.error, other.f1_foreground, other.f1_background
        )  # fmt: skip
    # By the labels and masks alone: what is published of all ones is what all ones must score.
    assert published["table1"]["all-ones"].f1_foreground == pytest.approx(66.015, abs=0.01)
    assert published["table2"]["all-ones"].f1_foreground == pytest.approx(59.4406, abs=0.01)
    assert published["table2"]["maxmin-eem"].error == 6.26
    assert published["table1"]["pn"].error is None


def test_the_published_numbers_of_parameters_are_those_of_the_configs():
    for row in load_inference().rows:
        assert row.parameters == PARAMETERS[row.config.partition("/")[2]], row.title


def test_seeds_are_a_mean_and_a_deviation_and_what_is_missing_is_said():
    runs = [run_of("maxmin-sem", seed=seed, scores=SCORES | {"f1_foreground": 69.0 + seed}) for seed in range(3)]
    table = score_table("table1", GLAS, [*runs, run_of("pn", scores=None)])
    (sem,) = cells(table, "Max-Min, SEM")
    assert sem[1:3] == ("0, 1, 2", "80 test")
    assert sem[4] == Spread(mean=70.0, sd=1.0, count=3)
    assert sem[6:] == (50.0, 0.0, 71.94, 69.23)
    assert cells(table, "PN")[0][1:7] == ("not scored", None, None, None, None, None)
    assert cells(table, "U-Net")[0][1] == "not run"
    assert len(table.rows) == 12
    assert "49.0 in the truth of the test images" in table.legend


def test_scores_of_other_images_are_never_averaged_with_them():
    other = SCORES | {"split": "valid", "samples": 18, "f1_foreground": 10.0}
    table = score_table("table1", GLAS, [run_of("maxmin-sem"), run_of("maxmin-sem", seed=1, scores=other)])
    rows = [(row[1], row[2], row[4].mean) for row in cells(table, "Max-Min, SEM")]
    assert rows == [("0", "80 test", 70.0), ("1", "18 valid", 10.0)]
    (said,) = [note for note in table.notes if "validation" in note]
    assert "18 validation images, which also choose the epoch" in said
    assert said.endswith("they do not compare: Max-Min, SEM (seed 1).")


def test_a_method_without_classes_has_no_error():
    table = score_table("table1", GLAS, [run_of("pn", scores=SCORES | {"error": None})])
    assert cells(table, "PN")[0][3] is None


def test_a_run_as_published_differs_in_nothing_but_the_weights_that_nobody_ships():
    rows = {"SEM": [run_of("maxmin-sem")], "U-Net": [run_of("u-net")]}
    weights, seeds, made = what_differs(rows, GLAS)
    assert weights == "The encoder starts from random weights, the paper's from those of ImageNet: SEM."
    assert seeds.startswith("Seeds a row: 1;")
    assert made == "Trained on cuda with torch 2.11.0."
    (seeds, made) = what_differs({"Avg": [run_of("cam-avg")]}, GLAS)
    assert what_differs({"Avg": []}, GLAS) == ()


@pytest.mark.parametrize(
    ("changes", "epochs", "scores", "said"),
    [
        (["training.repeat=1"], None, {}, "`training.repeat` is 1, not 8 as in the config of the row"),
        ([], 12, {}, "`training.epochs` is 12, not 160 as in the config of the row"),
        (["model.params.mask_rule=positive"], None, {}, "`model.params.mask_rule` is positive, not unset as"),
        (["data.valid=null"], None, {}, "`data.valid` is unset, not folds/valid.csv as"),
        (["encoder=efficientnet-lite0"], None, {}, "`model.encoder` is (efficientnet_lite0, weights package:"),
        (["model.encoder.options.output_stride=16"], None, {}, "(resnet18, output_stride=16, weights hub), not (res"),
        ([], None, {"threshold": 0.4}, "Masks are binarised at 0.4, the paper's at 0.5"),
        ([], None, {"label_source": "predicted"}, "are those of the predicted label, the paper's of the true one"),
        ([], None, {"label_source": "none"}, "are those of the positive label, the paper's of the true one"),
        ([], None, {"samples": 60}, "Scored on 60 test images; the paper's figures are of its 80"),
        ([], None, {"split": "train"}, "Scored on 80 images that were learnt from"),
    ],
)
def test_each_difference_is_said(changes, epochs, scores, said):
    run = run_of("cam-avg", *changes, epochs=epochs, scores=SCORES | scores)
    notes = what_differs({"CAM-Avg": [run], "All ones": [replace(run_of("all-ones"), epochs=())]}, GLAS)
    assert any(said in note for note in notes), notes


def test_dropping_a_parameter_that_the_config_sets_is_a_difference():
    run = run_of("maxmin-fg")
    model = {**run.settings["model"], "params": {"background": "none", "barrier": False}}
    notes = what_differs({"FG": [replace(run, settings={**run.settings, "model": model})]}, GLAS)
    assert any(note.startswith("`model.params.mask_norm` is unset, not image") for note in notes)


def test_the_committed_results_give_the_figures_of_the_documentation():
    """The first table of docs/reproduction.md, before it was made by the command."""
    runs = read_runs([COMMITTED])
    table = score_table("table1", GLAS, runs)
    shown = [line.split(" | ")[:7] for line in table.markdown().splitlines() if "18 valid" in line]
    got = {line[0].removeprefix("| "): line[1:] for line in shown}
    assert got["CAM-Avg"] == ["0", "18 valid", "0.00", "64.17", "21.41", "88.1"]
    assert got["WILDCAT"] == ["0", "18 valid", "0.00", "61.95", "25.84", "81.8"]
    assert got["Deep MIL"] == ["0", "18 valid", "0.00", "57.27", "15.21", "85.6"]
    sem = ["0, 1, 2", "18 valid", "0.00 ± 0.00", "59.31 ± 1.54", "64.89 ± 2.27", "39.3"]
    assert got["Max-Min, SEM"] == sem
    ablation = score_table("table4", GLAS, runs).markdown()
    assert "| FG | 0 | 18 valid | 0.00 | 59.85 | 63.65 | 42.0 |" in ablation
    assert f"| FG + SEM + ASC | {' | '.join(sem)} |" in ablation
    assert "| FG + EEM | not run |" in ablation
    assert any(note.startswith("`training.repeat` is 1, not 8") for note in table.notes)


def test_inference_times_stand_beside_the_paper_s_or_are_said_to_be_missing():
    parameters = {row.config: row.parameters for row in load_inference().rows}
    table = inference_table(parameters, None)
    (avg,) = cells(table, "CAM-Avg")
    assert avg[:-1] == ("CAM-Avg", 11_177_538, "not measured", "not measured", None, 11_177_538, 0.33)
    assert avg[-1] == pytest.approx(0.33 / 0.019)
    assert table.notes == ("No time was measured.",)
