"""``wsi-maxmin export-model``."""

from pathlib import Path

import click

from wsi_maxmin.cli._options import out_option
from wsi_maxmin.geometry import MPP_LIMITS


@click.command()
@click.argument("model")
@click.option("--to", required=True, type=click.Choice(["torchscript", "onnx", "openvino"]), help="Format.")
@out_option
@click.option(
    "--mpp", type=click.FloatRange(*MPP_LIMITS), metavar="X", help="µm per pixel, for a model that does not say."
)
@click.option("--overwrite", is_flag=True, help="Replace files of the same names in --out.")
def command(model: str, to: str, out: Path, mpp: float | None, overwrite: bool) -> None:
    """Write MODEL (a bundled name, a run folder or a file) for use without this package.

    Takes tiles (B, 3, H, W), float in [0, 1], of the model's own size; gives probabilities, logits and mask. The file
    config.json beside it says how to run it; a TorchScript export is also a model folder of WSInfer and QuPath.

    Example: wsi-maxmin export-model camelyon16-demo --to torchscript --out exported
    """
    from wsi_maxmin.pipelines.export_model import export_model

    for path in export_model(model, to, out, mpp=mpp, overwrite=overwrite):
        click.echo(path)
