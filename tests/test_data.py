import gzip
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_maxmin.config import AugmentConfig, DataConfig
from wsi_maxmin.data import Sample, plugins, read_samples
from wsi_maxmin.data._dataset import Draw, SampleDataset, collate, collate_by_size
from wsi_maxmin.data._loader import Batches
from wsi_maxmin.data._pixels import read_image, read_mask
from wsi_maxmin.errors import InputError
from wsi_maxmin.patches import PatchTable, make_rows, write_patch_table
from wsi_maxmin.progress import Quiet

pytestmark = pytest.mark.usefixtures("one_thread")

GLAS = DataConfig(format="glas", classes=("benign", "malignant"), positive="malignant", split_by="sample")
STILL = AugmentConfig(jitter=(0, 0, 0, 0))


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8) if pixels is None else pixels).save(path)
    return path


def write_list(path, *rows, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(end.join(rows).encode())
    return DataConfig(train=path.name, valid=path.name)


def read(root, config, split="train"):
    return plugins.load(config.format).read(root, config, split)


def test_every_format_is_found_by_its_file_name():
    assert {"glas", "labels", "patches"} <= set(plugins.names())
    for name in plugins.names():
        assert callable(plugins.load(name).read)
        assert callable(plugins.load(name).has_split)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("header", [["image,mask,label,group"], []])
def test_a_list_reads_the_same_with_and_without_header_and_whatever_its_line_ends(tmp_path, header, end):
    image, mask = save(tmp_path / "a.png"), save(tmp_path / "m.png")
    rows = [*header, "a.png, m.png ,tumor,p1", "", "a.png,,normal", ""]
    assert read(tmp_path, write_list(tmp_path / "list.csv", *rows, end=end)) == [
        Sample(image=image, mask=mask, label=1, group="p1"),
        Sample(image=image, mask=None, label=0, group=""),
    ]


def test_a_gzipped_list_reads_like_a_plain_one(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(b"a.png,,normal"))
    assert [sample.label for sample in read(tmp_path, DataConfig(train="list.csv.gz"))] == [0]


def test_paths_are_relative_to_the_list_first_and_then_to_the_root(tmp_path):
    beside, below = save(tmp_path / "lists" / "both.png"), save(tmp_path / "root.png")
    save(tmp_path / "both.png")
    write_list(tmp_path / "lists" / "list.csv", "both.png,,normal", "root.png,,normal")
    samples = read(tmp_path, DataConfig(train="lists/list.csv"))
    assert [sample.image for sample in samples] == [beside, below]


@pytest.mark.parametrize(("listed", "stored"), [(".bmp", ".png"), (".png", ".bmp")])
def test_bmp_and_png_stand_for_each_other(tmp_path, listed, stored):
    image, mask = save(tmp_path / f"a{stored}"), save(tmp_path / f"m{stored}")
    (sample,) = read(tmp_path, write_list(tmp_path / "list.csv", f"a{listed},m{listed},normal"))
    assert (sample.image, sample.mask) == (image, mask)


def test_a_mask_that_is_absent_is_left_for_evaluation_to_complain_about(tmp_path):
    save(tmp_path / "a.png")
    (sample,) = read(tmp_path, write_list(tmp_path / "list.csv", "a.png,gone.png,normal"))
    with pytest.raises(InputError, match=r"an image cannot be read.*gone\.png"):
        SampleDataset([sample], masks=True)[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,normal", r"sample 2: malformed row; got a\.png,normal; expected image,mask,label\[,group\]"),
        ("a.png,,tumour", r"sample 2: unknown label; got 'tumour'; expected one of normal, tumor"),
        ("b.png,,normal", r"an image of the list is missing; got b\.png"),
        ("a.jpg,,normal", r"an image of the list is missing; got a\.jpg"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    save(tmp_path / "a.png")
    with pytest.raises(InputError, match=message):
        read(tmp_path, write_list(tmp_path / "list.csv", "image,mask,label", "a.png,,normal", row))


def test_a_missing_list_says_whether_the_config_or_the_file_lacks(tmp_path):
    with pytest.raises(InputError, match=r"the config names no test list; --set data\.test=FILE\.csv"):
        read(tmp_path, DataConfig(), "test")
    with pytest.raises(InputError, match=r"no such list of samples; got .*gone\.csv"):
        read(tmp_path, DataConfig(train="gone.csv"))


@pytest.fixture
def glas(tmp_path):
    """Return a miniature of GlaS: PNG copies, and a Grade.csv with bare carriage returns and stray spaces."""
    grades = {"train_1": "2, malignant", "train_2": "5, benign", "testA_1": "4, benign", "testB_1": "3, malignant"}
    for name in grades:
        save(tmp_path / f"{name}.png")
        save(tmp_path / f"{name}_anno.png")
    rows = [f"{name},{grade}, adenomatous" for name, grade in grades.items()]
    write_list(tmp_path / "Grade.csv", "name,patient ID, grade (GlaS), grade (other)", *rows, "", end="\r")
    return tmp_path


def test_glas_takes_labels_and_patients_from_its_grades(glas):
    assert read(glas, GLAS) == [
        Sample(image=glas / "train_1.png", mask=glas / "train_1_anno.png", label=1, group="2"),
        Sample(image=glas / "train_2.png", mask=glas / "train_2_anno.png", label=0, group="5"),
    ]
    assert [sample.image.stem for sample in read(glas, GLAS, "test")] == ["testA_1", "testB_1"]


def test_glas_takes_a_list_before_its_grades(glas):
    write_list(glas / "folds" / "train.csv", "train_2.bmp,train_2_anno.bmp,benign")
    (sample,) = read(glas, GLAS.model_copy(update={"train": "folds/train.csv"}))
    assert (sample.image.name, sample.mask.name, sample.label) == ("train_2.png", "train_2_anno.png", 0)


def test_glas_has_no_validation_images_and_refuses_another_file_as_grades(glas):
    with pytest.raises(InputError, match=r"no validation images of its own; leave data\.valid out"):
        read(glas, GLAS, "valid")
    write_list(glas / "Grade.csv", "a,b,c")
    with pytest.raises(InputError, match=r"is not GlaS's Grade\.csv"):
        read(glas, GLAS)


@pytest.mark.data
def test_real_glas_has_its_lists_agree_with_its_grades(data_dir):
    lists = GLAS.model_copy(update={"train": "folds/train.csv", "valid": "folds/valid.csv"})
    graded = {sample.image: sample.label for sample in read(data_dir / "glas", GLAS)}
    listed = [read_samples(data_dir / "glas", lists, split, seed=0) for split in ("train", "valid")]
    assert [len(samples) for samples in listed] == [67, 18]
    assert {sample.image: sample.label for samples in listed for sample in samples} == graded
    assert all(sample.mask.is_file() for samples in listed for sample in samples)


def patch_table(root, splits=("", "", "", "")):
    """Write a table of one patch a label, each in the split given."""
    numbers = {"x": 0, "y": 0, "width": 8, "height": 8, "mpp": 0.25, "patch_px": 8, "tissue_fraction": 1.0}
    labels = ("normal", "tumor", "mixed", "unlabelled")
    records = [
        {
            **numbers,
            "patch_id": label,
            "slide_id": f"slide {label}",
            "patient_id": f"patient {label}",
            "label": label,
            "slide_label": "tumor",
            "tumour_fraction": 0.0,
            "image_format": "png",
            "image_path": f"images/{label}.png",
            "image_offset": 0,
            "image_bytes": -1,
            "mask_path": "masks/tumor.png" if label == "tumor" else "",
            "mask_offset": 0,
            "mask_bytes": -1,
            "split": split,
        }
        for label, split in zip(labels, splits, strict=True)
    ]
    write_patch_table(root / "patches.parquet", PatchTable(rows=make_rows(records)))
    return DataConfig(format="patches")


def test_patches_of_the_config_s_classes_are_samples_and_others_are_left_out(tmp_path):
    normal = {"image": tmp_path / "images/normal.png", "mask": None, "background_only": True, "patch_id": "normal"}
    tumor = {"image": tmp_path / "images/tumor.png", "mask": tmp_path / "masks/tumor.png", "patch_id": "tumor"}
    assert read(tmp_path, patch_table(tmp_path)) == [
        Sample(**normal, label=0, group="patient normal"),
        Sample(**tumor, label=1, group="patient tumor"),
    ]


def test_patches_go_to_the_split_that_the_table_gives_them(tmp_path):
    config = patch_table(tmp_path, ("train", "test", "train", "train"))
    assert [[s.label for s in read(tmp_path, config, split)] for split in ("train", "valid", "test")] == [[0], [], [1]]


def test_a_table_with_a_validation_split_of_its_own_is_not_split_again(tmp_path):
    config = patch_table(tmp_path, ("train", "valid", "train", "train"))
    assert [[s.label for s in read_samples(tmp_path, config, split, seed=0)] for split in ("train", "valid")] == [
        [0],
        [1],
    ]


def test_a_patch_without_tumour_has_an_empty_ground_truth_and_needs_no_file(tmp_path):
    save(tmp_path / "images" / "normal.png")
    sample = read(tmp_path, patch_table(tmp_path))[0]
    item = SampleDataset([sample], masks=True)[0]
    assert item.mask.shape == (1, *item.image.shape[-2:])
    assert not item.mask.any()


def test_images_of_different_sizes_in_a_batch_are_refused_with_the_remedy(tmp_path):
    for name, size in (("a", (8, 8)), ("b", (8, 16))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    samples = [Sample(image=tmp_path / f"{name}.png", mask=None, label=0, group="") for name in "ab"]
    dataset = SampleDataset(samples)
    assert collate([dataset[0], dataset[0]]).image.shape == (2, 3, 8, 8)
    with pytest.raises(InputError, match=r"got 8×8, 8×16; set augment\.crop_px"):
        collate([dataset[0], dataset[1]])


def three_samples(tmp_path):
    rng = np.random.default_rng(0)
    samples = [
        Sample(image=tmp_path / f"{i}.png", mask=None, label=0, group="", background_only=True) for i in range(3)
    ]
    for sample in samples:
        Image.fromarray(rng.integers(0, 256, (10, 15, 3), np.uint8)).save(sample.image)
    return samples


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (3 * 8 * 12, 1), (2 * 3 * 8 * 12 + 5, 2), (10**6, 3)])
def test_images_that_are_kept_are_the_same_and_not_read_again(tmp_path, limit, kept):
    samples = three_samples(tmp_path)
    dataset = SampleDataset(samples, shorter_side_px=8, masks=True)
    before = [dataset[index] for index in range(3)]
    dataset.keep(limit, Quiet())
    for sample in samples[:kept]:
        sample.image.unlink()
    for _ in range(2):
        for item, expected in zip((dataset[index] for index in range(3)), before, strict=True):
            assert item.image.shape == (3, 8, 12)
            assert item.mask.shape == (1, 10, 15)
            assert all(torch.equal(one, other) for one, other in zip(item, expected, strict=True))
    for sample in samples[kept:]:
        sample.image.unlink()
    if kept < 3:
        with pytest.raises(InputError, match="cannot be read"):
            dataset[kept]


def test_nothing_is_read_to_keep_nothing(tmp_path):
    samples = three_samples(tmp_path)
    for sample in samples:
        sample.image.unlink()
    dataset = SampleDataset(samples)
    dataset.keep(0, Quiet())
    assert not dataset._kept


def test_augmentation_leaves_what_is_kept_as_it_is(tmp_path):
    samples = three_samples(tmp_path)
    fresh, kept = (SampleDataset(samples, augment=AugmentConfig(crop_px=10)) for _ in range(2))
    kept.keep(10**6, Quiet())
    for epoch in range(3):
        for position in range(3):
            shown = Draw(position, epoch)
            assert torch.equal(fresh[shown].image, kept[shown].image)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_loader_processes_share_what_is_kept_and_pickling_leaves_it_out(tmp_path):
    samples = three_samples(tmp_path)
    dataset = SampleDataset(samples)
    dataset.keep(10**6, Quiet())
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 3 * 10 * 15 + 2000
    for sample in samples:
        sample.image.unlink()
    (batch,) = Batches(dataset, workers=1, collate=collate).load([[Draw(0), Draw(2)]])
    assert torch.equal(batch.image, torch.stack([dataset[0].image, dataset[2].image]))
    with pytest.raises(InputError, match="cannot be read"):
        pickle.loads(pickled)[0]


def test_samples_are_stacked_by_size_where_sizes_differ(tmp_path):
    sizes = [(8, 8), (8, 16), (8, 8)]
    samples = [Sample(image=tmp_path / f"{i}.png", mask=None, label=0, group="") for i in range(3)]
    for sample, size in zip(samples, sizes, strict=True):
        Image.new("RGB", size).save(sample.image)
    batches = collate_by_size([SampleDataset(samples)[index] for index in range(3)])
    assert [batch.position.tolist() for batch in batches] == [[0, 2], [1]]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_takes_new_orders_and_says_in_one_line_what_cannot_be_read(tmp_path, workers):
    samples = [Sample(image=save(tmp_path / f"{i}.png"), mask=None, label=i, group="") for i in range(3)]
    samples[2].image.write_bytes(b"no image")
    batches = Batches(SampleDataset(samples), workers=workers, collate=collate)
    for order in ([[0, 1]], [[1], [0]]):
        read = batches.load([[Draw(index) for index in batch] for batch in order])
        assert [item.position.tolist() for item in read] == order
    with pytest.raises(InputError, match=r"^an image cannot be read; got .*2\.png") as error:
        list(batches.load([[Draw(0)], [Draw(2)]]))
    assert "\n" not in str(error.value)
    Image.new("RGB", (9, 9)).save(samples[2].image)
    with pytest.raises(InputError, match="different sizes cannot share a batch"):
        list(batches.load([[Draw(0), Draw(2)]]))


def test_a_loader_draws_nothing_from_the_global_random_state(tmp_path):
    samples = [Sample(image=save(tmp_path / "a.png"), mask=None, label=0, group="")]
    before = torch.get_rng_state()
    list(Batches(SampleDataset(samples), workers=0, collate=collate).load([[Draw(0)]]))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unsplit_table_is_for_training(tmp_path):
    config = patch_table(tmp_path)
    assert [len(read(tmp_path, config, split)) for split in ("train", "valid", "test")] == [2, 0, 0]


def test_validation_is_held_out_by_group_and_the_same_for_the_same_seed(labelled_folder):
    config = DataConfig(train="labels.csv", valid_fraction=0.5)
    train, valid = (read_samples(labelled_folder, config, split, seed=3) for split in ("train", "valid"))
    assert len({sample.image for sample in train + valid}) == len(train) + len(valid) == 8
    assert not {sample.group for sample in train} & {sample.group for sample in valid}
    assert {sample.label for sample in valid} == {0, 1}
    assert valid == read_samples(labelled_folder, config, "valid", seed=3)
    other = [read_samples(labelled_folder, config, "valid", seed=seed) for seed in range(8)]
    assert any(samples != valid for samples in other)


def test_a_list_of_validation_samples_replaces_the_holdout(labelled_folder):
    config = DataConfig(train="labels.csv", valid="labels.csv")
    assert len(read_samples(labelled_folder, config, "train", seed=0)) == 8
    assert len(read_samples(labelled_folder, config, "valid", seed=0)) == 8


@pytest.mark.parametrize("valid", [None, "labels.csv"])
def test_excluded_groups_are_in_no_split(labelled_folder, valid):
    config = DataConfig(
        train="labels.csv", test="labels.csv", valid=valid, split_by="sample", exclude_groups=("slide_0_tumor",)
    )
    for split in ("train", "valid", "test"):
        groups = {sample.group for sample in read_samples(labelled_folder, config, split, seed=0)}
        assert groups
        assert "slide_0_tumor" not in groups


def test_an_empty_split_is_an_error_with_a_remedy(labelled_folder):
    config = DataConfig(train="labels.csv", valid_fraction=0)
    with pytest.raises(InputError, match=r"the valid split of .* has no samples; check .*valid_fraction"):
        read_samples(labelled_folder, config, "valid", seed=0)


@pytest.fixture
def paired(tmp_path):
    """Return a sample whose image is 200 in all channels where its mask is set, and 0 elsewhere."""
    mask = np.random.default_rng(0).random((40, 48)) < 0.3
    image = save(tmp_path / "image.png", np.repeat(np.uint8(200) * mask[..., None], 3, axis=2))
    return Sample(image=image, mask=save(tmp_path / "mask.png", mask.astype(np.uint8) * 7), label=1, group="")


@pytest.mark.parametrize("crop_px", [None, 32, 64])
def test_augmentation_moves_image_and_mask_together_and_pads_with_glass(paired, crop_px):
    augment = STILL.model_copy(update={"crop_px": crop_px})
    dataset = SampleDataset([paired], augment=augment, masks=True)
    seen = set()
    for epoch in range(8):
        item = dataset[Draw(0, epoch)]
        assert torch.equal(item.mask[0], (item.image[0] == 200).to(torch.uint8))
        assert set(item.image.unique().tolist()) == {0, 200} | ({255} if crop_px == 64 else set())
        assert crop_px is None or item.image.shape == (3, crop_px, crop_px)
        seen.add(item.image.numpy().tobytes())
    assert len(seen) > 2


def test_colour_jitter_leaves_the_mask_alone(paired):
    augment = AugmentConfig(horizontal_flip=0, vertical_flip=0, rotate_90=False)
    item = SampleDataset([paired], augment=augment, masks=True)[0]
    assert torch.equal(item.mask, read_mask(paired.mask))
    assert not torch.equal(item.image, read_image(paired.image))


def test_resizing_keeps_the_ratio_and_the_ground_truth_s_own_size(paired):
    item = SampleDataset([paired], shorter_side_px=20, masks=True)[0]
    assert (item.image.shape, item.mask.shape) == ((3, 20, 24), (1, 40, 48))
    augmented = SampleDataset([paired], shorter_side_px=20, augment=STILL, masks=True)[0]
    assert augmented.mask.shape[1:] == augmented.image.shape[1:]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes:UserWarning")
def test_augmentation_depends_on_seed_epoch_and_sample_alone(labelled_folder):
    samples = read(labelled_folder, DataConfig(train="labels.csv"))

    def epoch(number, *, workers, order, seed=0):
        dataset = SampleDataset(samples, augment=AugmentConfig(crop_px=32), seed=seed)
        draws = [Draw(index, number) for index in order]
        items = Batches(dataset, workers=workers, collate=collate).load(
            [draws[i : i + 2] for i in range(0, len(draws), 2)]
        )
        return {int(i): image for item in items for i, image in zip(item.position, item.image, strict=True)}

    alone = epoch(0, workers=0, order=[0, 1, 2, 3])
    shared = epoch(0, workers=2, order=[3, 1, 0, 2])
    assert all(torch.equal(alone[index], shared[index]) for index in alone)
    for other in (epoch(1, workers=0, order=[0, 1]), epoch(0, workers=0, order=[0, 1], seed=1)):
        assert not torch.equal(alone[0], other[0])


def test_augmentation_leaves_the_global_random_state_alone(paired):
    before = torch.get_rng_state()
    SampleDataset([paired], augment=AugmentConfig())[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_masks_are_not_opened_unless_asked_for(paired):
    paired.mask.write_bytes(b"not an image")
    item = SampleDataset([paired], augment=AugmentConfig())[0]
    assert (item.mask.numel(), int(item.label), int(item.position)) == (0, 1, 0)
    with pytest.raises(InputError, match=r"an image cannot be read; got .*mask\.png"):
        SampleDataset([paired], masks=True)[0]


def test_training_on_masks_names_a_sample_that_has_none(paired):
    sample = replace(paired, mask=None)
    with pytest.raises(InputError, match=r"a sample has no ground truth; got image\.png"):
        SampleDataset([sample], augment=STILL, masks=True)[0]
    background = SampleDataset([replace(sample, background_only=True)], augment=STILL, masks=True)[0]
    assert background.mask.shape[1:] == background.image.shape[1:]
    assert not background.mask.any()


@pytest.mark.parametrize("kind", ["instances", "bool", "RGB", "RGBA"])
def test_a_mask_is_foreground_wherever_its_file_is_not_black(tmp_path, kind):
    truth = np.eye(8, dtype=np.uint8)
    pixels = {
        "instances": truth * np.arange(1, 9, dtype=np.uint8),
        "bool": truth.astype(bool),
        "RGB": np.stack([truth * 0, truth * 255, truth * 0], axis=2),
        "RGBA": np.stack([truth * 9, truth * 0, truth * 0, truth * 0 + 255], axis=2),
    }[kind]
    mask = read_mask(save(tmp_path / "mask.png", pixels))
    assert torch.equal(mask, torch.from_numpy(truth)[None])


def test_a_grey_image_reads_as_three_channels(tmp_path):
    image = read_image(save(tmp_path / "a.png", np.arange(12, dtype=np.uint8).reshape(3, 4)))
    assert (image.shape, image.dtype) == ((3, 3, 4), torch.uint8)
    assert torch.equal(image[0], image[2])


def test_an_image_that_breaks_off_is_an_error_that_names_it(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"an image cannot be read; got .*a\.png"):
        read_image(path)
