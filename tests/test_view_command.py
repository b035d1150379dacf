"""`wsi-maxmin view` as a user starts and ends it."""

import signal
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner

from tests import viewing
from wsi_maxmin.cli import group
from wsi_maxmin.pipelines import view as pipeline

PROGRAM = [sys.executable, "-c", "from wsi_maxmin.cli import main; main()", "view"]


@pytest.fixture
def result(tmp_path, make_pyramid, write_pyramid):
    return viewing.make_result(tmp_path / "run", tmp_path, write_pyramid, make_pyramid(viewing.painted(), 3))


def run(*arguments):
    return CliRunner().invoke(group, ["view", *map(str, arguments)])


def test_the_page_is_served_until_ctrl_c_which_is_no_failure(result):
    process = subprocess.Popen(
        [*PROGRAM, str(result), "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}api/slides") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, error) == (0, "")


def test_what_cannot_be_shown_is_one_line_and_code_2(result, tmp_path, stained, write_pyramid):
    other = write_pyramid(tmp_path / "other.tif", [stained(600, 500)])
    for arguments, says in (
        ([tmp_path / "nowhere"], "no heatmap in this folder"),
        ([result / "squares", "--slide", other], "not the slide of the heatmap"),
        ([result / "squares", "--slide", tmp_path / "missing.tif"], "no such slide"),
        ([result, "--annotations", tmp_path / "missing.xml"], "no such annotation"),
        ([result, "--host", "192.0.2.1"], "cannot listen there"),
        ([result, "--host", "300.1.1.1"], "expected an address or name of this machine"),
        ([result, "--host", "a..b"], "leave --host out"),
    ):
        done = run(*arguments, "--no-browser")
        assert done.exit_code == 2
        assert says in done.output
        assert done.output.count("\n") == 1


def test_the_browser_is_opened_unless_it_is_not_wanted(result, monkeypatch):
    opened = []
    monkeypatch.setattr(pipeline.webbrowser, "open", opened.append)
    monkeypatch.setattr(pipeline.Server, "serve_forever", lambda server: server.server_close())
    assert run(result, "--port", 0).exit_code == 0
    assert opened[0].startswith("http://127.0.0.1:")
    assert run(result, "--port", 0, "--no-browser").exit_code == 0
    assert len(opened) == 1


def test_what_a_run_leaves_out_is_said_and_groups_are_taken(result, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.Server, "serve_forever", lambda server: server.server_close())
    (tmp_path / "squares.xml").write_text(viewing.XML.replace('"Tumor"', '"None"'))
    viewing.mark(result, settings={"command": "infer-slide"}, slides=[{"slide_id": "x", "status": "failed"}])
    options = ["--annotations", tmp_path, "--group", "None=tumour", "--port", 0, "--no-browser"]
    done = run(result, *options)
    assert done.exit_code == 0
    assert done.output.startswith("1 of 2 slides are shown; failed: x\nhttp://")


def test_an_interruption_before_it_serves_speaks_of_no_resume(result, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "finished_slides", interrupt)
    done = run(result)
    assert (done.exit_code, done.output) == (130, "interrupted\n")


def test_a_wider_address_is_said_to_be_open_to_whoever_has_it(result, monkeypatch):
    monkeypatch.setattr(pipeline.Server, "serve_forever", lambda server: server.server_close())
    done = run(result, "--port", 0, "--no-browser", "--host", "0.0.0.0")
    assert "Whoever has this address can look" in done.output


def test_without_napari_the_message_says_what_to_install(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    done = run(result, "--napari")
    assert done.exit_code == 2
    assert "pip install 'wsi-maxmin[napari]'" in done.output
