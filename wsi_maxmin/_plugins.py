"""Folders whose modules are plug-ins: a file's name is its name in YAML and on the command line."""

import difflib
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from wsi_maxmin.errors import InputError, MissingExtraError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """The public modules of one package folder, imported one by one and only when asked for.

    Parameters
    ----------
    package : str
        Import name of the folder.
    path : sequence of str
        Its ``__path__``.
    kind : str
        What a module of it is called in messages, such as ``reader``.
    """

    package: str
    path: Sequence[str]
    kind: str

    def names(self) -> list[str]:
        """List the modules without importing them; ``_`` in a file's name reads as ``-``."""
        found = (module.name for module in pkgutil.iter_modules(self.path))
        return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))

    def load(self, name: str) -> ModuleType:
        """Import the module that `name` stands for.

        Raises
        ------
        InputError
            If the folder has no such module; the message lists those that it has.
        MissingExtraError
            If the module needs a package that is not installed.
        """
        names = self.names()
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            raise InputError(
                f"unknown {self.kind}",
                got=repr(name),
                expected=f"one of {', '.join(names)}",
                remedy=f"did you mean {close[0]}?" if close else None,
            )
        try:
            return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"the {self.kind} {name!r} needs a package that is not installed",
                got=f"no module {error.name}",
                remedy=f"pip install {str(error.name).partition('.')[0]}",
            ) from error
