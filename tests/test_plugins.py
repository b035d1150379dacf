"""A folder of modules as plug-ins."""

import sys
from pathlib import Path

import pytest

from wsi_maxmin._plugins import Plugins
from wsi_maxmin.errors import InputError, MissingExtraError

PACKAGE = "plugin_folder_of_the_tests"


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    folder = tmp_path / PACKAGE
    folder.mkdir()
    sources = {"__init__": "", "_private": "", "plain": "value = 1", "two_words": "", "needy": "import absent_pkg.deep"}
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        monkeypatch.delitem(sys.modules, name)
    return Plugins(package=PACKAGE, path=[str(folder)], kind="method")


def test_names_are_those_of_public_files_and_nothing_is_imported(plugins: Plugins) -> None:
    assert plugins.names() == ["needy", "plain", "two-words"]
    assert not any(name.startswith(PACKAGE) for name in sys.modules)


def test_loading_imports_the_module_of_that_name_and_no_other(plugins: Plugins) -> None:
    assert plugins.load("plain").value == 1
    assert plugins.load("two-words").__name__ == f"{PACKAGE}.two_words"
    assert f"{PACKAGE}.needy" not in sys.modules


@pytest.mark.parametrize("name", ["plan", "_private", "two_words", "../plain"])
def test_an_unknown_name_lists_the_known_ones(plugins: Plugins, name: str) -> None:
    with pytest.raises(InputError, match=r"unknown method; got .*; expected one of needy, plain, two-words"):
        plugins.load(name)


def test_an_unknown_name_suggests_its_nearest_neighbour_only_if_it_has_one(plugins: Plugins) -> None:
    with pytest.raises(InputError, match=r"did you mean plain\?$"):
        plugins.load("plian")
    with pytest.raises(InputError, match=r"two-words$"):
        plugins.load("zzz")


def test_a_missing_dependency_names_what_to_install(plugins: Plugins) -> None:
    with pytest.raises(MissingExtraError, match=r"method 'needy' needs .*; pip install absent_pkg$"):
        plugins.load("needy")
