"""What may be scored: a trained model, or a method that needs no training; and what of it may be set anew."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from wsi_maxmin.assets import find_model, model_names
from wsi_maxmin.checkpoint import Checkpoint, load_checkpoint, state_of
from wsi_maxmin.config import RunConfig, list_configs, load_config, merge, parse, parse_override
from wsi_maxmin.errors import InputError
from wsi_maxmin.models import WeakSegmenter, build_model

_DATA, _PARAMS = "data.", "model.params."


def load_evaluated(model: str) -> Checkpoint:
    """Load a checkpoint by its path, run folder or bundled name, or make one of a config whose method learns nothing.

    Raises
    ------
    InputError
        If there is none, or it is the config of a method that must be trained.
    """
    if Path(model).suffix in (".yaml", ".yml"):
        return _of_config(model)
    try:
        path = find_model(model)
    except InputError:
        if model in list_configs():
            return _of_config(model)
        raise InputError(
            "no such model",
            got=model,
            expected=f"the path of a .safetensors file, a run folder, one of {', '.join(model_names())}, or the "
            "config of a method without parameters",
        ) from None
    return load_checkpoint(path)


def _of_config(name: str) -> Checkpoint:
    config = load_config(name)
    network = build_model(config.model, len(config.data.classes), load_encoder_weights=False)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters:
        raise InputError(
            "a config is no trained model",
            got=f"{name}, whose method {config.model.name} has {parameters:,} parameters",
            expected="a trained model, or the config of a method without parameters",
            remedy=f"wsi-maxmin train {name} --data DIR --out RUN, then give RUN",
        )
    return Checkpoint(config=config, weights=state_of(network), epoch=0, metrics={}, optimizer={}, facts={})


def reading_as(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Return the config with other values in its section on data, and other parameters of its method.

    Raises
    ------
    InputError
        If an override is about anything else, or its classes cannot be those that the model tells apart.
    """
    values = config.model_dump(mode="json")
    for override in overrides:
        if not override.startswith((_DATA, _PARAMS)):
            raise InputError(
                "a trained model keeps its config",
                got=f"--set {override}",
                expected="--set data.key=value, or model.params.key=value of what no weight depends on",
            )
        values = merge(values, parse_override(override))
    changed = parse(RunConfig, values, source="--set")
    _check_classes(config.data.classes, changed.data.classes)
    return changed


def build_with(checkpoint: Checkpoint, overrides: Sequence[str]) -> tuple[WeakSegmenter, dict[str, Any]]:
    """Build a trained model with other parameters of its method, and return with it those that were set.

    A parameter that changes while training lies among the weights, as σ does: there it is replaced, even by the value
    that the config names, with which training began.

    Raises
    ------
    InputError
        If a weight depends on one of them, or it has no such value.
    """
    network = checkpoint.build()
    params: dict[str, Any] = {}
    for override in overrides:
        params |= parse_override(override).get("model", {}).get("params", {})
    if not params:
        return network, {}
    own = checkpoint.config.model
    if fixed := sorted(set(params) - set(network.ADJUSTABLE)):
        raise InputError(
            "a trained model keeps its parameters",
            got=", ".join(f"--set {_PARAMS}{name}={params[name]}" for name in fixed),
            expected=", ".join(_PARAMS + name for name in network.ADJUSTABLE) or f"none, for {own.name} has no other",
        )
    model = own.model_copy(update={"params": own.params | params})
    network = replace(checkpoint, config=checkpoint.config.model_copy(update={"model": model})).build()
    changed = {name: getattr(network.params, name) for name in sorted(params)}
    for name, value in changed.items():
        if isinstance(stored := getattr(network, name, None), Tensor):
            stored.fill_(value)
    return network, {_PARAMS + name: value for name, value in changed.items()}


def _check_classes(own: Sequence[str], given: Sequence[str]) -> None:
    """Let classes have other names, not another number or order."""
    moved = [name for name in set(own) & set(given) if list(own).index(name) != list(given).index(name)]
    if len(own) != len(given) or moved:
        raise InputError(
            "the model tells other classes apart",
            got=f"data.classes={', '.join(given)}",
            expected=f"the {len(own)} classes {', '.join(own)}, in this order, or other names for them",
        )
