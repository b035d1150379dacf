"""Run `wsinfer run` with a model of one's own.

infer_wsinfer.py SLIDE OUT MODEL.pt BATCH WORKERS

The slide must be alone in its folder. `wsinfer run` downloads the list of its model zoo before it looks at its options;
here it is handed an empty one.
"""

import json
import sys
from pathlib import Path

import wsinfer_zoo.client as zoo


def main() -> None:
    """Run the command and print one line of JSON."""
    slide, out, model, batch, workers = sys.argv[1:]
    zoo.load_registry = lambda *_, **__: zoo.ModelRegistry(models={})
    from wsinfer.cli.cli import cli

    given = {
        "--wsi-dir": Path(slide).parent,
        "--results-dir": out,
        "--config": Path(model).with_name("wsinfer.json"),
        "--model-path": model,
        "--batch-size": batch,
        "--num-workers": workers,
    }
    cli(["run", *(str(word) for pair in given.items() for word in pair)], standalone_mode=False)
    table = Path(out) / "model-outputs-csv" / f"{Path(slide).stem}.csv"
    tiles = len(table.read_text().splitlines()) - 1
    print(json.dumps({"tiles": tiles, "by": "torch fp32", "what": f"CSV, GeoJSON; {workers} loaders"}))


if __name__ == "__main__":
    main()
