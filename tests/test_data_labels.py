"""Lists of images and labels in every form that people write them in."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsi_maxmin.config import DataConfig, load_config
from wsi_maxmin.data import Sample, read_samples
from wsi_maxmin.data._dataset import SampleDataset
from wsi_maxmin.data.labels import read_list
from wsi_maxmin.errors import InputError


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("lists")
    for name in ("a", "b", "m"):
        save(root / f"{name}.png")
    return root


def read(folder, *rows, **config):
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return read_list(folder / "list.csv", folder, DataConfig(**config))


@pytest.mark.parametrize(
    "rows",
    [
        ("a.png,tumor", "b.png,normal"),
        ("image,label", "a.png,tumor", "b.png,normal"),
        ("label,image", "tumor,a.png", "normal,b.png"),
        ("image,mask,label", "a.png,,tumor", "b.png,,normal"),
        ("a.png,,tumor,", "b.png,,normal"),
        ("group,label,mask,image", ",tumor,,a.png", ",normal,,b.png"),
    ],
)
def test_every_form_of_a_list_gives_the_same_samples(folder, rows):
    assert read(folder, *rows) == [
        Sample(image=folder / "a.png", mask=None, label=1, group=""),
        Sample(image=folder / "b.png", mask=None, label=0, group=""),
    ]


@given(st.permutations(["image", "mask", "label", "group"]))
def test_a_header_may_name_the_columns_in_any_order(folder, columns):
    cells = {"image": "a.png", "mask": "m.png", "label": "tumor", "group": "p1"}
    (sample,) = read(folder, ",".join(columns), ",".join(cells[name] for name in columns))
    assert sample == Sample(image=folder / "a.png", mask=folder / "m.png", label=1, group="p1")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ("image,label,patient", "a.png,tumor,p"),
            r"a column is unknown or there twice; got 'patient'; expected image",
        ),
        (("image,label,label", "a.png,tumor,tumor"), r"a column is unknown or there twice; got 'label'"),
        (
            ("image,label", "a.png,,tumor,p"),
            r"sample 1: malformed row; got a\.png,,tumor,p; expected image,label\[,group\]",
        ),
        (("group,image,label", "p,a.png"), r"sample 1: malformed row; got p,a\.png; expected group,image,label"),
        (("a.png", "b.png"), r"sample 1: malformed row; got a\.png; expected image\[,mask\],label\[,group\]"),
        (("a.png,,tumor,p,q",), r"sample 1: malformed row; got a\.png,,tumor,p,q; expected image"),
        (("a.png,normal", "b.png,normol"), r"sample 2: unknown label; got 'normol'; expected one of normal, tumor"),
    ],
)
def test_a_mistake_in_a_list_is_named(folder, rows, message):
    with pytest.raises(InputError, match=message):
        read(folder, *rows)


@pytest.mark.parametrize("known", [True, False])
def test_samples_without_mask_are_background_where_the_config_says_so_and_only_other_classes(folder, known):
    (folder / "list.csv").write_text("a.png,,normal\na.png,m.png,normal\nb.png,,tumor\nb.png,m.png,tumor\na.png,,other")
    config = DataConfig(train="list.csv", valid="list.csv", classes=("normal", "tumor", "other"))
    config = config.model_copy(update={"unmasked_is_background": known})
    samples = read_samples(folder, config, "train", seed=0)
    assert [sample.background_only for sample in samples] == [known, False, False, False, known]
    truths = [item.mask.numel() for item in SampleDataset(samples, masks=True)]
    assert truths == [64 * known, 64, 0, 64, 64 * known]


@pytest.fixture(scope="module")
def p512(tmp_path_factory):
    """Return a function that lays out P512 as its lists have it: the real patches that are here, empty files else."""

    def lay_out(data_dir):
        root, patches = tmp_path_factory.mktemp("p512"), data_dir / "camelyon16" / "patches512"
        (root / "camelyon16").mkdir()
        (root / "camelyon16" / "lists").symlink_to(data_dir / "camelyon16" / "lists")
        here, folders = {path.name for path in patches.iterdir()}, set()
        for path in sorted((root / "camelyon16" / "lists").iterdir()):
            for row in gzip.decompress(path.read_bytes()).decode().split():
                for place in filter(None, row.split(",")[:2]):
                    folder, _, name = place.rpartition("/")
                    if folder not in folders:
                        folders.add(folder)
                        (root / folder).mkdir(parents=True)
                    if name in here:
                        (root / place).symlink_to(patches / name)
                    else:
                        (root / place).touch()
        return root

    return lay_out


@pytest.mark.slow
@pytest.mark.data
def test_the_published_lists_of_p512_read_whole(data_dir, p512):
    root, config = p512(data_dir), load_config("camelyon16-p512/maxmin-sem").data
    train, valid = (read_samples(root, config, split, seed=0) for split in ("train", "valid"))
    assert (len(train), len(valid)) == (24_348, 8_858)
    assert not {sample.image for sample in train} & {sample.image for sample in valid}
    for sample in (*train, *valid):
        assert sample.background_only == (sample.label == 0) == (sample.mask is None)
    real = [sample for sample in train if sample.image.is_symlink()]
    assert len(real) >= 3
    for sample in real:
        item = SampleDataset([sample], masks=True)[0]
        assert item.image.shape == (3, 512, 512)
        named = float(sample.name.partition("metastatic_")[2].partition("_w")[0]) if sample.label else 0
        assert float(item.mask.float().mean()) == pytest.approx(named, abs=1e-6)


@pytest.mark.data
def test_real_glas_reads_by_its_lists_as_the_configs_have_it(data_dir):
    overrides = [f"data.{split}=folds/{split}.csv" for split in ("train", "valid")]
    data = load_config("glas/maxmin-sem", overrides).data
    assert [len(read_samples(data_dir / "glas", data, split, seed=0)) for split in ("train", "valid")] == [67, 18]
    held_out = [
        len(read_samples(data_dir / "glas", load_config("glas/pn").data, s, seed=0)) for s in ("train", "valid")
    ]
    assert sum(held_out) == 85
