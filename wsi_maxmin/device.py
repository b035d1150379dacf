"""Choose the device that a model runs on."""

import torch

from wsi_maxmin.errors import InputError

_KNOWN = ("cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` (or ``cuda:1``) or ``mps``.

    Raises
    ------
    InputError
        If this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        if name.partition(":")[0] not in _KNOWN:
            raise RuntimeError("unknown")
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            "no such device here",
            got=f"{name} ({str(error).splitlines()[0]})",
            expected="auto, cpu, cuda or mps",
            remedy="--device auto",
        ) from None
    return device
