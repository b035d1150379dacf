"""A folder for QuPath: regions and tiles, and a script that puts them onto the slide that is open."""

from pathlib import Path

from wsi_maxmin.exports import geojson
from wsi_maxmin.exports._source import ExportSource

FILES = ("qupath",)
SCRIPT = "load.groovy"

_TEXT = """\
// Puts regions and tiles of wsi-maxmin onto the slide that is open in QuPath (0.4 or later).
// If this folder was moved, change the next line.
def folder = new File('{folder}')
def names = [{names}]

def server = getCurrentServer()
if (server.getWidth() != {width} || server.getHeight() != {height}) {{
    println 'Not the slide of these files: got ' + server.getWidth() + ' x ' + server.getHeight() + \
' px; expected {width} x {height} px'
    return
}}
def files = names.collect {{ new File(folder, it) }}
def missing = files.findAll {{ !it.exists() }}
if (missing) {{
    println 'No such files: ' + missing.join(', ') + '; change the line that names the folder'
    return
}}
def there = getAllObjects(false).collect {{ it.getID().toString() }} as Set
files.each {{ file ->
    def first = file.text.find(/"id": "([0-9a-f-]+)"/) {{ it[1] }}
    if (first == null)
        println file.getName() + ': empty'
    else if (first in there)
        println file.getName() + ': loaded before'
    else {{
        importObjectsFromFile(file.getPath())
        println file.getName() + ': loaded'
    }}
}}
resolveHierarchy()
fireHierarchyUpdate()
"""


def write(source: ExportSource, folder: Path) -> None:
    """Write ``qupath/`` with the files of the GeoJSON export and ``load.groovy``."""
    place = folder / FILES[0]
    place.mkdir()
    geojson.write(source, place)
    width, height = source.store.georef.slide_size_px
    names = sorted(path.name for path in place.iterdir())
    script = _TEXT.format(
        folder=_quoted((source.target / FILES[0]).as_posix()),
        names=", ".join(f"'{name}'" for name in names),
        width=width,
        height=height,
    )
    (place / SCRIPT).write_text(script, encoding="utf-8")


def _quoted(text: str) -> str:
    """Return what stands for a text between single quotes in Groovy."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
