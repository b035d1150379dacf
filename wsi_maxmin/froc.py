"""The detection score of Camelyon16, as its organisers count it: lesions, hits, false positives, FROC.

Of the challenge: Ehteshami Bejnordi et al., JAMA 318:2199 (2017).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label, regionprops

from wsi_maxmin.annotations import Truth
from wsi_maxmin.candidates import Candidates
from wsi_maxmin.geometry import Box

Protocol = Literal["camelyon16", "per-slide-mpp"]

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CAMELYON16_MPP, CAMELYON16_DOWNSAMPLE = 0.243, 32
_NEIGHBOURS_UM = 75.0
_ISOLATED_UM = 275.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The pixels that lesions are found on.

    Attributes
    ----------
    downsample : int
        Level-0 px a pixel.
    mpp : float
        µm a level-0 pixel that distances are reckoned with.
    """

    downsample: int
    mpp: float

    @classmethod
    def of(cls, protocol: Protocol, slide_mpp: float) -> "Frame":
        """Return level 5 at 0.243 µm whatever the slide's own, or the power of two nearest to it in µm."""
        if protocol == "camelyon16":
            return cls(downsample=CAMELYON16_DOWNSAMPLE, mpp=CAMELYON16_MPP)
        nearest = round(math.log2(CAMELYON16_DOWNSAMPLE * CAMELYON16_MPP / slide_mpp))
        return cls(downsample=2 ** max(nearest, 0), mpp=slide_mpp)

    @property
    def pixel_um(self) -> float:
        """µm a pixel."""
        return self.mpp * self.downsample


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One lesion of a slide.

    Attributes
    ----------
    number : int
        From 1, its label.
    box : Box
        Level-0 px.
    area_um2 : float
        With the border that the protocol adds.
    major_axis_um : float
        Likewise.
    isolated : bool
        Isolated tumour cells: too small to be a lesion; a hit is no false positive either.
    """

    number: int
    box: Box
    area_um2: float
    major_axis_um: float
    isolated: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LesionMap:
    """The lesions of one slide and where they are.

    Attributes
    ----------
    labels : (H, W) int32
        0 outside of lesions.
    lesions : tuple of Lesion
        In the order of their labels.
    downsample : int
        Level-0 px a pixel.
    """

    labels: npt.NDArray[np.int32]
    lesions: tuple[Lesion, ...]
    downsample: int


def map_lesions(truth: Truth, size_px: tuple[int, int], frame: Frame) -> LesionMap:
    """Return the lesions of a slide of `size_px` level-0 px, width and height."""
    width, height = (math.ceil(side / frame.downsample) for side in size_px)
    box = Box(x=0, y=0, width=width * frame.downsample, height=height * frame.downsample)
    return label_lesions(truth.mask(box, width, height), frame)


def label_lesions(tumour: npt.NDArray[np.bool_], frame: Frame) -> LesionMap:
    """Find the lesions of a mask.

    What is nearer than 75/2 µm to tumour is added to it, holes are filled, and 8-connected pieces are lesions. Those
    with a major axis below 275 µm, which is 200 µm and the border, are isolated tumour cells.

    Parameters
    ----------
    tumour : (H, W) bool
    frame : Frame
        Of its pixels.
    """
    labels = np.zeros(tumour.shape, dtype=np.int32)
    if tumour.any():
        reach = _NEIGHBOURS_UM / (2 * frame.pixel_um)
        where = _around(tumour, math.ceil(reach) + 1)
        grown = ndimage.distance_transform_edt(~tumour[where]) < reach
        labels[where] = label(ndimage.binary_fill_holes(grown), connectivity=2)
    lesions = []
    for piece in regionprops(labels):
        top, left, bottom, right = (side * frame.downsample for side in piece.bbox)
        major_axis_um = float(piece.axis_major_length) * frame.pixel_um
        lesions.append(
            Lesion(
                number=int(piece.label),
                box=Box(x=left, y=top, width=right - left, height=bottom - top),
                area_um2=float(piece.area) * frame.pixel_um**2,
                major_axis_um=major_axis_um,
                isolated=bool(piece.axis_major_length < _ISOLATED_UM / frame.pixel_um),
            )
        )
    return LesionMap(labels=labels, lesions=tuple(lesions), downsample=frame.downsample)


def _around(mask: npt.NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of a mask, and some around: distances and holes are the same on them alone."""
    first, last = zip(*((int(at.min()), int(at.max())) for at in np.nonzero(mask)), strict=True)
    rows, columns = (slice(max(low - margin, 0), high + margin + 1) for low, high in zip(first, last, strict=True))
    return rows, columns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """Where the candidates of one slide lie.

    Attributes
    ----------
    landed : (N,) int64
        The number of the lesion under each candidate, 0 for none.
    best : (L,) int64
        The most probable candidate of each lesion, −1 where none hits it.
    lesion_probability : (L,) float32
        Of the best; 0 where there is none, and for isolated tumour cells.
    false_positives : (F,) float32
        Probabilities of the candidates outside of lesions.
    targets : int
        Lesions without isolated tumour cells.
    """

    landed: npt.NDArray[np.int64]
    best: npt.NDArray[np.int64]
    lesion_probability: npt.NDArray[np.float32]
    false_positives: npt.NDArray[np.float32]
    targets: int


def land(candidates: Candidates, lesions: LesionMap | None) -> Detections:
    """Look what the candidates of a slide hit; on a slide without tumour (`lesions` None) each is a false positive."""
    if lesions is None:
        landed, isolated = np.zeros(len(candidates), dtype=np.int64), np.zeros(0, dtype=np.bool_)
    else:
        rows, columns = candidates.y // lesions.downsample, candidates.x // lesions.downsample
        landed = lesions.labels[rows, columns].astype(np.int64)
        isolated = np.array([lesion.isolated for lesion in lesions.lesions], dtype=np.bool_)
    best = np.full(len(isolated), -1, dtype=np.int64)
    # From the least probable on, so that the most probable stays.
    for index in np.argsort(candidates.probability, kind="stable").tolist():
        if landed[index]:
            best[landed[index] - 1] = index
    counted = (best >= 0) & ~isolated
    probability = np.zeros(len(best), dtype=np.float32)
    probability[counted] = candidates.probability[best[counted]]
    return Detections(
        landed=landed,
        best=best,
        lesion_probability=probability,
        false_positives=candidates.probability[landed == 0],
        targets=int((~isolated).sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Froc:
    """Sensitivity against false positives a slide.

    Attributes
    ----------
    threshold : (T,) float32
        Ascending; infinite at the last point, where nothing is counted.
    false_positives : (T,) float64
        A slide, on average over all slides.
    sensitivity : (T,) float64
        Share of lesions hit.
    at_rates : tuple of float
        Sensitivity at `RATES`.
    """

    threshold: npt.NDArray[np.float32]
    false_positives: npt.NDArray[np.float64]
    sensitivity: npt.NDArray[np.float64]
    at_rates: tuple[float, ...]

    @property
    def score(self) -> float:
        """The mean sensitivity at `RATES`."""
        return float(np.mean(self.at_rates))


def froc_of(slides: Sequence[Detections], *, lowest: bool = False) -> Froc | None:
    """Return the curve over slides, of which each counts, with candidates or without; None if none has a lesion.

    Thresholds are the distinct probabilities of false positives and of lesions but the lowest. A lesion that is missed
    has 0, as have isolated tumour cells; without any of them the least probable candidates never count. That is the
    organisers' rule; with `lowest` every probability above 0 is a threshold.
    """
    targets = sum(slide.targets for slide in slides)
    if not targets:
        return None
    false = np.sort(np.concatenate([slide.false_positives for slide in slides]))
    hits = np.sort(np.concatenate([slide.lesion_probability for slide in slides]))
    distinct = np.unique(np.concatenate([false, hits]))
    threshold = np.append(distinct[distinct > 0] if lowest else distinct[1:], np.float32(np.inf))
    false_positives = (len(false) - np.searchsorted(false, threshold)) / len(slides)
    sensitivity = (len(hits) - np.searchsorted(hits, threshold)) / targets
    at_rates = np.interp(RATES, false_positives[::-1], sensitivity[::-1])
    return Froc(
        threshold=threshold,
        false_positives=false_positives,
        sensitivity=sensitivity,
        at_rates=tuple(map(float, at_rates)),
    )
