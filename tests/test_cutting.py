"""One chunk of patches of one slide, and what its rows say."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_extract_patches import SMALL, TISSUE, TUMOUR, outline
from wsi_maxmin import stores
from wsi_maxmin.cutting import (
    cut_chunk,
    describe,
    holds_tumour,
    in_chunks,
    open_job,
    plan_slide,
    release,
)
from wsi_maxmin.errors import SlideError
from wsi_maxmin.extraction import ExtractSettings, Plan, Planned, SlideJob

MakeJob = Callable[..., SlideJob]
places = st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 90_000)), unique=True)


@pytest.fixture
def make_job(make_slide: Callable[..., Path], tmp_path: Path) -> MakeJob:
    """Return a function that makes the job of a slide, its annotation with tumour, without ("empty") or none."""

    def make(truth: str = "tumour", **values: object) -> SlideJob:
        path = tmp_path / "one.xml"
        if truth == "tumour":
            outline(path, *TUMOUR)
        elif truth == "empty":
            path.write_text("<ASAP_Annotations/>")
        release()
        slide = make_slide("one", TISSUE)
        return SlideJob(slide_id="one", path=slide, truth=path if truth != "none" else None, **values)

    return make


def plan_of(corners: list[tuple[int, int]]) -> Plan:
    return Plan(mpp=1.0, patches=tuple(Planned(x, y, 64, 64, 1.0) for x, y in corners))


@given(corners=places, data=st.data())
@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, store="shard", shard_patches=3)], ids=["files", "shard"])
def test_chunks_hold_each_patch_once_whatever_the_order_of_the_plan(
    settings: ExtractSettings, corners: list[tuple[int, int]], data: st.DataObject
) -> None:
    chunks = in_chunks(plan_of(corners), settings)
    assert sorted(patch[:2] for chunk in chunks for patch in chunk) == sorted(corners)
    assert [len(chunk) for chunk in chunks] == stores.plugins.load(settings.store).chunk_sizes(len(corners), 3)
    assert in_chunks(plan_of(data.draw(st.permutations(corners))), settings) == chunks


def test_neighbours_in_a_wide_slide_are_cut_soon_after_each_other() -> None:
    """A reader's cache holds a row of tiles of a block of columns, not of the whole slide."""
    corners = [(x, y) for y in range(0, 2048, 512) for x in range(0, 200 * 512, 512)]
    patches = [patch for chunk in in_chunks(plan_of(corners), SMALL) for patch in chunk]
    order = {patch[:2]: index for index, patch in enumerate(patches)}
    assert max(order[x, y + 512] - order[x, y] for x, y in corners if y < 1536) <= 48


def test_a_chunks_rows_are_the_same_whichever_chunk_was_cut_before(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job()
    plan = plan_slide(job, SMALL)
    settings = replace(SMALL, store="shard", shard_patches=5)
    chunks = list(enumerate(in_chunks(plan, settings)))
    assert len(chunks) == 3
    found = []
    for name, order in (("forward", chunks), ("backward", chunks[::-1])):
        release()
        rows = [cut_chunk(job, settings, tmp_path / name, number, patches, plan.mpp) for number, patches in order]
        shards = {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.tar")}
        found.append((sorted(map(repr, rows)), shards))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("truth", "without", "partly", "slide_label", "labels"),
    [
        ("tumour", "unlabelled", False, "tumor", {"tumor", "normal"}),
        ("tumour", "normal", True, "tumor", {"tumor", "unlabelled"}),
        ("empty", "unlabelled", False, "normal", {"normal"}),
        ("empty", "unlabelled", True, "normal", {"unlabelled"}),
        ("none", "unlabelled", False, "unlabelled", {"unlabelled"}),
        ("none", "normal", False, "normal", {"normal"}),
    ],
)
def test_labels_follow_from_truth_and_from_what_its_absence_means(
    make_job: MakeJob, tmp_path: Path, truth: str, without: str, partly: bool, slide_label: str, labels: set[str]
) -> None:
    settings = replace(SMALL, without_annotation=without, format="none")
    job = make_job(truth, partly_annotated=partly)
    plan = plan_slide(job, settings)
    rows = cut_chunk(job, settings, tmp_path / "out", 0, plan.patches, plan.mpp)
    assert {row["slide_label"] for row in rows} == {slide_label}
    assert {row["label"] for row in rows} == labels
    assert all(math.isnan(row["tumour_fraction"]) == (slide_label == "unlabelled") for row in rows)
    assert {bool(row["mask_path"]) for row in rows} == ({True, False} if truth == "tumour" else {False})
    assert holds_tumour(job, settings) == (truth == "tumour")


@pytest.mark.parametrize(("least", "label"), [(0.875, "tumor"), (0.876, "mixed")])
def test_a_patch_is_tumour_from_the_least_share_on(make_job: MakeJob, tmp_path: Path, least: float, label: str) -> None:
    settings = replace(SMALL, min_tumour=least)
    row = cut_chunk(make_job(), settings, tmp_path, 0, [Planned(256, 128, 64, 64, 1.0)], 2.0)[0]
    assert (row["tumour_fraction"], row["label"]) == (0.875, label)


def test_a_slide_and_its_truth_are_told_from_others_without_times_or_paths(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job()
    before = describe(job, SMALL)
    job.path.touch()
    release()
    assert describe(job, SMALL) == before
    assert str(tmp_path) not in repr(before)
    outline(job.truth, 0, 0, 10, 10)
    assert describe(job, SMALL) != before
    hashed = describe(job, replace(SMALL, hash_slide_ids=True))
    assert set(before) - set(hashed) == {"file"}
    assert "one" not in hashed.values()


def test_a_slide_stays_open_until_it_is_released(make_job: MakeJob) -> None:
    job = make_job()
    first, _ = open_job(job, SMALL)
    assert open_job(job, SMALL)[0] is first
    release()
    assert open_job(job, SMALL)[0] is not first


def test_a_shard_whose_slide_breaks_off_is_not_left_open(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job()
    whole = job.path.read_bytes()
    job.path.write_bytes(whole[:1000] + bytes(len(whole) - 2000) + whole[-1000:])
    release()
    settings = replace(SMALL, store="shard")
    with pytest.raises(SlideError, match=r"one\.tif"):
        cut_chunk(job, settings, tmp_path / "out", 0, [Planned(128, 64, 64, 64, 1.0)], 2.0)
    assert np.size(list((tmp_path / "out").rglob("*.tar"))) == 1
