"""Run `wsi-maxmin infer-slide` without overlap, and say how many tiles it ran by what.

infer_ours.py SLIDE OUT MODEL.pt BATCH [OPTION …]
"""

import json
import sys
from pathlib import Path

from wsi_maxmin.cli import group


def main() -> None:
    """Run the command and print one line of JSON."""
    slide, out, model, batch, *options = sys.argv[1:]
    command = ["infer-slide", slide, "--out", out, "--overwrite", "--model", model, "--overlap", "0"]
    if code := group([*command, "--batch-size", batch, "--device", "cpu", *options], standalone_mode=False):
        sys.exit(code)  # it has said why
    run = json.loads((Path(out) / Path(slide).stem / "run.json").read_text())
    by = f"{run['settings']['engine']} {run['settings']['precision']}"
    print(json.dumps({"tiles": run["tiles_run"], "by": by, "what": "heatmap, table of tiles, picture"}))


if __name__ == "__main__":
    main()
