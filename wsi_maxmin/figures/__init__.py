"""The paper's figures drawn from result files, one file a kind: ``FIGURES``, and ``draw(number, results)``.

``FIGURES`` maps the number of a figure in the paper to what it is drawn of, in a few words.
"""

from types import ModuleType

from wsi_maxmin._plugins import Plugins

__all__ = ["by_number", "plugins"]

plugins = Plugins(package=__name__, path=__path__, kind="figure")


def by_number() -> dict[str, ModuleType]:
    """Return the module that draws each figure, in the paper's order."""
    modules = (plugins.load(name) for name in plugins.names())
    found = {number: module for module in modules for number in module.FIGURES}
    return dict(sorted(found.items(), key=lambda pair: (not pair[0].isdecimal(), len(pair[0]), pair[0])))
