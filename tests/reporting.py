"""Folders to report on: heatmaps with a failed slide and a hostile name, and trainings that ended or did not."""

import json
import shutil
from pathlib import Path

from PIL import Image

from tests.test_run_results import write_run
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide

HOSTILE = "<img src=x onerror=alert(1)>&'\"#?%"
THRESHOLDS = "threshold,f1_foreground,f1_background,mean\n0.25,60,20,40\n0.5,60.5,40.25,50.375\n0.75,,,\n"


def add_failure(run: Path, model: Path, folder: Path) -> None:
    """Try a file that is no slide, as a later run on the same folder."""
    bad = folder / "bad.tif"
    bad.write_text("no slide")
    add(run, model, bad)


def add(run: Path, model: Path, slide: Path) -> None:
    """Try another slide, as a later run on the same folder."""
    infer_slide(
        [slide], run, settings=InferSettings(model=str(model), engine="torch", precision="fp32"), existing="resume"
    )


def rename(run: Path, before: str, after: str) -> None:
    """Give a slide another name wherever the run says it."""
    (run / before).rename(run / after)
    facts = json.loads((run / "run.json").read_text())
    for slide in facts["slides"]:
        slide["slide_id"] = after if slide["slide_id"] == before else slide["slide_id"]
    (run / "run.json").write_text(json.dumps(facts))
    (run / "slides.csv").unlink()


def hostile_run(finished: Path, model: Path, folder: Path) -> Path:
    """Return a run of slide a, a failed slide, and a slide whose name is markup."""
    run = shutil.copytree(finished, folder / "run")
    add_failure(run, model, folder)
    rename(run, "b", HOSTILE)
    return run


def training(folder: Path, *, status: str = "done", scored: bool = True, pictures: int = 2) -> Path:
    """Return a training, with thresholds and pictures where it is scored."""
    write_run(folder, status=status, scored=scored)
    epochs = [
        {"epoch": epoch, "learning_rate": 0.1, "loss_total": 1 / epoch, "valid_accuracy": accuracy, "best_epoch": 1}
        for epoch, accuracy in ((1, 75.0), (2, None))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    (folder / "config.yaml").write_text(
        f"name: maxmin-sem\nsummary: '{HOSTILE.replace(chr(39), '')}'\ntraining: {{epochs: 4}}\n"
    )
    if not scored:
        return folder
    scores = folder / "scores"
    (scores / "thresholds.csv").write_text(THRESHOLDS)
    (scores / "pictures").mkdir()
    names = [f"{index}.png" for index in range(pictures)]
    for name in names:
        Image.new("RGB", (320, 120), (200, 100, 100)).save(scores / "pictures" / name)
    facts = json.loads((scores / "scores.json").read_text())
    facts |= {
        "pixel_confusion": [[0.75, 0.5], [0.25, 0.5]],
        "pictures": ["overview.png", *(f"pictures/{name}" for name in names)],
    }
    best = {"threshold": 0.5, "f1_foreground": 60.5, "f1_background": 40.25, "mean": 50.375, "chosen_on": "valid"}
    (scores / "scores.json").write_text(json.dumps(facts | {"best_threshold": best}))
    return folder
