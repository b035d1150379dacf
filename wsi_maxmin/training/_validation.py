"""One pass over the validation samples, in full precision: what the best epoch is chosen by."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wsi_maxmin.data import Sample
from wsi_maxmin.data._dataset import Draw, Item, SampleDataset, collate_by_size
from wsi_maxmin.data._loader import Batches, keep_images
from wsi_maxmin.metrics import dice
from wsi_maxmin.progress import Progress
from wsi_maxmin.training._state import Training

_MASK_THRESHOLD = 0.5


class Validator:
    """Scores a model on the validation samples.

    Accuracy is in per cent, and None for a method that gives no classes. A method that learns from masks is scored by
    its masks as well: the mean of F1+ and F1− in per cent, at the ground truth's own size, threshold 0.5. Images of one
    size share a batch; in eval mode an image's output does not depend on the others.

    Parameters
    ----------
    training : Training
    samples : sequence of Sample
    progress : Progress
    """

    def __init__(self, training: Training, samples: Sequence[Sample], progress: Progress) -> None:
        config, ranks = training.config, training.ranks
        self._training = training
        self._masks = training.model.SUPERVISION == "pixel"
        dataset = SampleDataset(samples, shorter_side_px=config.data.shorter_side_px, masks=self._masks)
        keep_images(dataset, workers=config.training.workers, limit_mb=config.training.keep_mb, progress=progress)
        self._batches = Batches(
            dataset, workers=config.training.workers, collate=collate_by_size, pin=training.device.type == "cuda"
        )
        mine = [Draw(index) for index in range(ranks.rank, len(samples), ranks.count)]
        size = config.training.batch_size
        self._order = [mine[start : start + size] for start in range(0, len(mine), size)]

    @torch.inference_mode()
    def run(self) -> dict[str, float | None]:
        """Return ``valid_accuracy``, and ``valid_f1`` of a method that learns from masks."""
        self._training.model.eval()
        device = self._training.device
        # Right, classified, F1+ and its images, F1− and its images.
        sums = torch.zeros(6, dtype=torch.float32 if device.type == "mps" else torch.float64)
        for items in self._batches.load(self._order):
            for item in items:
                sums += self._score(item).to(sums)
        right, classified, *scores = self._training.ranks.total(sums.to(device)).tolist()
        result: dict[str, float | None] = {"valid_accuracy": 100 * right / classified if classified else None}
        if self._masks:
            halves = [100 * total / count for total, count in (scores[:2], scores[2:]) if count]
            result["valid_f1"] = sum(halves) / len(halves)
        return result

    def _score(self, item: Item) -> Tensor:
        model, device = self._training.model, self._training.device
        image = item.image.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        output = model(image)
        right = classified = 0
        if output.logits is not None:
            classified = len(item.label)
            right = int((output.logits.argmax(dim=1).cpu() == item.label).sum())
        return torch.tensor([right, classified, *(_mask_sums(output.mask, item.mask) if self._masks else [0] * 4)])


def _mask_sums(mask: Tensor, truth: Tensor) -> list[float]:
    """Return F1+ and the number of images that define it, then the same of F1−."""
    soft = interpolate(mask.float(), truth.shape[-2:], mode="bilinear", align_corners=False).cpu().numpy()
    sums = np.zeros((2, 2))
    for predicted, true in zip(soft >= _MASK_THRESHOLD, truth.numpy() > 0, strict=True):
        for half, score in enumerate((dice(predicted, true), dice(~predicted, ~true))):
            if score is not None:
                sums[half] += score, 1
    return [float(value) for value in sums.flatten()]
