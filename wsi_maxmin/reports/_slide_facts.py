"""What the ``run.json`` of all slides of a run say together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsi_maxmin.reports._about import gibibytes

Facts = Mapping[str, Any]

_MOST_VALUES = 5


def common_facts(facts: Sequence[Facts]) -> list[tuple[str, str]]:
    """Return names and values of what the maps were made with; several values where slides differ."""
    settings = [_settings(each) for each in facts]
    named = (("Model", "model"), ("Engine", "engine"), ("Precision", "precision"), ("Overlap of tiles", "overlap"))
    peaks = [peak for each in facts if (peak := _peak(each)) is not None]
    return [
        *((name, _listed(each.get(key) for each in settings)) for name, key in (*named, ("Blend", "blend"))),
        ("Device", _listed(each.get("device") for each in facts)),
        ("Model's µm a pixel", _listed(mpp.get("requested") for mpp in _mpps(facts))),
        ("Slides' µm a pixel", _listed(mpp.get("slide") for mpp in _mpps(facts))),
        ("Peak memory", gibibytes(max(peaks, default=None))),
    ]


def unended_run(run: Facts) -> list[str]:
    """Return that a run has not come to its end, as its ``run.json`` says."""
    if run.get("status") not in ("running", "interrupted"):
        return []
    ended = "was interrupted" if run["status"] == "interrupted" else "has not ended"
    return [f"The run {ended}: --resume does the rest."]


def warnings_of(facts: Sequence[Facts]) -> list[str]:
    """Return what a reader should know before the numbers, as the ``run.json`` of the slides say."""
    said = []
    models = [_settings(each).get("model") for each in facts]
    versions = [(each.get("environment") or {}).get("wsi_maxmin") for each in facts]
    for what, values in (("models", _several(models)), ("versions of wsi-maxmin", _several(versions))):
        if len(values) > 1:
            said.append(f"The maps are of {len(values)} {what}: {', '.join(values)}.")
    mpps = _mpps(facts)
    others = [mpp.get("effective") for mpp in mpps if mpp.get("requested") != mpp.get("effective")]
    if others:
        count = f"{len(others):,} of {len(mpps):,}"
        said.append(f"{count} slides were run at other µm per pixel than the model's: {_listed(others)}.")
    return said


def tiles_per_second(facts: Sequence[Facts]) -> float | None:
    """Return the rate over all slides: tiles by the time that each slide's tiles took."""
    timed = [each for each in facts if each.get("tiles_run") and each.get("tiles_per_second")]
    seconds = sum(each["tiles_run"] / each["tiles_per_second"] for each in timed)
    return sum(each["tiles_run"] for each in timed) / seconds if timed else None


def environment_of(facts: Iterable[Facts]) -> Facts:
    """Return the versions that the first of some ``run.json`` has."""
    return next((each["environment"] for each in facts if each.get("environment")), {})


def _settings(facts: Facts) -> Facts:
    """Return the settings of a slide; one that was stitched again has those of its tile maps beneath its own."""
    source = facts.get("source") or {}
    return {**(source.get("settings") or {}), **(facts.get("settings") or {})}


def _mpps(facts: Sequence[Facts]) -> list[Facts]:
    """Return the µm per pixel of each slide that was inferred; of a stitched one only those of the map are known."""
    return [each["mpp"] for each in facts if isinstance(each.get("mpp"), Mapping)]


def _peak(facts: Facts) -> float | None:
    peak = facts.get("peak_memory_bytes")
    return peak.get("host") if isinstance(peak, Mapping) else peak


def _several(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in dict.fromkeys(values) if value not in (None, "")]


def _listed(values: Iterable[Any]) -> str:
    several = _several(values)
    return ", ".join(several[:_MOST_VALUES]) + (", …" if len(several) > _MOST_VALUES else "")
