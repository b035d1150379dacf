"""Extract patches with wsi-maxmin, as its command does but, as with the others, without a picture of the slide.

ours.py SLIDE OUT WORKERS FORMAT STORE
"""

import json
import sys
import time
from pathlib import Path

SUFFIXES = {"raw-jpeg": "JPEG as in the slide", "jpeg": "JPEG q90", "png": "PNG"}
PLACES = {"files": "files", "shard": "in shards"}


def main() -> None:
    """Extract and print one line of JSON."""
    # Here and not above, where worker processes would import them too: the command's do not.
    import pandas as pd
    import pyarrow.dataset  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import skimage.filters  # noqa: F401

    import wsi_maxmin.config  # noqa: F401
    from wsi_maxmin import formats, protocols, readers, stores
    from wsi_maxmin.extract_inputs import ExtractInputs
    from wsi_maxmin.extraction import ExtractSettings
    from wsi_maxmin.patches import TABLE_NAME
    from wsi_maxmin.pipelines.extract_patches import extract_patches

    slide, out, workers, kind, store = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    settings = ExtractSettings(format=kind, store=store, preview=False)
    # Imports are timed for nobody, nor are those that are otherwise put off until they are needed. What worker
    # processes import is timed: they start within the call.
    for plugins, name in ((protocols, settings.protocol), (formats, kind), (stores, store), (readers, "tiff")):
        plugins.plugins.load(name)
    start = time.perf_counter()
    result = extract_patches(ExtractInputs(slides=[slide]), out, settings=settings, workers=workers)
    seconds = time.perf_counter() - start
    if result.exit_code:
        raise SystemExit(f"failed: {result.outcomes[0].why}")
    tiles = len(pd.read_parquet(out / TABLE_NAME))
    print(json.dumps({"tiles": tiles, "seconds": seconds, "what": f"{SUFFIXES[kind]} {PLACES[store]}"}))


if __name__ == "__main__":
    main()
