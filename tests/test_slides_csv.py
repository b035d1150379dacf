"""``slides.csv`` as users, editors and full disks leave it."""

import pytest
from click.testing import CliRunner

from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError
from wsi_maxmin.slides_csv import read_slides


@pytest.mark.parametrize(
    "text", ["a,b\n1", "", "slide_id,path,mpp,name\na", "slide_id,path\na,b,c\n", "slide_id,path\n,b\n"]
)
def test_a_damaged_file_says_what_it_should_hold(tmp_path, text):
    (tmp_path / "slides.csv").write_text(text)
    with pytest.raises(
        InputError, match=r"slides.csv is damaged; got .*; expected columns slide_id,path,mpp,name.*mend"
    ):
        read_slides(tmp_path)


def test_a_row_that_a_user_wrote_needs_id_and_path_alone(tmp_path):
    (tmp_path / "slides.csv").write_text("slide_id,path\na,b.tif\n")
    assert read_slides(tmp_path) == {"a": {"slide_id": "a", "path": "b.tif", "mpp": "", "name": "a"}}


def test_resume_says_so_in_one_line(tmp_path, tiny_model, tissue_slide):
    out = tmp_path / "out"
    out.mkdir()
    (out / "slides.csv").write_text("a,b\n1")
    arguments = ["infer-slide", str(tissue_slide), "--out", str(out), "--model", str(tiny_model), "--resume"]
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 2
    assert "slides.csv is damaged" in done.stderr
    assert "Traceback" not in done.stderr
