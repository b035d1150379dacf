"""The published parameters and inference times with measured ones beside them."""

from collections.abc import Mapping
from typing import Any

from wsi_maxmin.paper._protocol import INFERENCE, load_inference
from wsi_maxmin.tables import Column, Table


def inference_table(parameters: Mapping[str, int], measured: Mapping[str, Any] | None) -> Table:
    """Set numbers of parameters, by config, and what ``inference.json`` holds beside the published table.

    Parameters
    ----------
    parameters : mapping of str to int
    measured : mapping, optional
        None where no time was measured.
    """
    published = load_inference()
    found = {row["title"]: row for row in (measured or {}).get("rows", ())}
    images = [image.name for image in published.images]
    rows = []
    for row in published.rows:
        mine = found.get(row.title)
        times = [mine["seconds"][name]["median"] if mine else "not measured" for name in images]
        rows.append((row.title, parameters[row.config], *times, row.parameters, row.seconds))
    return Table(
        name=INFERENCE,
        title=f"Table 3: {published.title}",
        columns=(
            Column(title="row"),
            Column(title="parameters"),
            *(Column(title=f"s a {name} image", decimals=4) for name in images),
            Column(title="paper: parameters"),
            Column(title=f"paper: s a GlaS image, {published.device}", decimals=4),
        ),
        rows=tuple(rows),
        legend=_legend(measured) if measured else "",
        notes_title="What differs from the paper:",
        notes=_notes(measured, published.device) if measured else ("No time was measured.",),
    )


def _legend(measured: Mapping[str, Any]) -> str:
    sizes = [
        f"{image['name']} {_size(image['size_px'])} px, read at {_size(image['network_px'])}"
        for image in measured["images"]
    ]
    return (
        "Seconds from an image in the device's memory to its class and its mask at the image's own size, one image at "
        f"a time: medians of {measured['rounds']} rounds over all rows in one process, after one to warm up. "
        f"Images: {'; '.join(sizes)}. Every row has the network that its config names, with random weights."
    )


def _notes(measured: Mapping[str, Any], device: str) -> tuple[str, ...]:
    packages = measured["environment"]["packages"]
    count = measured["threads"]
    threads = f", {count} thread{'s' * (count > 1)} of torch" if measured["device"] == "cpu" else ""
    return (
        f"Measured on {measured['device']} ({measured['device_name']}{threads}) with torch {packages['torch']}; the "
        f"paper's times are of a {device}: only ratios within a column compare.",
        "The paper does not say from where to where it measured. A dash: its figure is not known here.",
        "Grad-CAM's maps have a closed form here, which `wsi-maxmin` uses; with backward passes they are made as in "
        "general, one through the whole network for each class. The paper's time stands beside the latter.",
    )


def _size(size_px: list[int]) -> str:
    return "×".join(map(str, size_px))
