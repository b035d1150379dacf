"""Camelyon16's detection score: by pencil, on the traps of its protocol, and beside MONAI's."""

import math

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_fp_tp_probs, compute_froc_curve_data, compute_froc_score
from scipy import ndimage
from skimage.measure import label

from wsi_maxmin.annotations import Annotation, read_annotation
from wsi_maxmin.annotations.mask_tiff import open_mask
from wsi_maxmin.candidates import Candidates
from wsi_maxmin.froc import RATES, Frame, froc_of, label_lesions, land, map_lesions

FRAME = Frame.of("camelyon16", 0.243)
LARGE = 40


def candidates(*points):
    """Return candidates from (probability, column, row) of the frame's pixels."""
    table = np.array(points, dtype=float).reshape(-1, 3)
    x, y = (table[:, axis].astype(np.int64) * 32 + 5 for axis in (1, 2))
    return Candidates(probability=table[:, 0].astype("f4"), x=x, y=y, highest=0.0)


def mask(*squares, side=200):
    """Return a mask with squares of tumour, (row, column, side) each."""
    tumour = np.zeros((side, side), bool)
    for row, column, length in squares:
        tumour[row : row + length, column : column + length] = True
    return tumour


def monai_score(slides, lesion_maps):
    """Return MONAI's score of the same candidates on the same lesions."""
    false, hits, targets = [], [], 0
    for points, lesions in zip(slides, lesion_maps, strict=True):
        labels = np.zeros((1, 1), int) if lesions is None else lesions.labels
        if lesions is None:
            false.append(points.probability)
            continue
        isolated = [lesion.number for lesion in lesions.lesions if lesion.isolated]
        found = compute_fp_tp_probs(points.probability, points.y, points.x, labels, isolated, 5)
        false.append(found[0])
        hits.append(found[1])
        targets += found[2]
    curve = compute_froc_curve_data(np.concatenate(false), np.concatenate(hits), targets, len(slides))
    return compute_froc_score(*curve), curve


def test_the_score_follows_by_pencil():
    """Two slides, two lesions: thresholds 0.9, 0.8, 0.6 and none at the lowest probability, 0 of nothing missed."""
    lesions = label_lesions(mask((20, 20, LARGE), (120, 120, LARGE)), FRAME)
    slide = land(candidates((0.9, 40, 40), (0.6, 130, 130), (0.8, 190, 10)), lesions)
    normal = land(candidates((0.5, 3, 3)), None)
    found = froc_of([slide, normal])
    assert slide.targets == 2
    np.testing.assert_array_equal(found.threshold, np.array([0.6, 0.8, 0.9, np.inf], "f4"))
    np.testing.assert_array_equal(found.false_positives, [0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(found.sensitivity, [1, 0.5, 0.5, 0])
    # Of the two points at 0.5 np.interp takes the one of the lower threshold, as the organisers' code does.
    assert found.at_rates == (0.5, 1, 1, 1, 1, 1)
    assert found.score == pytest.approx(5.5 / 6)


def test_a_slide_without_detections_still_counts():
    lesions = label_lesions(mask((20, 20, LARGE)), FRAME)
    tumour = land(candidates((0.9, 190, 190), (0.7, 30, 30)), lesions)
    empty = land(Candidates.none(), None)
    assert froc_of([tumour]).false_positives[0] == 1
    assert froc_of([tumour, empty, empty, empty]).false_positives[0] == 0.25


def test_a_tumour_slide_without_detections_keeps_its_lesions():
    lesions = label_lesions(mask((20, 20, LARGE)), FRAME)
    hit, missed = land(candidates((0.9, 30, 30)), lesions), land(Candidates.none(), lesions)
    assert missed.targets == 1
    assert froc_of([hit, missed]).score == 0.5


def test_every_candidate_of_a_normal_slide_is_a_false_positive():
    assert land(candidates((0.9, 30, 30), (0.2, 1, 1)), None).false_positives.tolist() == pytest.approx([0.9, 0.2])


def test_a_lesion_is_hit_once_with_its_best_probability():
    lesions = label_lesions(mask((20, 20, LARGE)), FRAME)
    found = land(candidates((0.3, 30, 30), (0.9, 40, 40), (0.5, 50, 50)), lesions)
    assert found.lesion_probability.tolist() == pytest.approx([0.9])
    assert found.best.tolist() == [1]
    assert len(found.false_positives) == 0


def test_isolated_tumour_cells_are_neither_lesion_nor_false_positive():
    """Grown by 37.5 µm, a square of 12 px (93 µm) stays below 275 µm along its major axis."""
    lesions = label_lesions(mask((20, 20, LARGE), (150, 150, 12)), FRAME)
    assert [lesion.isolated for lesion in lesions.lesions] == [False, True]
    found = land(candidates((0.9, 155, 155), (0.8, 30, 30)), lesions)
    assert (found.targets, len(found.false_positives)) == (1, 0)
    assert found.lesion_probability.tolist() == pytest.approx([0.8, 0])
    assert froc_of([land(candidates((0.9, 155, 155)), label_lesions(mask((150, 150, 12)), FRAME))]) is None


def test_isolated_is_what_has_a_major_axis_below_275_um():
    """Of an ellipse of the same moments: four standard deviations along its length."""
    seen = set()
    for length in range(8, 40):
        tumour = mask()
        tumour[50 : 50 + length, 50:56] = True
        found = label_lesions(tumour, FRAME)
        axis_um = 4 * np.nonzero(found.labels)[0].std() * 0.243 * 32
        (lesion,) = found.lesions
        assert lesion.major_axis_um == pytest.approx(axis_um)
        assert lesion.isolated == (axis_um < 275)
        seen.add(lesion.isolated)
    assert seen == {True, False}


def test_holes_are_part_of_the_lesion():
    tumour = mask((20, 20, 100))
    tumour[50:80, 50:80] = False
    lesions = label_lesions(tumour, FRAME)
    assert land(candidates((0.9, 65, 65)), lesions).lesion_probability.tolist() == pytest.approx([0.9])


def test_pieces_that_touch_at_a_corner_or_lie_within_the_border_are_one_lesion():
    assert len(label_lesions(mask((20, 20, LARGE), (60, 60, LARGE)), FRAME).lesions) == 1
    # Grown by 4.8 px each, a gap of 8 px closes and one of 12 px does not.
    assert len(label_lesions(mask((20, 20, LARGE), (20, 68, LARGE)), FRAME).lesions) == 1
    assert len(label_lesions(mask((20, 20, LARGE), (20, 72, LARGE)), FRAME).lesions) == 2


def test_a_candidate_within_the_border_hits_and_one_behind_it_does_not():
    lesions = label_lesions(mask((20, 20, LARGE)), FRAME)
    found = land(candidates((0.9, 63, 40), (0.8, 64, 40)), lesions)
    assert found.landed.tolist() == [1, 0]


@given(st.integers(0, 2**32 - 1))
def test_lesions_are_those_of_the_whole_mask(seed):
    """Found around the tumour alone, they are what the organisers' steps give on the whole image."""
    rng = np.random.default_rng(seed)
    tumour = ndimage.gaussian_filter(rng.random((90, 70)), 3) > rng.uniform(0.5, 0.58)
    found = label_lesions(tumour, FRAME).labels
    if not tumour.any():
        assert not found.any()
        return
    distance = ndimage.distance_transform_edt(255 - 255 * tumour.astype(int))
    near = distance < 75 / (0.243 * 2**5 * 2)
    np.testing.assert_array_equal(found, label(ndimage.binary_fill_holes(near), connectivity=2))


@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_1_and_of_255_give_the_same_lesions(tmp_path, value):
    tumour = mask((1, 1, 4), side=8).repeat(32, axis=0).repeat(32, axis=1)
    path = tmp_path / "slide_mask.tif"
    tifffile.imwrite(path, tumour.astype(np.uint8) * value, tile=(64, 64), photometric="minisblack")
    found = map_lesions(open_mask(path), (256, 256), FRAME)
    np.testing.assert_array_equal(found.labels, label_lesions(mask((1, 1, 4), side=8), FRAME).labels)
    assert len(found.lesions) == 1


def test_lesions_lie_where_they_were_drawn_whatever_the_slide_s_size():
    ring = np.array([(640, 320), (3840, 320), (3840, 2560), (640, 2560)], float)
    found = map_lesions(Annotation(include=((ring,),), exclude=()), (5001, 3001), FRAME)
    assert found.labels.shape == (math.ceil(3001 / 32), math.ceil(5001 / 32))
    (lesion,) = found.lesions
    # The border of 4.8 px is 4 whole ones on each side.
    assert (lesion.box.x, lesion.box.y) == (640 - 4 * 32, 320 - 4 * 32)
    assert (lesion.box.right, lesion.box.bottom) == (3840 + 4 * 32, 2560 + 4 * 32)


def test_the_protocol_of_the_organisers_takes_no_notice_of_the_slide_s_mpp():
    assert Frame.of("camelyon16", 0.5) == Frame(downsample=32, mpp=0.243)
    assert Frame.of("per-slide-mpp", 0.226) == Frame(downsample=32, mpp=0.226)
    assert Frame.of("per-slide-mpp", 0.5) == Frame(downsample=16, mpp=0.5)
    assert Frame.of("per-slide-mpp", 20) == Frame(downsample=1, mpp=20)


def test_no_lesion_missed_leaves_the_least_probable_candidates_out():
    """The lowest threshold is left out by the organisers, be it that of the only hit."""
    lesions = label_lesions(mask((20, 20, LARGE)), FRAME)
    assert froc_of([land(candidates((0.9, 30, 30)), lesions)]).score == 0
    assert froc_of([land(candidates((0.9, 30, 30)), lesions)], lowest=True).score == 1
    missed = [land(candidates((0.9, 30, 30), (0.4, 190, 190)), lesions), land(Candidates.none(), lesions)]
    assert froc_of(missed).score == froc_of(missed, lowest=True).score == 0.5
    assert froc_of([land(candidates((0.9, 30, 30), (0.1, 190, 190)), lesions)]).score == 1


def random_slide(rng, count=None):
    count = int(rng.integers(0, 60)) if count is None else count
    grid = rng.choice(np.linspace(0.05, 1, 20), count) if rng.random() < 0.5 else rng.random(count)
    return candidates(*zip(grid, rng.integers(0, 90, count), rng.integers(0, 90, count), strict=True))


@given(st.integers(0, 2**32 - 1))
def test_random_slides_score_as_monai_says(seed):
    rng = np.random.default_rng(seed)
    maps = [label_lesions(mask((20, 20, LARGE), (75, 75, 8), side=90), FRAME)]
    for _ in range(int(rng.integers(1, 5))):
        tumour = ndimage.gaussian_filter(rng.random((90, 90)), 4) > 0.54
        maps.append(label_lesions(tumour, FRAME) if tumour.any() and rng.random() < 0.7 else None)
    slides = [random_slide(rng) for _ in maps]
    found = froc_of([land(points, lesions) for points, lesions in zip(slides, maps, strict=True)])
    score, curve = monai_score(slides, maps)
    np.testing.assert_allclose(found.false_positives, curve[0], atol=1e-6)
    np.testing.assert_allclose(found.sensitivity, curve[1], atol=1e-6)
    assert found.score == pytest.approx(score, abs=1e-6)


@pytest.mark.data
@pytest.mark.slow
def test_real_lesions_score_as_monai_says(data_dir):
    """Outlines of Camelyon16, with candidates on and around them."""
    rng = np.random.default_rng(0)
    slides, maps = [Candidates.none()], [None]
    for path in sorted((data_dir / "camelyon16" / "annotations").glob("*.xml.gz"))[:12]:
        annotation = read_annotation(path)
        boxes = annotation.tumour_boxes()
        size = max(box.right for box in boxes) + 4000, max(box.bottom for box in boxes) + 4000
        maps.append(map_lesions(annotation, size, FRAME))
        centres = np.array([(box.x + box.width / 2, box.y + box.height / 2) for box in boxes])
        points = np.concatenate([centres, centres + rng.normal(0, 800, centres.shape), rng.random((40, 2)) * size])
        points = points.clip(0, np.array(size) - 1).astype(np.int64)
        probability = np.sort(rng.random(len(points)).astype("f4"))[::-1]
        slides.append(Candidates(probability=probability, x=points[:, 0], y=points[:, 1], highest=1.0))
    found = froc_of([land(points, lesions) for points, lesions in zip(slides, maps, strict=True)])
    lesions = [lesion for found in maps[1:] for lesion in found.lesions]
    assert {lesion.isolated for lesion in lesions} == {True, False}
    score, curve = monai_score(slides, maps)
    assert 0 < score < 1
    assert found.score == pytest.approx(score, abs=1e-6)
    np.testing.assert_allclose(found.sensitivity, curve[1], atol=1e-6)
    assert len(RATES) == 6
