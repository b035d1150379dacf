"""Which images are drawn, what is on their pictures, and which files stay."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import Image

from tests.test_evaluate import folder as folder
from wsi_maxmin.pipelines._evaluation_pictures import _file_names, choose
from wsi_maxmin.pipelines.evaluate import EvaluateSettings, evaluate_model
from wsi_maxmin.sinks.samples_picture import ScoredPicture, write, write_overview

pytestmark = pytest.mark.usefixtures("one_thread")

GREEN, YELLOW = (0, 158, 115), (240, 228, 66)


def row(foreground=None, background=None):
    return {"f1_foreground": foreground, "f1_background": background}


rows_of = st.lists(
    st.builds(row, st.none() | st.integers(0, 100), st.none() | st.integers(0, 100)), max_size=12
)  # fmt: skip


@given(rows_of, st.integers(0, 14))
def test_the_worst_and_the_best_are_chosen_and_each_image_once(rows, count):
    chosen, every = choose(rows, count), choose(rows, None)
    assert len(set(chosen)) == len(chosen) == min(count, len(rows))
    assert sorted(every) == list(range(len(rows)))
    assert [index for index in every if index in chosen] == chosen
    scores = [np.mean([value for value in rows[index].values() if value is not None] or [np.inf]) for index in every]
    assert scores == sorted(scores)
    scored = int(np.isfinite(scores).sum())
    worst, best = (count + 1) // 2, count // 2
    if count <= scored:
        assert chosen == every[:worst] + every[scored - best : scored]


def test_an_image_that_has_only_one_of_the_two_scores_ranks_by_it():
    assert choose([row(50, 50), row(None, 20), row(90, 10), row(None, None), row(30)], None) == [1, 4, 0, 2, 3]


def test_pictures_of_images_with_one_name_have_names_of_their_own():
    images = ["a.png", "b/a.bmp", "a.bmp", "a.png", "a_2.png"]
    names = _file_names([{"image": image} for image in images])
    assert names == ["a.png", "b_a.png", "a_2.png", "a_3.png", "a_2_2.png"]


def picture(*, size=(60, 90), mask_size=None, truth=True, name="image.png"):
    """Return a grey image, truth in its left half, mask in its top half."""
    height, width = mask_size or size
    soft = np.zeros((height, width), np.float32)
    soft[: height // 2] = 0.9
    left = np.zeros((height, width), bool)
    left[:, : width // 2] = True
    pixels = np.full((*size, 3), 128, np.uint8)
    return ScoredPicture(
        name=name, facts="tumor", image=pixels, soft_mask=soft, truth=left if truth else None, threshold=0.5
    )


def drawn(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def share(pixels, colour):
    return (np.abs(pixels - colour).max(axis=-1) < 12).mean()


def where(pixels, colour):
    """Return rows and columns of a colour, as fractions of the picture."""
    places = np.nonzero(np.abs(pixels - colour).max(axis=-1) < 12)
    return [place / side for place, side in zip(places, pixels.shape, strict=False)]


def middle_panel(pixels):
    """Return the second of the two panels that show the image, which is grey."""
    grey = np.abs(pixels - 128).max(axis=-1) < 3
    first, last = np.nonzero(grey.mean(axis=1) > 0.2)[0][[0, -1]]
    columns = np.nonzero(grey.mean(axis=0) > 0.3)[0]
    columns = columns[columns > (columns[0] + columns[-1]) // 2]
    return pixels[first:last, columns[0] : columns[-1]]


@pytest.mark.parametrize("mask_size", [None, (120, 180), (20, 30)])
def test_truth_and_mask_are_outlined_where_they_are_whatever_their_size(tmp_path, mask_size):
    write(picture(mask_size=mask_size), tmp_path / "p.png")
    panel = middle_panel(drawn(tmp_path / "p.png"))
    rows, _ = where(panel, YELLOW)
    _, columns = where(panel, GREEN)
    # The lowest line around the mask and the rightmost one around the truth go through the middle.
    assert rows.max() == pytest.approx(0.5, abs=0.02)
    assert columns.max() == pytest.approx(0.5, abs=0.02)


def test_without_ground_truth_only_the_mask_is_outlined(tmp_path):
    write(picture(truth=False), tmp_path / "p.png")
    assert share(drawn(tmp_path / "p.png"), GREEN) == 0
    assert share(drawn(tmp_path / "p.png"), YELLOW) > 0.0005


def test_a_soft_mask_has_the_same_colour_on_every_picture(tmp_path):
    """The colour bar goes from 0 to 1 whatever the values of the mask are."""
    write(picture(), tmp_path / "p.png")
    pixels = drawn(tmp_path / "p.png")
    third = pixels[:, pixels.shape[1] * 68 // 100 : pixels.shape[1] * 85 // 100]
    for value in (0, 0.9):
        assert share(third, np.array(colormaps["magma"](value)[:3]) * 255) > 0.2


@pytest.mark.parametrize("name", ["a $^2_ b$.png", "x" * 180 + ".png", "плита %s {0}.png"])
def test_any_name_can_be_a_title(tmp_path, name):
    write(picture(name=name), tmp_path / "p.png")
    write_overview([picture(name=name)], tmp_path / "o.png", name[:40])
    assert not list(tmp_path.glob(".*"))


def test_a_large_image_makes_no_large_picture_and_a_flat_one_no_tall_sheet(tmp_path):
    write(picture(size=(3000, 2000)), tmp_path / "p.png")
    assert max(drawn(tmp_path / "p.png").shape) < 3000
    write_overview([picture(size=(20, 200))] * 5, tmp_path / "o.png", "title")
    height, width, _ = drawn(tmp_path / "o.png").shape
    assert height < width


@pytest.mark.parametrize("longest", [1, 7, 30, 500])
def test_shrinking_keeps_the_shape_and_enlarges_nothing(longest):
    small = picture(mask_size=(12, 18)).shrunk(longest)
    assert max(small.image.shape) == min(longest, 90) or longest == 1
    assert max(small.soft_mask.shape) == max(small.truth.shape) == min(longest, 18)
    assert (small.image.dtype, small.soft_mask.dtype, small.truth.dtype) == (np.uint8, np.float32, np.bool_)


@pytest.fixture
def evaluated(folder, tmp_path):
    """Return a function that evaluates a constant mask on three images and draws some of them."""
    config = tmp_path / "ones.yaml"
    config.write_text("data: {valid: list.csv}\nmodel: {name: constant}\ntraining: {workers: 0}\n")
    for index in range(3):
        folder.add(np.full((8, 12), 200), np.arange(96).reshape(8, 12) < 16 * (index + 1))

    def call(pictures, out=tmp_path / "out"):
        settings = EvaluateSettings(pictures=pictures)
        evaluate_model(str(config), folder.path, "valid", out=out, device="cpu", settings=settings)
        return sorted(path.stem for path in (out / "pictures").glob("*")), json.loads((out / "scores.json").read_text())

    return call


def test_as_many_pictures_are_drawn_as_asked_for_and_the_files_are_listed(evaluated):
    names, scores = evaluated(2)
    # All ones score the higher the more foreground there is.
    assert names == ["0", "2"]
    assert scores["pictures"] == ["overview.png", "pictures/0.png", "pictures/2.png"]


def test_no_pictures_of_an_earlier_evaluation_stay_but_a_user_s_own_do(evaluated, tmp_path):
    assert evaluated(None)[0] == ["0", "1", "2"]
    own = tmp_path / "out" / "pictures" / "own.png"
    own.write_bytes(b"mine")
    assert evaluated(0)[0] == ["own"]
    assert not (tmp_path / "out" / "overview.png").exists()
    assert own.read_bytes() == b"mine"


@pytest.mark.parametrize("listed", ['["../own.png", "own.png", 3]', '"own.png"', "7", "null"])
def test_a_scores_file_of_others_removes_nothing_outside_the_pictures(evaluated, tmp_path, listed):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "own.png").touch()
    (out / "own.png").touch()
    (out / "scores.json").write_text(f'{{"pictures": {listed}}}')
    evaluated(0)
    assert (tmp_path / "own.png").exists()
    assert (out / "own.png").exists()
