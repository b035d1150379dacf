"""One set of patches, as `extract-patches` may store it in several forms, and its splits."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from upath import UPath

from wsi_maxmin.config import DataConfig, RunConfig
from wsi_maxmin.data import Sample, _pixels, read_samples
from wsi_maxmin.data._dataset import SampleDataset
from wsi_maxmin.data._pixels import SlideCache, read_image, read_mask
from wsi_maxmin.data._samples import FilePart, SlidePart
from wsi_maxmin.errors import InputError, SlideError
from wsi_maxmin.geometry import Box
from wsi_maxmin.patches import SCHEMA, PatchTable, make_rows, read_patch_table, write_patch_table
from wsi_maxmin.pipelines.evaluate import evaluate_model
from wsi_maxmin.slide_list import ListedSlide
from wsi_maxmin.training import train

pytestmark = pytest.mark.usefixtures("one_thread")

PATCHES = DataConfig(format="patches")
SIDE = 48
SPLITS = {"n0": "train", "n1": "valid", "t0": "train", "t1": "valid"}
FOLDS = {"n0": "fold_0", "n1": "fold_1", "t0": "fold_0", "t1": "fold_2"}
LOSSLESS = ("png", "shard", "none")
FORMS = (*LOSSLESS, "jpeg")


def picture(index):
    """Return the pixels of a slide: two patches of noise side by side, bluish or reddish."""
    noise = np.random.default_rng(index).integers(-50, 51, (SIDE, 2 * SIDE, 3))
    colour = (60, 60, 180) if index < 2 else (180, 60, 60)
    return (np.array(colour) + noise).astype(np.uint8)


def truth(index, number):
    """Return the ground truth of a patch of a tumour slide."""
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[: 8 + index, : 8 + number] = 255
    return mask


def encode(pixels, form):
    data = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if pixels.ndim == 3 else image.convert("1")).save(data, form)
    return data.getvalue()


class Files:
    def __init__(self, root):
        self.root = root

    def put(self, name, data):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(data)
        return name, 0, len(data)


class Shard:
    def __init__(self, root):
        self.path = root / "shards" / "0.tar"
        self.path.parent.mkdir()
        tarfile.open(self.path, "w").close()

    def put(self, name, data):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        with tarfile.open(self.path, "a") as tar:
            tar.addfile(member, io.BytesIO(data))
        with tarfile.open(self.path) as tar:
            return "shards/0.tar", tar.getmember(name).offset_data, len(data)


@pytest.fixture
def store(tmp_path, write_pyramid):
    """Return a function that stores eight patches of four slides in a form, and returns their folder."""

    def write(form, splits=SPLITS, name=None):
        root = tmp_path / (name or form)
        root.mkdir()
        place = Shard(root) if form == "shard" else Files(root)
        suffix = "jpeg" if form == "jpeg" else "png"
        records, slides = [], ["slide_id,path,mpp,name"]
        for index, slide_id in enumerate(splits):
            pixels = picture(index)
            if form == "none":
                (root / "slides" / slide_id).mkdir(parents=True)
                slide = write_pyramid(root / "slides" / slide_id / f"file_{slide_id}.tif", [pixels])
                slides.append(f"{slide_id},{slide.relative_to(root) if index % 2 else slide},,{slide_id}")
            for number in range(2):
                patch_id = f"{slide_id}_{number * SIDE}_0"
                image, mask = ("", 0, 0), ("", 0, 0)
                if form != "none":
                    patch = pixels[:, number * SIDE : (number + 1) * SIDE]
                    image = place.put(f"images/{patch_id}.{suffix}", encode(patch, suffix))
                if slide_id.startswith("t"):
                    mask = place.put(f"masks/{patch_id}.mask.png", encode(truth(index, number), "png"))
                records.append(
                    {
                        "patch_id": patch_id,
                        "slide_id": slide_id,
                        "patient_id": f"patient {slide_id}",
                        "x": number * SIDE,
                        "y": 0,
                        "width": SIDE,
                        "height": SIDE,
                        "mpp": 0.25,
                        "patch_px": SIDE,
                        "label": "tumor" if mask[0] else "normal",
                        "slide_label": "tumor" if mask[0] else "normal",
                        "tissue_fraction": 1.0,
                        "tumour_fraction": 0.5 if mask[0] else 0.0,
                        "image_format": "none" if form == "none" else suffix,
                        **dict(zip(("image_path", "image_offset", "image_bytes"), image, strict=True)),
                        **dict(zip(("mask_path", "mask_offset", "mask_bytes"), mask, strict=True)),
                        "split": splits[slide_id],
                    }
                )
        write_patch_table(root / "patches.parquet", PatchTable(rows=make_rows(records)))
        if form == "none":
            (root / "slides.csv").write_text("\n".join(slides), encoding="utf-8")
        return root

    return write


def edit(root, **columns):
    table = read_patch_table(root / "patches.parquet")
    write_patch_table(root / "patches.parquet", PatchTable(rows=table.rows.assign(**columns)))


def close_masks(root):
    """Make every mask unreadable, and leave images as they are."""
    for row in read_patch_table(root / "patches.parquet").rows.itertuples():
        if row.mask_path and row.mask_offset:
            with (root / row.mask_path).open("r+b") as file:
                file.seek(row.mask_offset)
                file.write(bytes(row.mask_bytes))
        elif row.mask_path:
            (root / row.mask_path).unlink()


@pytest.mark.parametrize("form", LOSSLESS)
def test_pixels_and_masks_are_those_of_the_slide_in_every_lossless_form(store, form):
    root = store(form)
    samples = [*read_samples(root, PATCHES, "train", seed=0), *read_samples(root, PATCHES, "valid", seed=0)]
    assert [sample.name for sample in samples] == [
        f"{slide}_{x}_0" for slide in ("n0", "t0", "n1", "t1") for x in (0, SIDE)
    ]
    for position, item in enumerate(SampleDataset(samples, masks=True)):
        slide_id, x, _ = samples[position].name.split("_")
        index = list(SPLITS).index(slide_id)
        expected = picture(index)[:, int(x) : int(x) + SIDE]
        np.testing.assert_array_equal(item.image.permute(1, 2, 0), expected)
        mask = truth(index, int(x) // SIDE) > 0 if index >= 2 else np.zeros((SIDE, SIDE))
        np.testing.assert_array_equal(item.mask[0], mask)


def test_a_jpeg_is_read_as_it_was_compressed(store):
    root = store("jpeg")
    sample = read_samples(root, PATCHES, "train", seed=0)[0]
    with Image.open(root / "images" / "n0_0_0.jpeg") as image:
        np.testing.assert_array_equal(read_image(sample.image).permute(1, 2, 0), np.asarray(image))


def test_a_patch_is_read_from_its_slide_at_its_own_scale(store):
    root = store("none")
    edit(root, width=2 * SIDE, height=2 * SIDE)
    image = read_image(read_samples(root, PATCHES, "train", seed=0)[0].image).numpy()
    blocks = picture(0).reshape(SIDE // 2, 2, SIDE, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(image[:, : SIDE // 2] - blocks).max() <= 1
    assert (image[:, SIDE // 2 :] == 255).all()


def make_config(**data):
    return RunConfig.model_validate(
        {
            "data": {"format": "patches", **data},
            "augment": {"crop_px": 32},
            "model": {"encoder": {"name": "test_resnet"}},
            "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.01, "workers": 0},
        }
    )


def train_on(root, out, **data):
    config = make_config(**data)
    samples = [read_samples(root, config.data, split, seed=0) for split in ("train", "valid")]
    out.mkdir()
    train(config, *samples, out, device=torch.device("cpu"))
    return (out / "metrics.jsonl").read_text()


def test_training_runs_on_every_form_without_a_mask_and_the_same_on_lossless_ones(store, tmp_path):
    losses = {}
    for form in FORMS:
        root = store(form)
        close_masks(root)
        losses[form] = train_on(root, tmp_path / f"run {form}")
    assert "nan" not in losses["jpeg"].lower()
    assert losses["png"] == losses["shard"] == losses["none"]


def test_evaluation_gives_the_same_scores_on_every_lossless_form_and_names_patches(store, tmp_path):
    run = tmp_path / "run"
    train_on(store("png"), run)
    (tmp_path / "none").mkdir()
    shutil.move(store("none", name="taken away") / "slides", tmp_path / "elsewhere")
    moved = {"overrides": ["data.slides=../elsewhere"]}
    forms = {"png": {}, "taken away": moved, store("shard").name: {}}
    scores = {
        form: evaluate_model(str(run), tmp_path / form, "valid", out=tmp_path / f"of {form}", device="cpu", **options)
        for form, options in forms.items()
    }
    assert scores["png"] == scores["shard"] == scores["taken away"]
    assert (scores["png"]["samples"], scores["png"]["masks"]) == (4, 4)
    tables = {(tmp_path / f"of {form}" / "images.csv").read_text() for form in forms}
    assert len(tables) == 1
    assert "\nt1_48_0,tumor," in tables.pop()


def test_evaluation_changes_nothing_but_how_data_are_read(store, tmp_path):
    train_on(store("png"), tmp_path / "run")
    with pytest.raises(InputError, match=r"keeps its config; got --set model\.name=a; expected --set data\.key=value"):
        evaluate_model(str(tmp_path / "run"), tmp_path / "png", "valid", overrides=["model.name=a"], device="cpu")


def test_evaluation_names_the_shard_whose_masks_are_missing(store, tmp_path):
    train_on(store("png"), tmp_path / "run")
    root = store("shard")
    edit(root, mask_path=read_patch_table(root / "patches.parquet").rows["mask_path"].str.replace("0.tar", "1.tar"))
    with pytest.raises(InputError, match=r"a ground-truth mask is missing; got .*1\.tar"):
        evaluate_model(str(tmp_path / "run"), root, "valid", device="cpu")


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_loader_processes_read_slides_that_the_first_process_has_open(store):
    dataset = SampleDataset(read_samples(store("none"), PATCHES, "train", seed=0))
    alone = [dataset[index].image for index in range(4)]
    for _ in range(2):
        shared = [item.image[0] for item in DataLoader(dataset, batch_size=1, num_workers=2)]
        assert all(torch.equal(one, other) for one, other in zip(alone, shared, strict=True))


def test_only_the_slides_used_last_stay_open(monkeypatch):
    opened = []

    class Fake:
        def __init__(self, path):
            self.path, self.is_open = path, False
            opened.append(self)

        def read(self, box, width, height):  # noqa: ARG002 - a reader's signature
            self.is_open = True
            return np.zeros((height, width, 3), dtype=np.uint8)

        def close(self):
            self.is_open = False

    monkeypatch.setattr(_pixels, "open_slide", lambda path, **_: Fake(path))
    cache = SlideCache(limit=2)
    for name in "abacabd":
        slide = ListedSlide(path=Path(name), slide_id=name)
        assert cache.read(SlidePart(slide, Box(x=0, y=0, width=8, height=8), 4)).shape == (4, 4, 3)
        assert sum(fake.is_open for fake in opened) <= 2
    assert [str(fake.path) for fake in opened] == ["a", "b", "c", "d"]
    assert {str(fake.path) for fake in opened if fake.is_open} == {"b", "d"}


def test_a_slide_may_be_behind_a_url(store):
    root = store("none")
    url = UPath("memory://bucket/n0.tif")
    url.write_bytes((root / "slides" / "n0" / "file_n0.tif").read_bytes())
    listed = (root / "slides.csv").read_text().splitlines()
    (root / "slides.csv").write_text("\n".join([listed[0], f"n0,{url},0.25,", *listed[2:]]))
    shutil.rmtree(root / "slides" / "n0")
    sample = read_samples(root, PATCHES, "train", seed=0)[0]
    np.testing.assert_array_equal(read_image(sample.image).permute(1, 2, 0), picture(0)[:, :SIDE])


def test_moved_slides_are_found_by_their_file_names_at_any_depth(store, tmp_path):
    root = store("none")
    before = [read_image(sample.image) for sample in read_samples(root, PATCHES, "train", seed=0)]
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (root / "slides").rename(tmp_path / "new" / "deep" / "here")
    for slides in (str(tmp_path / "new"), "../new"):
        after = read_samples(root, PATCHES.model_copy(update={"slides": slides}), "train", seed=0)
        assert all(torch.equal(read_image(sample.image), image) for sample, image in zip(after, before, strict=True))


def test_of_two_moved_slides_of_one_name_the_one_in_the_likest_folder_is_taken(store, tmp_path):
    root = store("none")
    (root / "slides").rename(tmp_path / "new")
    moved = PATCHES.model_copy(update={"slides": str(tmp_path / "new")})
    (tmp_path / "new" / "other").mkdir()
    shutil.copy(tmp_path / "new" / "n0" / "file_n0.tif", tmp_path / "new" / "other")
    assert read_samples(root, moved, "train", seed=0)[0].image.slide.path == tmp_path / "new" / "n0" / "file_n0.tif"
    (tmp_path / "new" / "n0").rename(tmp_path / "new" / "another")
    with pytest.raises(InputError, match=r"the slide n0 of the patches is there twice; got .*another.* and .*other"):
        read_samples(root, moved, "train", seed=0)


def test_a_missing_slide_is_named_with_the_option_that_finds_it(store, tmp_path):
    root = store("none")
    (root / "slides" / "t0" / "file_t0.tif").unlink()
    with pytest.raises(
        InputError, match=r"the slide t0 .* is missing; got .*file_t0\.tif; .* --set data\.slides=FOLDER"
    ):
        read_samples(root, PATCHES, "train", seed=0)
    assert len(read_samples(root, PATCHES, "valid", seed=0)) == 4
    assert len(read_samples(root, PATCHES.model_copy(update={"exclude_groups": ("patient t0",)}), "train", seed=0)) == 2
    with pytest.raises(InputError, match=r"the slide t0 .* is missing; got no file_t0\.tif in .*; .*data\.slides"):
        read_samples(root, PATCHES.model_copy(update={"slides": "slides"}), "train", seed=0)
    with pytest.raises(InputError, match=r"no such folder of slides; got .*gone; check data\.slides"):
        read_samples(root, PATCHES.model_copy(update={"slides": "gone"}), "train", seed=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"need a list of their slides; got no .*slides\.csv; expected a CSV slide_id,path,mpp"),
        ("slide_id,path,mpp\nn0,a.tif,", r"slides\.csv lacks a slide of the patches; got t0; add its row"),
        ("slide_id,path,mpp\nn0,a.tif,\nt0,b.tif,x", r"slides\.csv, line 3: mpp; got 'x'; expected µm per pixel"),
    ],
)
def test_a_list_of_slides_that_does_not_do_is_named(store, text, message):
    root = store("none")
    if text is None:
        (root / "slides.csv").unlink()
    else:
        (root / "slides.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_samples(root, PATCHES, "train", seed=0)


def test_a_broken_slide_fails_with_its_name(store):
    root = store("none")
    (root / "slides" / "n0" / "file_n0.tif").write_bytes(b"no slide")
    with pytest.raises(SlideError, match=r"file_n0\.tif"):
        read_image(read_samples(root, PATCHES, "train", seed=0)[0].image)


def test_an_image_that_cannot_be_read_from_a_shard_is_named_by_file_and_offset(store):
    part = read_samples(store("shard"), PATCHES, "train", seed=0)[0].image
    with pytest.raises(InputError, match=rf"an image cannot be read; got .*0\.tar at byte {part.offset + 1} "):
        read_image(FilePart(part.path, part.offset + 1, part.count))
    os.truncate(part.path, part.offset + 10)
    with pytest.raises(
        InputError, match=rf"0\.tar at byte {part.offset} \(it breaks off after 10 of {part.count} bytes"
    ):
        read_image(part)


def test_a_file_of_its_own_is_read_whole_whatever_its_size_was(store):
    root = store("png")
    (root / "masks" / "t0_0_0.mask.png").write_bytes(encode(np.full((SIDE, SIDE), 255, dtype=np.uint8), "png"))
    sample = read_samples(root, PATCHES, "train", seed=0)[2]
    assert read_mask(sample.mask).all()


def test_a_table_of_version_1_is_read_as_files(store):
    root = store("png")
    path = root / "patches.parquet"
    expected = read_samples(root, PATCHES, "train", seed=0)
    new = [name for name in SCHEMA.names if name.endswith(("_format", "_offset", "_bytes"))]
    old = pq.read_table(path).drop_columns(new).replace_schema_metadata({"wsi_maxmin.schema": "1"})
    pq.write_table(old, path)
    assert len(new) == 5
    assert read_samples(root, PATCHES, "train", seed=0) == expected
    assert expected[0] == Sample(
        image=root / "images" / "n0_0_0.png",
        mask=None,
        label=0,
        group="patient n0",
        background_only=True,
        patch_id="n0_0_0",
    )


def groups(root, config, split):
    return sorted({sample.group[-2:] for sample in read_samples(root, config, split, seed=0)})


@pytest.mark.parametrize(
    ("fold", "train", "valid"),
    [(0, ["n1", "t1"], ["n0", "t0"]), (1, ["n0", "t0", "t1"], ["n1"]), (2, ["n0", "n1", "t0"], ["t1"])],
)
def test_a_fold_validates_and_the_others_train(store, fold, train, valid):
    root, config = store("png", FOLDS), PATCHES.model_copy(update={"fold": fold})
    assert (groups(root, config, "train"), groups(root, config, "valid")) == (train, valid)
    with pytest.raises(InputError, match=r"the test split of .* has no samples"):
        read_samples(root, config, "test", seed=0)


def test_a_test_set_beside_folds_is_tested_whatever_the_fold(store):
    root, config = store("png", {**FOLDS, "t1": "test"}), PATCHES.model_copy(update={"fold": 1})
    assert [groups(root, config, split) for split in ("train", "valid", "test")] == [["n0", "t0"], ["n1"], ["t1"]]


@pytest.mark.parametrize(
    ("splits", "fold", "message"),
    [
        (FOLDS, None, r"is split into folds; got fold_0 to fold_2; .*; --set data\.fold=0"),
        (FOLDS, 3, r"has no such fold; got data\.fold=3; expected one of 0, 1, 2$"),
        (SPLITS, 0, r"has no such fold; got data\.fold=0; expected .* --splits kfold; leave data\.fold out"),
    ],
)
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_fold_that_does_not_fit_the_table_is_an_error_with_a_remedy(store, splits, fold, message, split):
    root = store("png", splits)
    with pytest.raises(InputError, match=message):
        read_samples(root, PATCHES.model_copy(update={"fold": fold}), split, seed=0)


@pytest.mark.parametrize("stray", ["", "val"])
def test_patches_in_no_split_beside_others_are_counted_and_their_slides_named(store, stray):
    root = store("png", {**SPLITS, "n0": stray, "t1": stray})
    with pytest.raises(
        InputError, match=rf"4 of 8 patches in .* are in no split; got split '{stray}' on slides n0, t1;"
    ):
        read_samples(root, PATCHES, "train", seed=0)
    left_out = PATCHES.model_copy(update={"exclude_groups": ("patient n0", "patient t1")})
    assert groups(root, left_out, "train") == ["t0"]
    edit(root, label=["mixed"] * 2 + ["normal"] * 2 + ["tumor"] * 2 + ["unlabelled"] * 2)
    assert groups(root, PATCHES, "train") == ["t0"]
