import re
import subprocess
import sys
from pathlib import Path

import pytest

import wsi_maxmin
from wsi_maxmin._unreported import import_unreported

IMPORTS = re.compile(r"""^\s*(import|from) (openvino|nncf)\b|import_module\(["'](openvino|nncf)\b""", re.MULTILINE)


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_a_package_comes_without_what_reports_its_use(package):
    pytest.importorskip(package)
    code = (
        f"import sys; from wsi_maxmin._unreported import import_unreported; import_unreported({package!r}); "
        "assert sys.modules['openvino_telemetry'] is None"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_package_that_is_missing_is_told_as_by_python():
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        import_unreported("no_such_package")


def test_no_module_imports_them_in_another_way():
    sources = {path: path.read_text(encoding="utf-8") for path in Path(wsi_maxmin.__file__).parent.rglob("*.py")}
    assert sources
    assert [path for path, source in sources.items() if IMPORTS.search(source)] == []
    assert IMPORTS.search("    import openvino as ov")
    assert IMPORTS.search('import_module("nncf.parameters")')
