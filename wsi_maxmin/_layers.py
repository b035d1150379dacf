"""YAML files laid over each other: names of bundled configs, the files beneath a config, ``--set key.sub=value``."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from wsi_maxmin.errors import InputError

CONFIGS = Path(__file__).parent / "configs"

# Keys of a config that name a file to lay beneath it, the lowest first; the files of ``dataset`` are in ``datasets/``.
LAYERS = ("dataset", "encoder")


def resolve(name_or_path: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values of a config, its dataset and encoder files beneath it and ``key.sub=value`` overrides on top.

    An override ``encoder=NAME`` replaces the config's whole choice of encoder, pixel mean and deviation included. The
    notes of all files are kept: a licence must not be lost under another layer.

    Raises
    ------
    InputError
        If a file is missing or is no YAML, or an override cannot be read.
    """
    path = find_config(name_or_path)
    config, top = _read_yaml(path), _merge_all(parse_override(override) for override in overrides)
    if "encoder" in top:
        config = _without_encoder(config)
    said = merge(config, top)
    beneath = [_read_yaml(find_config(f"{key}s/{said[key]}", near=path)) for key in LAYERS if said.get(key) is not None]
    values = _merge_all([*beneath, {"name": path.stem}, said])
    notes = [str(layer["notes"]).strip() for layer in (*beneath, said) if layer.get("notes")]
    return {key: value for key, value in values.items() if key not in LAYERS} | {"notes": " ".join(notes)}


def list_configs(kind: str | None = None) -> list[str]:
    """Return the names of the bundled configs that can be trained, or those of one kind of layer (``dataset``)."""
    names = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))
    folders = {f"{key}s" for key in LAYERS}
    if kind is not None:
        return [name for name in names if name.partition("/")[0] == f"{kind}s"]
    return [name for name in names if name.partition("/")[0] not in folders]


def find_config(name_or_path: str, *, near: Path | None = None) -> Path:
    """Return the YAML file that a path or a bundled name stands for; `near` is a config that refers to it."""
    candidates = [Path(name_or_path)] if Path(name_or_path).suffix in {".yaml", ".yml"} else []
    if near is not None:
        candidates += [near.parent / f"{name_or_path}.yaml"]
    candidates += [CONFIGS / f"{name_or_path}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    kind = next((key for key in LAYERS if name_or_path.startswith(f"{key}s/")), None)
    known = list_configs(kind)
    close = difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.4)
    raise InputError(
        f"no such {kind or 'config'}",
        got=name_or_path.removeprefix(f"{kind}s/"),
        expected=f"{'' if kind else 'the path of a YAML file or '}one of {', '.join(known)}".replace(f"{kind}s/", ""),
        remedy=f"did you mean {close[0].removeprefix(f'{kind}s/')}?" if close else None,
    )


_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
"""A number as people write it, which YAML takes for text if it has no point."""


def parse_override(text: str) -> dict[str, Any]:
    """Turn ``key.sub=value`` into ``{"key": {"sub": value}}``; the value is read as YAML.

    >>> parse_override("model.params.sigma=0.2")
    {'model': {'params': {'sigma': 0.2}}}
    """
    key, equals, raw = text.partition("=")
    if not equals or not key or not all(key.split(".")):
        raise InputError("--set cannot be read", got=repr(text), expected="key.sub=value, such as training.epochs=5")
    try:
        value: Any = float(raw) if _EXPONENT.fullmatch(raw) else yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise InputError("--set cannot be read", got=repr(text), expected=f"a YAML value ({error})") from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `top` over `base`, section by section; neither is changed."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _merge_all(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    return merged


def _without_encoder(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out everything that belongs to a choice of encoder."""
    model = config.get("model")
    if not isinstance(model, Mapping):
        return dict(config)
    kept = {key: value for key, value in model.items() if key not in ("encoder", "pixel_mean", "pixel_std")}
    return {**config, "model": kept}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML", got=str(error)) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no config", got=type(values).__name__, expected="keys and values")
    return values
