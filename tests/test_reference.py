import pytest

from wsi_maxmin.errors import InputError
from wsi_maxmin.reference import read_reference


@pytest.mark.parametrize(
    "text",
    [
        "test_001,Tumor,IDC,Macro\ntest_003,Normal,None,None\n",
        "slide_id,label\ntest_001,tumour\ntest_003,0\n",
        "type,image,LABEL\nx,test_001,TUMOR\ny,test_003,normal\n",
        "\ufefftest_001, 1\r\ntest_003, 0\r\n",
    ],
)
def test_the_list_says_which_slides_hold_tumour_whatever_they_are_called(tmp_path, text):
    path = tmp_path / "reference.csv"
    path.write_text(text, encoding="utf-8")
    assert read_reference(path) == {"test_001": True, "test_003": False}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no slide"),
        ("slide_id,label\n", "lists no slide"),
        ("slide_id,kind\na,tumor\n", "no reference list"),
        ("a\n", "no reference list"),
        ("a,tumor\nb,maybe\n", "malformed row"),
        ("a,tumor\nb\n", "malformed row"),
        ("a,tumor\n,normal\n", "malformed row"),
        ("a,tumor\na,normal\n", "there twice"),
    ],
)
def test_a_list_that_is_not_understood_is_an_error(tmp_path, text, says):
    path = tmp_path / "reference.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_reference(path)
    with pytest.raises(InputError, match=r"no such reference list; got .*none\.csv; expected a CSV file"):
        read_reference(tmp_path / "none.csv")
