"""Run TIAToolbox's `PatchPredictor` or `SemanticSegmentor` with a TorchScript classifier.

infer_tiatoolbox.py SLIDE OUT MODEL.pt BATCH WORKERS predictor|segmentor

To the segmentor, which stitches maps, a tile's class probabilities are a map of 16×16 equal pixels.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiatoolbox import logger
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig, IOSegmentorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC

MAP_PX = 16


class Scripted(ModelABC):
    """A TorchScript classifier as TIAToolbox wants it; with `map_px` it gives maps."""

    def __init__(self, path: Path, map_px: int) -> None:
        super().__init__()
        description = json.loads(path.with_suffix(".json").read_text())
        self.graph, self.map_px = torch.jit.load(path), map_px
        for name in ("mean", "std"):
            self.register_buffer(name, 255 * torch.tensor(description[f"pixel_{name}"])[:, None, None])
        self.tile_px, self.mpp = description["tile_px"], description["mpp"]
        self.seen = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return (B, K) probabilities, or (B, h, w, K), of (B, 3, H, W) in [0, 255]."""
        scores = self.graph((image - self.mean) / self.std).softmax(dim=1)
        return scores[:, None, None].expand(-1, self.map_px, self.map_px, -1) if self.map_px else scores

    @staticmethod
    def infer_batch(model: Any, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """Run (B, H, W, 3) uint8."""
        model.seen += len(batch_data)
        image = batch_data.to(device, torch.float32).permute(0, 3, 1, 2).contiguous()
        with torch.inference_mode():
            return model.eval()(image).numpy()


def main() -> None:
    """Run and print one line of JSON."""
    slide, out, path, batch, workers, kind = sys.argv[1:]
    warnings.simplefilter("ignore")
    logger.setLevel("ERROR")
    segmentor = kind == "segmentor"
    model = Scripted(Path(path), MAP_PX if segmentor else 0)
    side = [model.tile_px] * 2
    read = {
        "input_resolutions": [{"units": "mpp", "resolution": model.mpp}],
        "patch_input_shape": side,
        "stride_shape": side,
    }
    coarse = [{"units": "mpp", "resolution": model.mpp * model.tile_px / MAP_PX}]
    config = (
        IOSegmentorConfig(**read, output_resolutions=coarse, patch_output_shape=[MAP_PX] * 2)
        if segmentor
        else IOPatchPredictorConfig(**read, output_resolutions=[])
    )
    engine = (SemanticSegmentor if segmentor else PatchPredictor)(
        model=model, batch_size=int(batch), num_workers=int(workers), verbose=False
    )
    engine.run(
        [Path(slide)],
        patch_mode=False,
        ioconfig=config,
        save_dir=Path(out) / "found",
        output_type="zarr",
        return_probabilities=True,
        device="cpu",
    )
    print(json.dumps({"tiles": model.seen, "by": "torch fp32", "what": f"zarr; {workers} loaders"}))


if __name__ == "__main__":
    main()
