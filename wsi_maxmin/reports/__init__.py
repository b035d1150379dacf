"""Reports: one file a kind of folder, each of which says what it knows of it as sections of a page.

A module exposes ``EXPECTED``, how its kind of folder is called in messages, ``is_one(folder)``, which looks at file
names and ``run.json`` alone, and ``describe(folder, request) -> Report``.
"""

from wsi_maxmin._plugins import Plugins

plugins = Plugins(package=__name__, path=__path__, kind="report")
