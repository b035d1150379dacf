"""What is found before a training starts, on real files of each kind that samples come in."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.test_training import LISTS, STILL, make_config
from wsi_maxmin.config import DataConfig, RunConfig, merge
from wsi_maxmin.data import Sample, read_samples
from wsi_maxmin.data._check import check_samples
from wsi_maxmin.data._dataset import SampleDataset
from wsi_maxmin.data._samples import FilePart, SlidePart
from wsi_maxmin.errors import InputError
from wsi_maxmin.geometry import Box
from wsi_maxmin.progress import Quiet
from wsi_maxmin.slide_list import ListedSlide


class Heard(Quiet):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


@pytest.fixture
def samples(labelled_folder):
    return read_samples(labelled_folder, LISTS, "train", seed=0)


def check(train, valid=None, *, masks=False, **values):
    heard = Heard()
    config = RunConfig.model_validate(merge(make_config().model_dump(), values))
    check_samples(train, train if valid is None else valid, config, masks=masks, progress=heard)
    return [line for line in heard.lines if "training images too" not in line]


def test_good_samples_pass_without_a_word_and_their_masks_unseen(samples):
    samples[0].mask.write_bytes(b"not an image")
    assert check(samples) == []


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b""), "no image"),
        (lambda path: path.write_bytes(b"not an image"), "no image"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "truncated|broken"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "truncated|broken"),
    ],
)
@pytest.mark.parametrize("split", ["train", "valid"])
def test_one_bad_image_is_named(samples, damage, why, split):
    other = [replace(sample, image=sample.image.with_name(f"v{i}.png")) for i, sample in enumerate(samples)]
    for sample, copy in zip(samples, other, strict=True):
        shutil.copy(sample.image, copy.image)
    bad = (samples if split == "train" else other)[5].image
    damage(bad)
    with pytest.raises(InputError, match=rf"^1 of 16 samples cannot be used; got .*{bad.name} \(.*({why})"):
        check(samples, other)


def test_many_bad_images_are_counted_and_some_named(samples):
    for sample in samples[1:6]:
        sample.image.write_bytes(b"")
    with pytest.raises(InputError, match=r"5 of 8 .*1\.png.*2\.png.*3\.png.* and 2 more; restore"):
        check(samples[:6], samples[6:])


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".tif", ".png"])
def test_a_file_that_breaks_off_is_found_in_any_format(samples, suffix):
    path = samples[0].image.with_suffix(suffix)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    changed = [Sample(image=path, mask=None, label=0, group=""), *samples[1:]]
    assert check(changed) == []
    path.write_bytes(path.read_bytes() + bytes(100))
    assert check(changed) == []
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"2 of 16 samples cannot be used; got .*{path.name}"):
        check(changed)


def test_a_header_longer_than_what_is_read_of_it_at_first_is_read_whole(samples):
    path = samples[0].image.with_suffix(".jpg")
    comment = b"x" * 65_000
    Image.open(samples[0].image).save(path, comment=comment, exif=b"Exif\0\0" + bytes(60_000))
    assert path.read_bytes().index(comment) + len(comment) > 2**16
    assert check([Sample(image=path, mask=None, label=0, group=""), *samples[1:]]) == []


def test_parts_of_files_are_checked_where_they_lie(samples, tmp_path):
    shard, parts = tmp_path / "shard.tar", []
    with shard.open("wb") as file:
        for sample in samples:
            data = sample.image.read_bytes()
            file.write(b"header")
            parts.append(Sample(image=FilePart(shard, file.tell(), len(data)), mask=None, label=sample.label, group=""))
            file.write(data)
    assert check(parts) == []
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"2 of 16 .*shard\.tar at byte \d+ \(it breaks off after \d+ of \d+ bytes\)"):
        check(parts)
    offset = parts[2].image.offset
    shard.write_bytes(whole[:offset] + bytes(50) + whole[offset + 50 :])
    with pytest.raises(InputError, match=rf"2 of 16 .*shard\.tar at byte {offset} \(no image\)"):
        check(parts)


def test_a_slide_that_does_not_open_is_found_by_its_first_patch(tissue_slide, tmp_path):
    def patches(path):
        slide = ListedSlide(path=path, slide_id="slide")
        boxes = [Box(x=x, y=128, width=64, height=64) for x in range(256, 512, 64)]
        parts = [SlidePart(slide, box, 64) for box in boxes]
        return [Sample(image=part, mask=None, label=index % 2, group="") for index, part in enumerate(parts)]

    assert check(patches(tissue_slide)) == []
    broken = tmp_path / "broken.tif"
    broken.write_bytes(tissue_slide.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"1 of 8 samples cannot be used; got .*broken\.tif"):
        check(patches(broken))


def test_images_of_both_training_and_validation_are_said(samples):
    for valid, said in ((samples[4:], 0), (samples[3:], 1), (samples, 4)):
        heard = Heard()
        check_samples(samples[:4], valid, make_config(), masks=False, progress=heard)
        warning = f"WARNING: {said} of {len(valid)} validation images are training images too, such as "
        assert [line.startswith(warning) for line in heard.lines] == [True] * bool(said)


def test_a_class_that_training_never_sees_is_an_error(samples):
    with pytest.raises(
        InputError, match="a class has no training sample; got none of tumor; expected samples of normal, t"
    ):
        check(samples[::2], samples)


def test_a_validation_of_one_class_is_an_error_and_a_missing_third_one_is_said(samples):
    with pytest.raises(InputError, match=r"no validation sample; got none of normal;.*data\.valid_fraction"):
        check(samples, samples[1::2])
    three = DataConfig(classes=("normal", "tumor", "rare")).model_dump()
    rare = Sample(image=samples[0].image, mask=None, label=2, group="")
    assert check([*samples, rare], samples, data=three) == [
        "no validation sample is rare: the choice of the best epoch knows nothing of it"
    ]


def test_a_method_that_learns_from_masks_has_them_all_and_can_read_them(samples):
    for sample in samples:
        Image.new("1", (64, 64)).save(sample.mask)
    assert check(samples, masks=True) == []
    samples[3].mask.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2 of 16 samples cannot be used; got .*3_mask\.png \(no image\)"):
        check(samples, masks=True)
    samples[3].mask.unlink()
    with pytest.raises(InputError, match=r"2 of 16 samples cannot be used; got .*3_mask\.png \(.*No such file"):
        check(samples, masks=True)
    bare = Sample(image=samples[2].image, mask=None, label=0, group="")
    with pytest.raises(InputError, match=r"the method learns from masks; got none for 2 of 16 samples, such as 2\.png"):
        check([bare, *samples[:3], *samples[4:]], masks=True)


def test_images_smaller_than_the_crop_are_padded_and_that_is_said_unless_all_are(samples):
    with pytest.raises(
        InputError, match=r"every training image is smaller .*; got augment\.crop_px=65, and 0\.png, 64×64"
    ):
        check(samples, augment={"crop_px": 65})
    Image.new("RGB", (100, 40)).save(samples[4].image)
    (line,) = check(samples, augment={"crop_px": 64})
    assert line.startswith("1 of 8 training images are smaller than augment.crop_px=64 (4.png, 100×40)")
    assert check(samples, augment={"crop_px": 64}, data={"shorter_side_px": 64}) == []


def test_without_a_crop_images_must_be_of_one_size_also_when_turned(samples):
    still = {**STILL, "rotate_90": True}
    assert check(samples, augment=still) == []
    Image.new("RGB", (64, 40)).save(samples[4].image)
    with pytest.raises(InputError, match=r"cannot share a batch; got 0\.png 64×64, 4\.png 64×40; set augment\.crop_px"):
        check(samples, augment=still)
    assert check(samples, augment=still, training={"batch_size": 1}) == []
    for sample in samples:
        Image.new("RGB", (64, 40)).save(sample.image)
    with pytest.raises(InputError, match=r"got 0\.png 64×40, 0\.png 40×64; .*rotate_90"):
        check(samples, augment=still)
    assert check(samples, augment=STILL) == []


@pytest.mark.parametrize("size", [(64, 40), (40, 64), (97, 33), (50, 50)])
def test_the_size_after_resizing_is_the_one_that_training_will_see(samples, size):
    """The check goes by headers; a crop of exactly the foreseen height or width is what the images give."""
    for sample in samples:
        Image.new("RGB", size).save(sample.image)
    resized = SampleDataset(samples, shorter_side_px=48)[0].image.shape[1:]
    Image.new("RGB", (resized[1], resized[0])).save(samples[1].image)
    assert check(samples, augment=STILL, data={"shorter_side_px": 48}) == []


@pytest.mark.data
def test_real_glas_passes_and_one_broken_copy_of_67_is_named(data_dir, tmp_path):
    root = tmp_path / "glas"
    shutil.copytree(data_dir / "glas", root)
    config = RunConfig.model_validate(
        {
            "data": {
                "format": "glas",
                "classes": ["benign", "malignant"],
                "positive": "malignant",
                "train": "folds/train.csv",
                "valid": "folds/valid.csv",
                "shorter_side_px": 432,
            },
            "augment": {"crop_px": 416},
        }
    )
    train, valid = (read_samples(root, config.data, split, seed=0) for split in ("train", "valid"))
    check_samples(train, valid, config, masks=True, progress=Quiet())
    bad = train[40].image
    bad.chmod(0o644)
    bad.write_bytes(bad.read_bytes()[:-1000])
    with pytest.raises(InputError, match=rf"1 of 85 samples cannot be used; got .*{bad.name}"):
        check_samples(train, valid, config, masks=False, progress=Quiet())
