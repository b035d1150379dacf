"""The paper's figures, by what they plot and not by the files that appear."""

import json
import math
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError, MissingResultsError
from wsi_maxmin.figures import by_number, confusion, energies, pictures, region_sizes, sweeps, training_curves
from wsi_maxmin.figures._results import GLAS, METHODS, P512, Pictured, Results
from wsi_maxmin.figures._style import SMALLEST_PT, lines, look, rows_and_columns
from wsi_maxmin.pipelines.figures import draw_figures
from wsi_maxmin.run_results import RunResult, read_runs
from wsi_maxmin.runinfo import read_json

COMMITTED = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "glas"
EPOCHS = tuple(
    {"epoch": epoch, "loss_total": 1 / epoch, "loss_image": 0.5 / epoch, "loss_background": 2.0, "valid_accuracy": 50.0}
    for epoch in (1, 2, 3)
)
IMAGES = tuple(
    {
        "image": f"{index}.png",
        "label": GLAS.classes[index % 2],
        "predicted": GLAS.classes[0],
        "f1_foreground": 10.0 * index,
        "f1_background": None if index == 3 else 50.0,
        "predicted_fraction": index / 10,
        "true_fraction": index / 20,
    }
    for index in range(8)
)


def a_run(name="maxmin-sem", seed=0, *, data=GLAS, params=None, f1=60.0, split="valid", method="maxmin", **fields):
    """Return a finished, scored run; `fields` are those of RunResult, or None for scores."""
    settings = {
        "seed": seed,
        "data": {"classes": list(data.classes)},
        "augment": {"crop_px": 416},
        "model": {"name": method, "params": {"mask_norm": "image", **(params or {})}},
        "training": {"batch_size": 4},
    }
    scores = {
        "f1_foreground": f1, "f1_background": f1 + 5, "split": split, "threshold": 0.5, "label_source": "true",
        "pixel_confusion": [[0.75, 0.4], [0.25, 0.6]], "model": f"{name}:{seed}",
    }  # fmt: skip
    values = {
        "epochs": EPOCHS, "best_epoch": 2, "seconds": 1.0, "device": "cpu", "packages": {}, "scores": scores,
        "images": IMAGES, "folder": None,
    }  # fmt: skip
    return RunResult(name=name, seed=seed, settings=settings, **(values | fields))


def changed(f1=60.0, **values):
    """Return scores of a model with other parameters."""
    return {
        "changed": {f"model.params.{name}": of for name, of in values.items()},
        "f1_foreground": f1,
        "f1_background": 1,
        "model": "again",
    }


def gathered(folder, *runs):
    """Write runs as `gather_runs.py` leaves them."""
    folder.mkdir()
    kept = {}
    for run in runs:
        name = f"{run.name}-s{run.seed}"
        keys = ("settings", "best_epoch", "seconds", "device", "packages", "scores", "sweep")
        kept[name] = {key: getattr(run, key) for key in keys}
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, run.epochs)))
        rows = [
            ",".join(run.images[0]),
            *(",".join("" if v is None else str(v) for v in row.values()) for row in run.images),
        ]
        (folder / f"{name}.csv").write_text("\n".join(rows))
    (folder / "runs.json").write_text(json.dumps(kept))
    return folder


def drawn(module, number, *runs, **results):
    with look():
        return module.draw(number, Results(runs=runs, **results))


def panels(drawing):
    """Return the axes that have a title, by it."""
    return {axes.get_title(loc="left"): axes for axes in drawing.figure.axes if axes.get_title(loc="left")}


def curve(axes, name):
    (line,) = [line for line in axes.lines if line.get_label() == name]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def some_runs():
    """Return runs of which every figure of GlaS but the pictures can be drawn."""
    sweep = (changed(sigma=0.3), changed(sigma=0.1), changed(omega=2.0))
    return [
        a_run("cam-avg", method="cam"),
        a_run(f1=60.0, sweep=sweep),
        a_run(seed=1, f1=62.0),
        a_run("lambda-1", params={"background_weight": 1}, f1=70.0),
    ]


def fake_look(runs, split, names):
    soft = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    return [
        Pictured(
            name=name,
            image=np.full((24, 32, 3), 200, np.uint8),
            truth=soft > 0.7,
            masks={run.name: soft for run in runs},
            scores={run.name: (41.4, None) for run in runs},
        )
        for name in names
    ]


def with_model(run, tmp_path):
    folder = tmp_path / run.name
    folder.mkdir()
    (folder / "model.safetensors").touch()
    return replace(run, folder=folder)


def test_the_energies_are_the_closed_forms_and_level_at_one_half():
    drawing = drawn(energies, "3")
    values, slopes = drawing.figure.axes
    forms = {
        "SEM (Eq. 9)": (
            lambda p: -(np.log2(p) + np.log2(1 - p)) / 2,
            lambda p: (1 / (1 - p) - 1 / p) / (2 * math.log(2)),
        ),
        "EEM (Eq. 8)": (lambda p: p * np.log2(p) + (1 - p) * np.log2(1 - p), lambda p: np.log2(p / (1 - p))),
    }
    for name, (energy, slope) in forms.items():
        p, plotted = curve(values, name)
        np.testing.assert_allclose(plotted, energy(p), atol=1e-9)
        np.testing.assert_allclose(curve(slopes, name)[1], slope(p), atol=1e-6)
        middle = np.flatnonzero(p == 0.5)[0]
        assert plotted[middle] == plotted.min() == pytest.approx(1 if "SEM" in name else -1)
        assert curve(slopes, name)[1][middle] == pytest.approx(0, abs=1e-9)


def test_a_cell_says_its_score_and_with_several_seeds_their_mean_and_deviation():
    other = a_run(seed=1)
    other.scores["pixel_confusion"] = [[0.65, 0.5], [0.35, 0.5]]
    shown = panels(drawn(confusion, "5", a_run(), other, a_run("cam-avg", method="cam"), a_run("lambda-1")))
    assert list(shown) == ["CAM-Avg", "Max-Min SEM"]
    texts = {name: [text.get_text() for text in axes.texts] for name, axes in shown.items()}
    assert texts == {"CAM-Avg": ["75", "40", "25", "60"], "Max-Min SEM": ["70\n± 7", "45\n± 7", "30\n± 7", "55\n± 7"]}
    np.testing.assert_allclose(shown["Max-Min SEM"].images[0].get_array(), [[70, 45], [30, 55]])
    assert shown["CAM-Avg"].get_xlabel() == "true"
    # Predicted runs down and true runs across, background first, as in the scores.
    assert [text.get_position() for text in shown["CAM-Avg"].texts] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_every_point_of_the_region_sizes_is_a_row_of_the_images():
    axes = panels(drawn(region_sizes, "7", a_run()))["Max-Min SEM"]
    for label in GLAS.classes:
        rows = [row for row in IMAGES if row["label"] == label]
        true, predicted = curve(axes, label)
        assert true.tolist() == [row["true_fraction"] for row in rows]
        assert predicted.tolist() == [row["predicted_fraction"] for row in rows]


def test_with_seeds_a_point_is_their_mean_and_a_line_their_range():
    higher = tuple({**row, "predicted_fraction": row["predicted_fraction"] + 0.2} for row in reversed(IMAGES))
    axes = panels(drawn(region_sizes, "7", a_run(), a_run(seed=1, images=higher)))["Max-Min SEM"]
    true, predicted = curve(axes, "benign")
    np.testing.assert_allclose(predicted, 2 * true + 0.1)
    for (x, low), (same, high) in axes.collections[0].get_segments():
        assert (x, high - low) == (same, pytest.approx(0.2))


def test_thousands_of_images_are_one_picture_in_the_vector_file():
    many = tuple({**IMAGES[0], "image": str(index)} for index in range(501))
    points = {
        line.get_label(): line for line in panels(drawn(region_sizes, "7", a_run(images=many)))["Max-Min SEM"].lines
    }
    assert points["benign"].get_rasterized()
    assert not points["malignant"].get_rasterized()


def test_lambda_is_drawn_of_runs_that_differ_in_it_alone_on_a_sorted_logarithmic_axis():
    others = [
        a_run("s16-lambda-1", params={"background_weight": 1, "mask_norm": "running"}, f1=1),
        a_run("then", params={"background_weight": 1, "barrier_t": 10}, f1=1),
        a_run("tested", params={"background_weight": 1}, split="test", f1=1),
        a_run("cam-avg", method="cam", f1=1),
        a_run("lambda-1e-3", params={"background_weight": "1e-3"}, f1=50.0),
    ]
    drawing = drawn(sweeps, "10", *others, *some_runs())
    axes = panels(drawing)["λ, trained anew"]
    assert axes.get_xscale() == "log"
    values, scores = curve(axes, "F1+")
    assert values.tolist() == [1e-7, 1e-3, 1]
    assert scores.tolist() == [61, 50, 70]
    assert curve(axes, "F1−")[1].tolist() == [66, 55, 75]
    assert drawing.facts["lambda"]["1"] == ["lambda-1-s0"]
    assert drawing.left_out == ()


def test_sigma_and_omega_are_drawn_of_one_model_and_said_to_be():
    both = changed(sigma=0.2, omega=3.0)
    drawing = drawn(sweeps, "10", a_run(sweep=(changed(77.0, sigma=0.5), changed(sigma=-0.1), both)))
    shown = panels(drawing)
    sigma = shown["σ, one model re-evaluated"]
    assert curve(sigma, "F1+")[0].tolist() == [-0.1, 0.5]
    assert curve(sigma, "F1+")[1].tolist() == [60, 77]
    assert [line.get_xdata()[0] for line in sigma.lines if line.get_linestyle() == ":"] == [0.15]
    assert [text.get_text() for text in shown["ω, one model re-evaluated"].texts] == ["not run"]
    assert drawing.facts["re-evaluated"] == {"run": "maxmin-sem", "seed": 0, "model": "again"}
    assert len(drawing.left_out) == 2
    assert "λ: trained with one value alone; scripts/gpu_backlog.sh" in drawing.left_out[0]
    assert "ω: not evaluated; wsi-maxmin figures RUNS --only 10 --sweep" in drawing.left_out[1]


def test_the_results_of_this_repository_have_every_panel_of_the_sweeps():
    drawing = drawn(sweeps, "10", *read_runs([COMMITTED]))
    assert drawing.left_out == ()
    shown = panels(drawing)
    assert curve(shown["λ, trained anew"], "F1+")[0].tolist() == [1e-7, 1e-3, 1e-1, 1]
    sigma, scores = curve(shown["σ, one model re-evaluated"], "F1+")
    assert (sigma[0], sigma[-1], scores[-1]) == (0, 1, pytest.approx(0, abs=1e-3))
    # The F1+ of all ones on these images, by all images' true sizes.
    sizes = [row["true_fraction"] for row in read_runs([COMMITTED])[0].images]
    assert scores[0] == pytest.approx(np.mean([200 * size / (1 + size) for size in sizes]), abs=1e-6)
    assert np.ptp(curve(shown["ω, one model re-evaluated"], "F1−")[1]) < 1e-3


def test_the_value_that_a_model_was_trained_with_is_the_one_that_training_ended_with():
    params = {"sigma": 0.15, "sigma_step": 0.02, "sigma_cap": 0.18}
    axes = panels(drawn(sweeps, "10", a_run(params=params, sweep=(changed(sigma=0.5),))))["σ, one model re-evaluated"]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"] == [0.18]


def test_training_curves_are_the_lines_of_the_metrics():
    second = tuple({**epoch, "loss_total": epoch["loss_total"] + 1} for epoch in EPOCHS)
    losses, accuracy, *_ = drawn(training_curves, "B.1", a_run(), a_run(seed=1, epochs=second)).figure.axes
    epochs, total = curve(losses, "loss_total")
    assert epochs.tolist() == [1, 2, 3]
    np.testing.assert_allclose(total, [1.5, 1, 1 / 3 + 0.5])
    assert curve(losses, "loss_image")[1].tolist() == [epoch["loss_image"] for epoch in EPOCHS]
    assert curve(accuracy, "valid_accuracy")[1].tolist() == [50, 50, 50]


def test_one_term_is_drawn_once():
    epochs = tuple({"epoch": 1, "loss_total": 2.0, "loss_image": 2.0, "valid_accuracy": 50.0} for _ in range(1))
    drawing = drawn(training_curves, "B.1", a_run("cam-avg", epochs=epochs), a_run("grad-cam", epochs=epochs))
    assert [method["run"] for method in drawing.facts["methods"]] == ["cam-avg"]  # whose model grad-cam reads
    losses = drawing.figure.axes[0]
    assert [line.get_label() for line in losses.lines] == ["loss_total"]


def test_images_are_chosen_at_even_steps_of_their_score_and_the_two_figures_share_none():
    # Means: 0.png 25, 1.png 30, 2.png 35, 3.png 30 by its foreground alone, 4.png 45, …
    order = ["0.png", "1.png", "3.png", "2.png", "4.png", "5.png", "6.png", "7.png"]
    chosen = {number: pictures.choose(pictures.CHOICES[number], a_run()) for number in ("9", "11")}
    assert chosen["9"] == [order[index] for index in (0, 3, 6)]
    assert chosen["11"] == [order[index] for index in (2, 4, 7)]
    patches = tuple({**row, "label": P512.classes[index % 2]} for index, row in enumerate(IMAGES))
    tumour = pictures.choose(pictures.CHOICES["12"], a_run(data=P512, images=patches))
    assert tumour == ["1.png", "5.png", "7.png"]
    assert pictures.choose(pictures.CHOICES["13"], a_run(images=IMAGES)) == []


def test_pictures_show_image_truth_and_each_mask_with_its_threshold(tmp_path):
    kept = with_model(a_run(), tmp_path)
    kept.scores["threshold"] = 0.25
    drawing = drawn(pictures, "9", kept, a_run("cam-avg", method="cam"), look=fake_look)
    first = drawing.figure.axes[:3]
    assert [axes.get_title(loc="left") for axes in first] == ["0.png", "truth", "Max-Min SEM\n41 / –"]
    image, truth, mask = (axes.images[0].get_array() for axes in first)
    expected = fake_look([kept], "valid", ["0.png"])[0]
    np.testing.assert_array_equal(image, expected.image)
    np.testing.assert_array_equal(truth, expected.truth)
    np.testing.assert_array_equal(mask, expected.masks["maxmin-sem"])
    (contour,) = first[2].collections
    assert contour.levels.tolist() == [0.25]
    assert re.search("CAM-Avg.*: no model; wsi-maxmin reproduce glas", drawing.left_out[0])
    assert drawing.facts["images"] == ["0.png", "2.png", "6.png"]


def test_a_long_name_keeps_to_its_panel(tmp_path):
    names = [f"tumor_016_level_0_{index}_x_105984_y_77312_mpp_0.243_fraction_0.51.png" for index in range(8)]
    images = tuple({**row, "image": name} for row, name in zip(IMAGES, names, strict=True))
    runs = [with_model(a_run(name, images=images), tmp_path) for name in METHODS]
    drawing = drawn(pictures, "9", *runs, look=fake_look)
    drawing.figure.draw_without_rendering()
    axes, *_ = drawing.figure.axes
    title = axes.get_title(loc="left")
    assert title == "tumor_016_lev…\nction_0.51.png"
    (shown,) = [text for text in axes.findobj(Text) if text.get_text() == title]
    assert shown.get_window_extent().width <= axes.get_window_extent().width
    assert drawing.facts["images"][0] in names


def test_scores_of_the_test_split_go_before_those_of_validation():
    methods, split = Results(runs=[a_run(), a_run("cam-avg", split="test"), a_run("u-net", scores=None)]).scored(GLAS)
    assert ([method.name for method in methods], split) == (["cam-avg"], "test")


def test_patches_of_another_size_are_not_those_of_the_paper():
    run = a_run(data=P512)
    assert P512.holds(run)
    assert not GLAS.holds(run)
    run.settings["augment"]["crop_px"] = 224
    assert not P512.holds(run)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        ("6", r"no scored run of the paper's methods on Camelyon16-P512; wsi-maxmin reproduce camelyon16-p512 --data"),
        ("8", "wsi-maxmin reproduce camelyon16-p512 --data DIR --out RUNS"),
        ("9", "no model of GlaS was kept; got scores of cam-avg, maxmin-sem alone"),
        ("10", r"no results at other λ, σ or ω on GlaS; λ: .*gpu_backlog.*σ: .*--sweep.*ω: .*--sweep"),
        ("12", "wsi-maxmin reproduce camelyon16-p512"),
        ("B.2", "no run of the paper's methods on Camelyon16-P512"),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_makes_it(number, says):
    with pytest.raises(MissingResultsError, match=says):
        drawn(by_number()[number], number, a_run(), a_run("cam-avg", method="cam"))


def test_without_runs_every_figure_but_the_analytic_one_names_its_command():
    for number, module in by_number().items():
        if number != "3":
            with pytest.raises(MissingResultsError, match="wsi-maxmin reproduce"):
                drawn(module, number)


def test_pictures_without_data_ask_for_them(tmp_path):
    with pytest.raises(
        MissingResultsError, match="pictures need the images; wsi-maxmin figures RUNS --only 9 --data DIR"
    ):
        drawn(pictures, "9", with_model(a_run(), tmp_path))


def test_figures_come_in_the_papers_order():
    assert list(by_number()) == ["3", "5", "6", "7", "8", "9", "10", "11", "12", "13", "B.1", "B.2"]


@pytest.mark.parametrize(
    "number", ["3", "5", "7", "10", *(pytest.param(number, marks=pytest.mark.slow) for number in ("9", "B.1"))]
)
def test_text_is_large_enough_for_print_and_lies_inside_the_figure(number, tmp_path):
    every = [
        replace(a_run(name, method="cam"), seed=seed) for name in METHODS for seed in (0, 1) if name != "maxmin-sem"
    ]
    runs = [*every, *some_runs()[1:]] if number != "9" else [with_model(run, tmp_path) for run in every if not run.seed]
    with look():
        figure = by_number()[number].draw(number, Results(runs=runs, look=fake_look)).figure
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        assert len(texts) > 5
        for text in texts:
            assert text.get_fontsize() >= SMALLEST_PT, text
            box = text.get_window_extent(renderer)
            inside = box.x0 > -1 and box.y0 > -1 and box.x1 < figure.bbox.x1 + 1 and box.y1 < figure.bbox.y1 + 1
            hidden = not figure.bbox.overlaps(box) or (text.axes is not None and not _ticks_in_view(text))
            assert inside or hidden, (text, box)


def _ticks_in_view(text):
    """Say whether a label is not that of a tick beyond its axis."""
    axes = text.axes
    shown = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    return text not in shown


@pytest.mark.parametrize(
    ("panels", "expected"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 3)), (6, (2, 3)), (9, (3, 3)), (12, (3, 4))]
)
def test_panels_are_shared_out_evenly(panels, expected):
    assert rows_and_columns(panels, 4) == expected


def test_lines_differ_in_dashes_and_in_colours_and_in_brightness():
    styles = list(islice(lines(), 6))
    assert len({str(style["linestyle"]) for style in styles}) == len({style["color"] for style in styles}) == 6
    # F1+ and F1− and the two classes are told apart in grey by their marks, and by their brightness too.
    first, second = (np.dot(to_rgba(style["color"])[:3], (0.2126, 0.7152, 0.0722)) for style in styles[:2])
    assert abs(first - second) > 0.04


@pytest.mark.slow
def test_the_same_results_are_the_same_bytes(tmp_path, monkeypatch):
    runs = gathered(tmp_path / "runs", *some_runs())
    drawn_once = draw_figures([runs], tmp_path / "one", dpi=60)
    # The user's own settings change nothing, neither does what was drawn before.
    monkeypatch.setitem(__import__("matplotlib").rcParams, "font.size", 20)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    draw_figures([runs], tmp_path / "two", dpi=60, only=["10", "B.1", "7", "5", "3"])
    names = sorted(path.name for path in (tmp_path / "two").iterdir() if path.name != "figures.json")
    assert names == sorted(name for figure in drawn_once for name in figure.files)
    assert len(names) == 10
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    facts = read_json(tmp_path / "one" / "figures.json")
    assert facts["7"]["methods"][1]["seeds"] == [0, 1]
    assert facts["8"]["missing"].startswith("no scored run")


def test_the_command_draws_what_it_can_and_says_what_it_cannot(tmp_path):
    runs = gathered(tmp_path / "runs", a_run())
    call = [str(runs), "--out", str(tmp_path / "out"), "--dpi", "60"]
    result = CliRunner().invoke(group, ["figures", *call])
    assert result.exit_code == 0, result.output
    assert "  5  figure-5.pdf figure-5.png" in result.stdout
    assert "  8  not drawn" in result.stdout
    assert "figure 8: no scored run of the paper's methods on Camelyon16-P512; wsi-maxmin reproduce" in result.stderr
    assert "figure 5: left out: All ones, PN, ERASE" in result.stderr
    named = CliRunner().invoke(group, ["figures", *call, "--only", "b.2, 3"])
    assert named.exit_code == 2
    assert [line.split()[0] for line in named.stdout.splitlines()] == ["B.2", "3"]


def test_a_sweep_without_its_model_leaves_out_what_it_would_have_made_alone(tmp_path):
    others = gathered(tmp_path / "others", a_run("cam-avg", method="cam"))
    call = ["--out", str(tmp_path / "out"), "--dpi", "60", "--sweep", "--data", str(tmp_path), "--only", "3,10"]
    why = "no scored run of Max-Min SEM on GlaS with its model; give the folder that its training wrote, or wsi-maxmin"
    drawn_of = {}
    for number, code in (("10", 2), ("3", 0)):
        result = CliRunner().invoke(group, ["figures", str(others), *call[:-1], number])
        assert result.exit_code == code, result.output
        assert why in result.stderr
        drawn_of |= {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()}
    assert drawn_of == {"10": "not", "3": "figure-3.pdf"}
    # Of runs without models the panel of λ is there all the same.
    kept = gathered(tmp_path / "kept", *(replace(run, sweep=()) for run in some_runs()))
    result = CliRunner().invoke(group, ["figures", str(kept), *call])
    assert result.exit_code == 0, result.output
    assert f"figure 10: left out: {why}" in result.stderr


def test_a_number_that_is_no_figures_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such figure; got 4; expected some of 3, 5, .*B\.2"):
        draw_figures([], tmp_path, only=["4"])


def test_a_file_damaged_in_a_run_is_no_missing_result(tmp_path):
    runs = gathered(tmp_path / "runs", a_run())
    (runs / "runs.json").write_text("{")
    result = CliRunner().invoke(group, ["figures", str(runs), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "runs.json is damaged" in result.stderr
