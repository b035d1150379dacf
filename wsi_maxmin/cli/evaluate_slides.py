"""``wsi-maxmin evaluate-slides``."""

from pathlib import Path
from typing import Any

import click

from wsi_maxmin.cli._options import EXISTING_PATH, FloatRange, finish, group_option


@click.command("evaluate-slides")
@click.argument("heatmaps", type=EXISTING_PATH)
@click.option(
    "--reference", required=True, type=EXISTING_PATH, help="CSV slide,tumor|normal: the slides that are scored."
)
@click.option("--annotations", type=EXISTING_PATH, help="ASAP XML or QuPath GeoJSON, or a folder of <slide>.xml.")
@click.option("--masks", type=EXISTING_PATH, help="Mask TIFF instead, or a folder of <slide>_mask.tif.")
@group_option
@click.option("--candidates", type=EXISTING_PATH, help="Folder of <slide>.csv (probability,x,y) instead of the maps'.")
@click.option("--out", type=EXISTING_PATH, help="Folder for scores, tables and curves.")
@click.option(
    "--protocol",
    default="camelyon16",
    show_default=True,
    type=click.Choice(("camelyon16", "per-slide-mpp")),
    help="Lesions at 0.243 µm a pixel for every slide, as the organisers do, or at its own.",
)
@click.option("--threshold", type=FloatRange(0, 1), metavar="X", help="Of tumour pixels [the model's].")
@click.option(
    "--least-probability",
    type=FloatRange(0, 1, min_open=True),
    metavar="X",
    help="Of a candidate [half of the threshold].",
)
@click.option(
    "--radius-um", default=200.0, show_default=True, type=FloatRange(0), help="Least distance of candidates, µm."
)
@click.option(
    "--smooth-um", default=16.0, show_default=True, type=FloatRange(0), help="Smoothing before the search, µm."
)
@click.option(
    "--bootstrap", default=1000, show_default=True, type=click.IntRange(0), help="Resamples; 0: no intervals."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the resamples.")
def command(
    heatmaps: Path,
    reference: Path,
    annotations: Path | None,
    masks: Path | None,
    groups: tuple[Any, ...],
    candidates: Path | None,
    out: Path | None,
    least_probability: float | None,
    radius_um: float,
    smooth_um: float,
    **settings: Any,
) -> None:
    """Score the heatmaps of a cohort: FROC as Camelyon16 counts it, AUC of slides, Dice and precision of pixels.

    HEATMAPS is the folder of a run of infer-slide. Intervals hold 95 % of the scores of resampled slides.

    Example: wsi-maxmin evaluate-slides heatmaps --annotations xml --reference reference.csv --out scores
    """
    from wsi_maxmin.cli._progress import make_progress
    from wsi_maxmin.pipelines.evaluate_slides import (
        CandidateSettings,
        EvaluateSlidesSettings,
        SlidesTruth,
        evaluate_slides,
    )

    how = CandidateSettings(threshold=least_probability, radius_um=radius_um, smooth_um=smooth_um)
    found = evaluate_slides(
        heatmaps,
        SlidesTruth(reference=reference, annotations=annotations, masks=masks, groups=dict(groups)),
        candidates=candidates,
        out=out,
        settings=EvaluateSlidesSettings(candidates=how, **settings),
        progress=make_progress(),
    )
    if not found.scores:
        finish(found.result)
    width = max(map(len, found.scores), default=0)
    for name, score in found.scores.items():
        value = "–" if score.value is None else f"{score.value:.3f}"
        interval = "" if score.low is None else f"  {score.low:.3f} to {score.high:.3f}"
        click.echo(f"{name:{width}}  {value}{interval}")
