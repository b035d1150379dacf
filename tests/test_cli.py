"""Every command through the real group: what it prints, writes and returns."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import zarr
from click.testing import CliRunner
from PIL import Image

from wsi_maxmin import __version__
from wsi_maxmin.cli import group, plugins
from wsi_maxmin.cli._progress import LineProgress, TerminalProgress

pytestmark = pytest.mark.usefixtures("one_thread")

XML = """<?xml version="1.0"?><ASAP_Annotations><Annotations>
<Annotation Name="a" Type="Polygon" PartOfGroup="{group}"><Coordinates>
<Coordinate Order="0" X="256" Y="128"/><Coordinate Order="1" X="512" Y="128"/>
<Coordinate Order="2" X="512" Y="512"/><Coordinate Order="3" X="256" Y="512"/>
</Coordinates></Annotation></Annotations></ASAP_Annotations>"""


@pytest.fixture
def run():
    def invoke(*arguments, code=0):
        result = CliRunner().invoke(group, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.mark.parametrize("command", plugins.names())
def test_the_help_of_every_command_shows_an_example_of_it(run, command):
    text = run(command, "--help").output
    assert f"Example: wsi-maxmin {command}" in text


@pytest.mark.parametrize("command", ["extract-patches", "infer-slide"])
def test_resume_and_overwrite_exclude_each_other(run, command, tmp_path):
    result = run(command, "a.tif", "--out", tmp_path / "out", "--resume", "--overwrite", code=2)
    assert "exclude each other" in result.output


def test_the_version_comes_from_one_place(run):
    assert run("--version").output.strip() == f"wsi-maxmin, version {__version__}"


def test_info_prints_a_table_or_json(run, tissue_slide):
    facts = json.loads(run("info", tissue_slide, "--json").output)
    assert (facts["size_px"], facts["mpp"]) == ([1000, 700], 0.25)
    assert facts["tissue_fraction"] == pytest.approx(512 * 384 / 700_000, rel=0.2)
    assert "[1000, 700]" in run("info", tissue_slide).output


def test_info_says_how_to_give_a_missing_mpp(run, tmp_path, stained, write_pyramid):
    slide = write_pyramid(tmp_path / "s.tif", [stained(300, 200)], mpp=None)
    assert "--slide-mpp" in run("info", slide).output
    assert json.loads(run("info", slide, "--json", "--slide-mpp", 0.5).output)["mpp"] == 0.5


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.svs", None, "no such slide"),
        ("text.svs", "text", "not a readable slide"),
        ("empty.tif", "", "empty.tif is empty; got 0 bytes; copy or download it again"),
    ],
)
@pytest.mark.parametrize("command", ["info", "extract-patches", "infer-slide"])
def test_what_is_not_a_slide_is_one_line_and_code_2(run, tmp_path, tiny_model, command, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    options = [] if command == "info" else ["--out", tmp_path / "out"]
    options += ["--model", tiny_model] if command == "infer-slide" else []
    error = run(command, path, *options, code=2).stderr.strip().splitlines()
    assert [line.startswith("error: ") for line in error] == [True]
    assert says in error[-1]
    assert name in error[-1]


def test_a_slide_without_mpp_is_refused_with_the_remedy_and_runs_with_it(
    run, tmp_path, tiny_model, stained, write_pyramid
):
    slide = write_pyramid(tmp_path / "s.tif", [stained(600, 500, (100, 100, 400, 300))], mpp=None)
    common = [slide, "--model", tiny_model, "--out", tmp_path / "out", "--device", "cpu"]
    assert "--slide-mpp" in run("infer-slide", *common, code=2).stderr
    run("infer-slide", *common, "--slide-mpp", 0.25, "--overwrite")
    assert zarr.open_group(tmp_path / "out" / "s" / "heatmap.ome.zarr", mode="r")["0"].shape == (4, 63, 75)


def test_a_slide_mpp_that_contradicts_the_file_is_said_aloud(run, tmp_path, tissue_slide):
    error = run("extract-patches", tissue_slide, "--out", tmp_path / "out", "--slide-mpp", 0.5).stderr
    assert "WARNING: the file says 0.25 µm, --slide-mpp overrules it" in error


def test_an_out_that_is_a_file_is_one_line_and_code_2(run, tmp_path, tissue_slide):
    (tmp_path / "file").touch()
    assert run("extract-patches", tissue_slide, "--out", tmp_path / "file", code=2).stderr.startswith("error: ")


@pytest.mark.parametrize("name", ["ENOSPC", "EROFS", "EACCES", "ENOTDIR", "EIO"])
def test_what_the_system_refuses_is_said_with_its_path_and_a_remedy(run, tmp_path, tissue_slide, monkeypatch, name):
    number = getattr(errno, name)

    def locked(folder):
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr("wsi_maxmin.pipelines.extract_patches.locked", locked)
    said = run("extract-patches", tissue_slide, "--out", tmp_path / "out", code=2).output
    assert f"error: {os.strerror(number)}: {tmp_path / 'out'}" in said
    assert ("; " in said) == (name != "EIO")


def test_a_reader_that_closes_the_pipe_ends_the_command_silently(run, tmp_path, tissue_slide, monkeypatch):
    def locked(folder):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("wsi_maxmin.pipelines.extract_patches.locked", locked)
    assert run("extract-patches", tissue_slide, "--out", tmp_path / "out", code=1).output == ""


def test_extract_patches_writes_what_training_reads(run, tmp_path, tissue_slide):
    xml = tmp_path / "slide.xml"
    xml.write_text(XML.format(group="Lesion"))
    out = tmp_path / "patches"
    common = ["extract-patches", tissue_slide, "--out", out, "--annotations", xml, "--patch-size", 128]
    assert "--group 'Lesion=tumour'" in run(*common, code=2).stderr
    run(*common, "--group", "Lesion=tumour", "--overwrite")
    table = pd.read_parquet(out / "patches.parquet")
    assert len(table) == 12
    assert sorted(table["label"].unique()) == ["normal", "tumor"]
    tumour = table[table["label"] == "tumor"]
    assert (tumour["tumour_fraction"] == 1).all()
    with Image.open(out / tumour["mask_path"].iloc[0]) as mask:
        assert np.asarray(mask).all()
    assert "status done" in run(*common, "--group", "Lesion=tumour", code=2).stderr
    run(*common, "--group", "Lesion=tumour", "--resume")


def test_an_annotation_of_zero_bytes_is_one_line_and_code_2(run, tmp_path, tissue_slide):
    xml = tmp_path / "slide.xml"
    xml.touch()
    error = run("extract-patches", tissue_slide, "--out", tmp_path / "out", "--annotations", xml, code=2).stderr
    assert "slide.xml is empty" in error


@pytest.mark.parametrize("value", ["Lesion", "Lesion=maybe", "=tumour"])
def test_a_group_that_cannot_be_read_is_bad_usage(run, tmp_path, tissue_slide, value):
    error = run("extract-patches", tissue_slide, "--out", tmp_path / "o", "--group", value, code=2).stderr
    assert "expected NAME=tumour" in error


def test_a_model_is_trained_evaluated_and_run_over_a_slide(run, tmp_path, labelled_folder, tissue_slide):
    """The three jobs in a row, on a data set that has no masks."""
    config = tmp_path / "own.yaml"
    config.write_text(
        "data: {train: labels.csv, split_by: sample, valid_fraction: 0.25}\n"
        "model: {encoder: {name: test_resnet}}\n"
        "training: {epochs: 2, batch_size: 4, workers: 0}\n"
        "slide: {mpp: 0.25, tile_px: 64}\n"
    )
    out = tmp_path / "run"
    training = ["train", config, "--data", labelled_folder, "--out", out, "--device", "cpu"]
    assert "best epoch" in run(*training, "--set", "model.params.sigma=0.1").output
    assert "--resume continues it" in run(*training, code=2).stderr
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    for name in ("0", "1", "2", "3", "4", "5", "6", "7"):
        Image.new("1", (64, 64), 1).save(labelled_folder / f"{name}_mask.png")
    scores = run("evaluate", out, "--data", labelled_folder, "--out", tmp_path / "scores", "--device", "cpu").output
    assert "f1_foreground" in scores
    assert len(pd.read_csv(tmp_path / "scores" / "images.csv")) == 2
    run("infer-slide", tissue_slide, "--model", out, "--out", tmp_path / "maps", "--overlap", 0, "--device", "cpu")
    assert (tmp_path / "maps" / "slide" / "overview.png").is_file()


def test_an_unknown_config_key_names_its_neighbour(run, tmp_path, labelled_folder):
    error = run(
        "train", "camelyon16-demo/maxmin-sem", "--data", labelled_folder, "--out", tmp_path / "r",
        "--set", "training.epoch=3", code=2,
    ).stderr  # fmt: skip
    assert "training.epoch: unknown key; did you mean 'epochs'?" in error


def test_an_unknown_device_model_or_config_says_what_there_is(run, tmp_path, labelled_folder, tissue_slide, tiny_model):
    out = ["--out", tmp_path / "out"]
    assert "camelyon16-demo" in run("infer-slide", tissue_slide, *out, "--model", "nonsense", code=2).stderr
    assert (
        "--device auto"
        in run("infer-slide", tissue_slide, *out, "--model", tiny_model, "--device", "toaster", code=2).stderr
    )
    assert (
        "did you mean camelyon16-demo/maxmin-sem?"
        in run("train", "camelyon16-demo/maxmin", "--data", labelled_folder, *out, code=2).stderr
    )


def test_an_unknown_command_is_bad_usage(run):
    assert "No such command" in run("infer-slides", code=2).stderr


def test_progress_writes_one_line_where_there_is_no_terminal(capsys):
    with LineProgress().track("slide", 10, unit="tile", done=4) as advance:
        advance(6, note="3.0 tiles/s")
    assert capsys.readouterr().err == "slide: 10/10 tile 3.0 tiles/s\n"


def test_progress_draws_a_bar_on_a_terminal(capsys):
    progress = TerminalProgress()
    with progress.track("slide", 2, unit="tile") as advance:
        advance(2, note="fast")
    progress.say("done [x]")
    assert "done [x]" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_resume_continues(run, tmp_path, tiny_model, stained, write_pyramid):
    slide = write_pyramid(tmp_path / "big.tif", [stained(2000, 2000, (0, 0, 2000, 2000))])
    out = tmp_path / "out"
    program = [sys.executable, "-c", "from wsi_maxmin.cli import main; main()"]
    options = ["infer-slide", slide, "--model", tiny_model, "--out", out, "--device", "cpu"]
    process = subprocess.Popen([*program, *options], stderr=subprocess.PIPE, text=True)
    done = out / "big" / "tilemaps.zarr" / "done" / "c" / "0"
    while not done.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "--resume continues" in error
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    run(*options, "--resume")
    facts = json.loads((out / "big" / "run.json").read_text())
    assert 0 < facts["tiles_run"] < facts["tiles"]
