"""Train a method: one straight loop over epochs, on plain torch.

Lightning's Fabric was weighed and left out. What it would give here are three classes of torch itself, each used in
one place below: `torch.autocast`, `torch.amp.GradScaler` and `DistributedDataParallel`. What it would not give are the
parts that take care: a resume that equals an uninterrupted run to the bit, an order and augmentations that no number of
processes changes, and masks that stay closed. So it would be one more dependency to read through, not less code.
"""

from wsi_maxmin.training._launch import join_ranks
from wsi_maxmin.training._loop import BEST, LAST, EpochTimes, TrainingResult, train
from wsi_maxmin.training._order import epoch_order, learning_rate
from wsi_maxmin.training._ranks import ALONE, Ranks, plan_ranks
from wsi_maxmin.training._record import BOARD, METRICS
from wsi_maxmin.training._state import check_method

__all__ = [
    "ALONE",
    "BEST",
    "BOARD",
    "LAST",
    "METRICS",
    "EpochTimes",
    "Ranks",
    "TrainingResult",
    "check_method",
    "epoch_order",
    "join_ranks",
    "learning_rate",
    "plan_ranks",
    "train",
]
