"""OpenVINO and NNCF without the part that reports their use to their makers: patients' slides are looked at here."""

import sys
from importlib import import_module
from typing import Any


def import_unreported(package: str) -> Any:
    """Import a package by way of which ``openvino_telemetry`` would be imported, as if that were not installed.

    Parameters
    ----------
    package : str
        ``openvino``, ``nncf`` or a module within.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how Python marks it missing
    return import_module(package)
