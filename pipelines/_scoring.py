"""A model run over labelled samples for scoring: batches of one size, soft masks at the ground truth's own size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wsi_maxmin.data import Sample
from wsi_maxmin.data._dataset import Draw, Item, SampleDataset, collate_by_size
from wsi_maxmin.data._loader import Batches
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import SegOutput, WeakSegmenter

LabelSource = Literal["true", "predicted"]

_ASPECT_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model says of samples whose images, and whose ground truths, have one size.

    Attributes
    ----------
    item : Item
        The samples, stacked.
    classes : list of int, or None
        Predicted class of each image, where the method gives one.
    mask : (n, 1, h, w) float32 in [0, 1], on the model's device
        Soft masks at the size of the ground truth, or of the image where there is none.
    """

    item: Item
    classes: list[int] | None
    mask: Tensor


def predict(
    network: WeakSegmenter,
    samples: Sequence[Sample],
    *,
    shorter_side_px: int | None,
    label_source: LabelSource,
    batch_size: int,
    workers: int,
    device: torch.device,
) -> Iterator[Prediction]:
    """Run a model in eval mode over samples, batch by batch.

    Up to `batch_size` neighbours are read together, and those of one size share a pass. Where the method's mask of an
    image depends on its batch, all go one by one.

    Raises
    ------
    InputError, SlideError
        If an image or mask cannot be read, a mask has another shape than its image, or a soft mask is not a number.
    """
    dataset = SampleDataset(samples, shorter_side_px=shorter_side_px, masks=True)
    loader = Batches(dataset, workers=workers, collate=collate_by_size, pin=device.type == "cuda")
    step = 1 if network.refuses_tiles else batch_size
    shown = [Draw(index) for index in range(len(samples))]
    for items in loader.load([shown[start : start + step] for start in range(0, len(shown), step)]):
        for item in items:
            names = [samples[position].name for position in item.position.tolist()]
            _check_shape(item, names)
            with torch.inference_mode():
                output = network(_to(item.image, device))
                mask = _mask(network, output, item.label.to(device), label_source).float()
                mask = interpolate(mask, _size(item), mode="bilinear", align_corners=False)
            _check_finite(mask, names)
            classes = None if output.logits is None else output.logits.argmax(dim=1).tolist()
            yield Prediction(item=item, classes=classes, mask=mask)


def count_levels(mask: Tensor, truth: Tensor, edges: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Count each image's pixels by truth (background first) and by how many thresholds they reach, on their device.

    Parameters
    ----------
    mask : (n, 1, h, w) float32
    truth : (n, 1, h, w) uint8
    edges : (T,) float32

    Returns
    -------
    (n, 2, T + 1) int64
    """
    count, width = len(mask), len(edges) + 1
    # Whole numbers of 32 bits: half the memory traffic of 64, and a batch has few bins.
    reached = torch.bucketize(mask.flatten(1), torch.from_numpy(edges).to(mask.device), right=True, out_int32=True)
    row = 2 * torch.arange(count, dtype=torch.int32, device=mask.device)[:, None] + truth.flatten(1).to(mask.device)
    bins = torch.bincount((width * row + reached).flatten(), minlength=2 * count * width)
    levels: npt.NDArray[np.int64] = bins.view(count, 2, width).cpu().numpy()
    return levels


def _mask(network: WeakSegmenter, output: SegOutput, label: Tensor, source: LabelSource) -> Tensor:
    if source == "true":
        return network.mask_for(output, label)
    # A method without classes has the mask that it gives where no label is known, as on slides.
    return output.mask if output.logits is None else network.mask_for(output, output.logits.argmax(dim=1))


def _to(image: Tensor, device: torch.device) -> Tensor:
    return image.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)


def _size(item: Item) -> tuple[int, int]:
    height, width = (item.mask if item.mask.numel() else item.image).shape[-2:]
    return height, width


def _check_finite(mask: Tensor, names: Sequence[str]) -> None:
    finite = mask.isfinite().flatten(1).all(dim=1).tolist()
    if not all(finite):
        raise InputError(
            f"the soft mask of {names[finite.index(False)]} is not a number",
            remedy="check the model, or train it again",
        )


def _check_shape(item: Item, names: Sequence[str]) -> None:
    (height, width), (truth_height, truth_width) = item.image.shape[-2:], _size(item)
    if abs(height * truth_width / (width * truth_height) - 1) > _ASPECT_TOLERANCE:
        raise InputError(
            f"the ground truth of {names[0]} has another shape than its image",
            got=f"{truth_width}×{truth_height} px",
            expected=f"the shape of {width}×{height} px",
            remedy="check the row of the list",
        )
