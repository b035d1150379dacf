"""``wsi-maxmin export-model``."""

from pathlib import Path

import click

from wsi_maxmin.cli._options import FloatRange, out_option, slide_mpp_option
from wsi_maxmin.geometry import MPP_LIMITS


@click.command()
@click.argument("model")
@click.option("--to", required=True, type=click.Choice(["torchscript", "onnx", "openvino"]), help="Format.")
@out_option
@click.option("--mpp", type=FloatRange(*MPP_LIMITS), metavar="X", help="µm per pixel, for a model that does not say.")
@click.option(
    "--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "int8"]), help="int8: of openvino."
)
@click.option(
    "--calibration",
    multiple=True,
    metavar="SLIDES",
    help="For int8: a slide, folder or list whose tissue sets the ranges; may be repeated.",
)
@click.option("--tiles", default=300, show_default=True, type=click.IntRange(3), help="For int8: to calibrate on.")
@slide_mpp_option
@click.option("--overwrite", is_flag=True, help="Replace files of the same names in --out.")
def command(
    model: str,
    to: str,
    out: Path,
    mpp: float | None,
    precision: str,
    calibration: tuple[str, ...],
    tiles: int,
    slide_mpp: float | None,
    overwrite: bool,
) -> None:
    """Write MODEL (a bundled name, a run folder or a file) for use without this package.

    Takes tiles (B, 3, H, W), float in [0, 1], of the model's own size; gives probabilities, logits and mask. The file
    config.json beside it says how to run it; a TorchScript export is also a model folder of WSInfer and QuPath.

    With --precision int8 the model is calibrated on tissue of slides, compared with single precision (int8.json), and
    kept for `infer-slide --precision int8`.

    \b
    Example: wsi-maxmin export-model camelyon16-demo --to torchscript --out exported
    int8:    wsi-maxmin export-model runs/mine --to openvino --precision int8 --calibration slides/ --out int8
    """  # noqa: D301
    if precision == "fp32":
        if calibration:
            raise click.UsageError("--calibration is for --precision int8")
        from wsi_maxmin.pipelines.export_model import export_model

        written = export_model(model, to, out, mpp=mpp, overwrite=overwrite)
    else:
        if to != "openvino" or not calibration or mpp is not None:
            raise click.UsageError("--precision int8 takes --to openvino and --calibration, and no --mpp")
        from wsi_maxmin.cli._progress import make_progress
        from wsi_maxmin.pipelines.export_int8 import export_int8

        written, agreement = export_int8(
            model, calibration, out, tiles=tiles, slide_mpp=slide_mpp, overwrite=overwrite, progress=make_progress()
        )
        click.echo(agreement)
    for path in written:
        click.echo(path)
