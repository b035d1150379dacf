"""One pass over the training samples."""

from collections.abc import Sequence

import numpy as np
import torch

from wsi_maxmin.data import Sample
from wsi_maxmin.data._colour import jitter
from wsi_maxmin.data._dataset import Draw, Item, SampleDataset, collate
from wsi_maxmin.data._loader import Batches, keep_images
from wsi_maxmin.losses import LossTerms
from wsi_maxmin.progress import Advance, Progress
from wsi_maxmin.training._order import Share, as_draws, deal, epoch_order
from wsi_maxmin.training._record import Losses
from wsi_maxmin.training._state import Training


class Trainer:
    """Shows a model all training samples, once an epoch or as often as the config says.

    A method is handed masks only if it learns from pixels; those of others are never opened.

    Parameters
    ----------
    training : Training
    samples : sequence of Sample
    progress : Progress
    """

    def __init__(self, training: Training, samples: Sequence[Sample], progress: Progress) -> None:
        config, device = training.config, training.device
        self._training = training
        self._labels = [sample.label for sample in samples]
        self._masks = training.model.SUPERVISION == "pixel"
        dataset = SampleDataset(
            samples,
            shorter_side_px=config.data.shorter_side_px,
            augment=config.augment,
            masks=self._masks,
            seed=config.seed,
            defer_colour=device.type != "cpu",
        )
        workers = config.training.workers
        keep_images(dataset, workers=workers, limit_mb=config.training.keep_mb, progress=progress)
        self._batches = Batches(dataset, workers=workers, collate=collate, pin=device.type == "cuda")

    def run(self, epoch: int, progress: Progress) -> tuple[dict[str, float], int]:
        """Train for one epoch, counted from 0; return mean losses, and how many samples were shown.

        Raises
        ------
        DivergedError
            If a loss is not a number.
        """
        training, config, ranks = self._training, self._training.config, self._training.ranks
        training.model.train()
        _seed(config.seed, epoch, ranks.rank)
        order = epoch_order(
            self._labels,
            balance=config.training.balance_classes,
            seed=config.seed,
            epoch=epoch,
            repeat=config.training.repeat,
        )
        losses = Losses(training.device, epoch + 1)
        with progress.track(f"epoch {epoch + 1}/{config.training.epochs}", len(order), unit="image") as advance:
            self._show(as_draws(order, epoch), losses, advance)
        return losses.means(ranks.total(losses.sums), len(order)), len(order)

    def _show(self, draws: Sequence[Draw], losses: Losses, advance: Advance) -> None:
        training, config, ranks = self._training, self._training.config.training, self._training.ranks
        shares = deal(
            draws, batch_size=config.batch_size, accumulate=config.accumulate, rank=ranks.rank, ranks=ranks.count
        )
        optimizer, scaler = training.optimizer, training.precision.scaler
        optimizer.zero_grad()
        for share, item in zip(shares, self._batches.load([share.draws for share in shares]), strict=True):
            losses.add(self._backward(item, share), len(share.draws))
            if share.ends_step:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
            advance(share.of, note=losses.note() if ranks.first else "")

    def _backward(self, item: Item, share: Share) -> LossTerms:
        training, device = self._training, self._training.device
        image = jitter(item.image.to(device, non_blocking=True), item.colour)
        image = image.contiguous(memory_format=torch.channels_last)
        label = item.label.to(device, non_blocking=True)
        truth = item.mask.to(device, non_blocking=True) if self._masks else None
        with training.ranks.hold_back(training.network, until_later=not share.ends_step):
            output = training.precision.forward(training.network, image)
            terms = training.model.loss(output, label, truth)
            training.precision.scaler.scale(terms.total * share.weight).backward()
        return terms


def _seed(seed: int, epoch: int, rank: int) -> None:
    """Let what is random inside the model follow from seed and epoch, so that a resumed run need not keep its state."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0]))
