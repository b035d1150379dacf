"""The published parameters and inference times with measured ones beside them."""

from collections.abc import Mapping
from typing import Any

from wsi_maxmin.paper._protocol import INFERENCE, load_inference
from wsi_maxmin.tables import Cell, Column, Table

_REFERENCE = "Max-Min"


def inference_table(parameters: Mapping[str, int], measured: Mapping[str, Any] | None) -> Table:
    """Set numbers of parameters, by config, and what ``inference.json`` holds beside the published table.

    Parameters
    ----------
    parameters : mapping of str to int
    measured : mapping, optional
        None where no time was measured.
    """
    published = load_inference()
    images = [image.name for image in published.images]
    found = {row["title"]: row["seconds"] for row in (measured or {}).get("rows", ())}
    theirs = {row.title: row.seconds for row in published.rows}
    mine = {title: seconds[images[0]]["median"] for title, seconds in found.items()}
    rows = []
    for row in published.rows:
        seconds = found.get(row.title)
        times: list[Cell] = [seconds[name]["median"] if seconds else "not measured" for name in images]
        paper = (row.parameters, row.seconds, _ratio(theirs, row.title))
        rows.append((row.title, parameters[row.config], *times, _ratio(mine, row.title), *paper))
    return Table(
        name=INFERENCE,
        title=f"Table 3: {published.title}",
        columns=(
            Column(title="row"),
            Column(title="parameters"),
            *(Column(title=f"s a {name} image", decimals=4) for name in images),
            Column(title="GlaS: × Max-Min"),
            Column(title="paper: parameters"),
            Column(title="paper: s a GlaS image", decimals=4),
            Column(title="paper: × Max-Min"),
        ),
        rows=tuple(rows),
        legend=_legend(measured) if measured else "",
        notes_title="What differs from the paper:",
        notes=_notes(measured, published.device) if measured else ("No time was measured.",),
    )


def _ratio(seconds: Mapping[str, float | None], title: str) -> float | None:
    """Return how many times as long as Max-Min a row takes."""
    mine, reference = seconds.get(title), seconds.get(_REFERENCE)
    return None if mine is None or reference is None else mine / reference


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
    count = measured["threads"]
    threads = f", {count} thread{'s' * (count > 1)} of torch" if measured["device"] == "cpu" else ""
    rounds = [seconds for row in measured["rows"] for seconds in row["seconds"].values()]
    spread = max(seconds["highest"] / seconds["lowest"] for seconds in rounds)
    where = f"{measured['device']} ({measured['device_name']}{threads}) with torch {measured['packages']['torch']}"
    return (
        f"Measured on {where}; the paper's times are of a {device}: only ratios within a column compare.",
        f"Of one row and image the slowest round took up to {spread:.1f} times as long as the fastest.",
        "The paper does not say from where to where it measured. A dash: its figure is not known here.",
        "Grad-CAM's maps have a closed form here, which `wsi-maxmin` uses; with backward passes they are made as in "
        "general, one through the whole network for each class. The paper's time stands beside the latter.",
    )


def _size(size_px: list[int]) -> str:
    return "×".join(map(str, size_px))
