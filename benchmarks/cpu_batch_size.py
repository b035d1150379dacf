"""Time the bundled model's encoder at 512 px on this CPU, by batch size: medians of interleaved rounds, and ratios.

python benchmarks/cpu_batch_size.py
"""

import time
from statistics import median

import torch

from wsi_maxmin.assets import find_model
from wsi_maxmin.checkpoint import load_checkpoint

SIZES, ROUNDS = (1, 2, 4, 8), 5


@torch.inference_mode()
def main() -> None:
    """Measure and print a table."""
    encoder = load_checkpoint(find_model("camelyon16-demo")).build().on(torch.device("cpu")).encoder
    images = {n: torch.rand(n, 3, 512, 512).contiguous(memory_format=torch.channels_last) for n in SIZES}
    seconds: dict[int, list[float]] = {n: [] for n in SIZES}
    for turn in range(ROUNDS + 1):
        for n, image in images.items():
            start = time.perf_counter()
            encoder(image)
            if turn:
                seconds[n].append((time.perf_counter() - start) / n)
    best = median(seconds[1])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for n, values in seconds.items():
        low, middle, high = (1000 * f(values) for f in (min, median, max))
        print(f"batch {n}: {middle:6.1f} ms a tile ({low:.1f}–{high:.1f}), {median(values) / best:.2f} of batch 1")


if __name__ == "__main__":
    main()
