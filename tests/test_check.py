"""``wsi-maxmin check``: a good result passes, and every way to damage one is found and named."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr
from click.testing import CliRunner

from wsi_maxmin.cli import group
from wsi_maxmin.errors import InputError
from wsi_maxmin.pipelines.check import check_results
from wsi_maxmin.pipelines.export import export_results
from wsi_maxmin.pipelines.infer_slide import InferSettings, infer_slide
from wsi_maxmin.pipelines.stitch import MapSettings, stitch_results
from wsi_maxmin.tilemaps import TileMaps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_model, stained, make_pyramid, write_pyramid):
    """Return the folder of a run over one slide, which lies beside it, whose heatmap is one pixel a slide's pixel."""
    folder = tmp_path_factory.mktemp("made")
    slide = write_pyramid(folder / "s.tif", make_pyramid(stained(1000, 700, (256, 128, 512, 384)), 3))
    settings = InferSettings(model=str(tiny_model), engine="torch", precision="fp32", heatmap_mpp=0.25)
    infer_slide([slide], folder / "out", settings=settings)
    return folder / "out"


@pytest.fixture
def result(made, tmp_path):
    """Return a copy of the slide's result, to be damaged."""
    return shutil.copytree(made, tmp_path / "out") / "s"


def failed(result, **options):
    (check,) = check_results([result], **options)
    assert check.good == all(finding.status != "FAILED" for finding in check.findings)
    return {finding.what: finding for finding in check.findings if finding.status == "FAILED"}


def store(result, path="", mode="r+"):
    return zarr.open_group(result / "heatmap.ome.zarr" / path, mode=mode)


def edit_json(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_good_result_passes_every_check(made):
    (check,) = check_results([made])
    assert [(finding.what, finding.status) for finding in check.findings] == [
        (what, "ok")
        for what in (
            "run", "files", "tile maps", "table of tiles", "metadata", "validator", "arrays", "pyramid", "labels",
            "scale", "canvas", "coverage", "slide", "tissue",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_a_heatmap_that_was_stitched_again_passes_with_and_without_its_slide(made, tmp_path, ngff):
    stitch_results([made / "s"], tmp_path / "again", settings=MapSettings(ngff=ngff))
    (check,) = check_results([tmp_path / "again"], slide=made.parent / "s.tif")
    assert {finding.what for finding in check.findings if finding.status == "not checked"} == {"coverage"}
    assert check.good
    (check,) = check_results([tmp_path / "again"])  # slides.csv came with it
    assert {f.what for f in check.findings if f.status == "not checked"} == {"coverage"}
    assert check.good
    (tmp_path / "again" / "slides.csv").unlink()
    (check,) = check_results([tmp_path / "again"])
    assert {f.what for f in check.findings if f.status == "not checked"} == {"coverage", "slide", "tissue"}
    assert check.good


def test_an_export_that_was_cut_off_is_found(result):
    assert "exports" not in {finding.what for check in check_results([result]) for finding in check.findings}
    export_results([result], ["geojson", "csv"])
    (found,) = [f for check in check_results([result]) for f in check.findings if f.what == "exports"]
    assert (found.status, found.why) == ("ok", "regions.csv, tiles.csv, regions.geojson, tiles.geojson")
    tiles = result / "tiles.geojson"
    tiles.write_bytes(tiles.read_bytes()[:-5])
    found = failed(result)["exports"]
    assert "tiles.geojson is damaged" in found.why
    assert "export --overwrite" in found.remedy


def test_what_is_not_whole_is_found(result):
    edit_json(result / "run.json", lambda facts: facts.update(status="running"))
    (result / "overview.png").unlink()
    maps = TileMaps(result / "tilemaps.zarr")
    maps._done[0] = False
    table = pd.read_parquet(result / "tiles.parquet")
    table.iloc[1:].to_parquet(result / "tiles.parquet")
    found = failed(result)
    assert set(found) == {"run", "files", "tile maps", "table of tiles"}
    assert "status running" in found["run"].why
    assert found["files"].why == "no overview.png"
    assert "--resume" in found["tile maps"].remedy
    assert all(finding.remedy for finding in found.values())


def test_all_that_is_wrong_with_an_unfinished_run_has_one_remedy(result):
    edit_json(result / "run.json", lambda facts: facts.update(status="running"))
    (result / "tiles.parquet").unlink()
    store(result)["0"][0, :5, :5] = 9
    (result / "tilemaps.zarr" / "logits" / "c" / "0" / "0").unlink()
    found = failed(result)
    assert {"run", "files", "tile maps", "table of tiles", "pyramid", "coverage"} <= set(found)
    assert {finding.remedy for finding in found.values()} == {"run infer-slide on this slide with --resume"}


@pytest.mark.parametrize("keep", [0, 100])
def test_a_picture_that_cannot_be_opened_is_found(result, keep):
    overview = result / "overview.png"
    overview.write_bytes(overview.read_bytes()[:keep])
    assert "overview.png is no picture" in failed(result)["files"].why


@pytest.mark.parametrize(("name", "part"), [("tiff", "0"), ("png", "0"), ("geojson", "labels/tumour/0")])
def test_an_export_of_a_damaged_heatmap_names_it_and_a_remedy(result, tmp_path, name, part):
    chunk = chunks(result, f"{part}/0/*/*" if part == "0" else f"{part}/*/*")[0]
    chunk.write_bytes(chunk.read_bytes()[:20])
    (outcome,) = export_results([result], [name], out=tmp_path / "exported").outcomes
    assert (outcome.status, outcome.bad_input) == ("failed", True)
    assert outcome.why.startswith(f"the heatmap is damaged; got {result / 'heatmap.ome.zarr' / part} (")
    assert "`wsi-maxmin stitch` makes the heatmap again" in outcome.why
    assert not list((tmp_path / "exported" / "s").glob("[!.]*"))


def test_missing_parts_are_found_one_by_one(result):
    shutil.rmtree(result / "heatmap.ome.zarr")
    assert set(failed(result)) == {"files", "heatmap"}
    (result / "tiles.parquet").write_text("no table")
    assert set(failed(result)) == {"files", "heatmap", "table of tiles"}


def test_a_score_that_is_no_number_is_found(result):
    TileMaps(result / "tilemaps.zarr").logits[0] = np.nan
    assert "no number" in failed(result)["tile maps"].why


def chunks(result, pattern):
    return sorted(path for path in (result / "heatmap.ome.zarr").glob(pattern) if path.is_file())


@pytest.mark.parametrize("pattern", ["0/0/*/*", "1/0/*/*", "labels/tumour/0/*/*", "labels/tumour/1/*/*"])
@pytest.mark.parametrize("damage", ["missing", "cut off", "garbled"])
def test_a_chunk_that_is_missing_or_damaged_is_found(result, pattern, damage):
    chunk = chunks(result, pattern)[0]
    content = chunk.read_bytes()
    if damage == "missing":
        chunk.unlink()
    elif damage == "cut off":
        chunk.write_bytes(content[: len(content) // 2])
    else:
        chunk.write_bytes(b"\x00" * len(content))
    found = failed(result)
    assert "pyramid" in found
    assert "`wsi-maxmin stitch` makes the heatmap again" in found["pyramid"].remedy


def set_axis(values):
    values["multiscales"][0]["axes"][1]["unit"] = "pixel"


def swap_axes(values):
    axes = values["multiscales"][0]["axes"]
    axes[1], axes[2] = axes[2], axes[1]


def drop_colour(values):
    del values["omero"]["channels"][0]["color"]


def drop_channel(values):
    values["omero"]["channels"].pop()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_axis, "not in micrometer"),
        (swap_axes, "expected"),
        (drop_colour, "lacks color"),
        (drop_channel, "3 channels are described, 4 are stored"),
    ],
)
def test_metadata_that_viewers_would_stumble_over_are_found(result, change, says):
    edit_json(result / "heatmap.ome.zarr" / ".zattrs", change)
    assert says in failed(result)["metadata"].why


def shift_right(values):
    values["multiscales"][0]["datasets"][1]["coordinateTransformations"][1]["translation"][2] += 8


def other_scale(values):
    values["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"][1:] = [0.51, 0.51]


def no_translation(values):
    values["multiscales"][0]["datasets"][1]["coordinateTransformations"].pop()


@pytest.mark.parametrize("change", [shift_right, other_scale, no_translation])
@pytest.mark.parametrize("place", ["", "labels/tumour"])
def test_a_level_in_the_wrong_place_is_found(result, change, place):
    if place:
        transform = {shift_right: 1, no_translation: 1, other_scale: 0}[change]

        def changed(values):
            steps = values["multiscales"][0]["datasets"][1]["coordinateTransformations"]
            if change is no_translation:
                steps.pop()
            else:
                kind = steps[transform]["type"]
                steps[transform][kind] = [value + 8 for value in steps[transform][kind]]
    else:
        changed = change
    edit_json(result / "heatmap.ome.zarr" / place / ".zattrs", changed)
    assert "level 1: " in failed(result)["scale"].why


def test_another_scale_throughout_is_found(result):
    def change(values):
        for dataset in values["multiscales"][0]["datasets"]:
            scale, shift = dataset["coordinateTransformations"]
            scale["scale"] = [1, *(3 * value for value in scale["scale"][1:])]
            shift["translation"] = [0, *(3 * value + 0.25 for value in shift["translation"][1:])]

    edit_json(result / "heatmap.ome.zarr" / ".zattrs", change)
    assert "power of two" in failed(result)["scale"].why


def test_a_level_that_is_not_there_is_found(result):
    shutil.rmtree(result / "heatmap.ome.zarr" / "2")
    assert {"arrays", "pyramid"} <= set(failed(result))
    edit_json(result / "heatmap.ome.zarr" / ".zattrs", lambda v: v["multiscales"][0]["datasets"].pop())
    assert "2 levels, expected 3" in failed(result)["arrays"].why


def test_another_type_and_chunks_are_found(result):
    image = store(result)
    pixels = image["0"][:]
    del image["0"]
    image.create_array("0", data=pixels, chunks=(4, 100, 100))
    found = failed(result)
    assert set(found) == {"arrays"}
    assert "chunks (4, 100, 100)" in found["arrays"].why


def test_a_crop_is_found(result):
    for place in ("", "labels/tumour"):
        image = store(result, place)
        for level in image.array_keys():
            pixels = image[level][..., : 350 // 2 ** int(level), :]
            attributes = {"chunks": image[level].chunks, "compressors": image[level].compressors}
            del image[level]
            separator = {"name": "v2", "separator": "/"}
            image.create_array(level, data=pixels, fill_value=0, chunk_key_encoding=separator, **attributes)
    assert {"canvas", "coverage"} <= set(failed(result))


def test_labels_of_another_threshold_or_meaning_are_found(result):
    labels = store(result, "labels/tumour")
    whole = labels["0"][:]
    for level in range(3):
        labels[str(level)][:] = np.where(whole > 0, 3 - whole, 0)[:: 2**level, :: 2**level]
    assert "pixels are not the tumour channel at its threshold" in failed(result)["labels"].why
    labels["0"][0, 0] = 7
    assert "label 7" in failed(result)["labels"].why
    edit_json(result / "heatmap.ome.zarr" / "labels" / "tumour" / ".zattrs", lambda v: v["image-label"]["colors"].pop())
    assert "colours of [1] and properties of [1, 2]" in failed(result)["labels"].why


def test_missing_labels_are_one_failure(result, tmp_path):
    shutil.rmtree(result / "heatmap.ome.zarr" / "labels")
    (check,) = check_results([result])
    by_status = {status: [f for f in check.findings if f.status == status] for status in ("FAILED", "not checked")}
    (labels,) = by_status["FAILED"]
    assert (labels.what, labels.why) == ("labels", "the labels are missing: there is no labels/tumour")
    assert "`wsi-maxmin stitch` makes the heatmap again" in labels.remedy
    assert [finding.what for finding in by_status["not checked"]] == [
        "metadata", "validator", "arrays", "pyramid", "scale", "canvas", "tissue",
    ]  # fmt: skip
    assert {finding.why for finding in by_status["not checked"]} == {"there are no labels"}
    (outcome,) = export_results([result], ["geojson"], out=tmp_path / "exported").outcomes
    assert outcome.why.startswith(f"the heatmap is damaged; got {result / 'heatmap.ome.zarr' / 'labels/tumour/0'} (")


@pytest.mark.parametrize("lost", ["0", "labels/tumour/0", "labels/tumour/1"])
def test_an_array_that_is_not_there_is_said_in_words(result, lost):
    shutil.rmtree(result / "heatmap.ome.zarr" / lost)
    found = failed(result)
    assert "arrays" in found
    assert any("there is no " in finding.why for finding in found.values())
    assert not any(finding.why.startswith("KeyError") for finding in found.values())


def test_a_table_without_its_columns_is_said_in_words(result):
    pd.read_parquet(result / "tiles.parquet").drop(columns="width").to_parquet(result / "tiles.parquet")
    assert failed(result)["table of tiles"].why == "there is no ['width'] not in index"


def roll(result, by):
    for place in ("", "labels/tumour"):
        image = store(result, place)
        for level in range(3):
            image[str(level)][:] = np.roll(image[str(level)][:], by // 2**level, axis=-1)


def test_a_map_beside_its_place_is_found_by_its_tiles_and_by_the_slides_tissue(result):
    """All of it shifted by 16 level-0 pixels, 4 µm, and in itself without a flaw."""
    roll(result, 16)
    found = failed(result)
    assert set(found) == {"coverage", "tissue"}
    assert "has a Dice of 0.9" in found["tissue"].why


def test_values_without_a_tile_are_found(result):
    store(result)["0"][0, :5, :5] = 9
    assert "values where no tile was" in failed(result)["coverage"].why


@pytest.mark.parametrize("wrong", ["another", "renamed", "none"])
@pytest.mark.parametrize("status", ["done", "running"])
def test_another_slide_is_a_mistake_of_the_call_and_not_of_the_result(result, made, tmp_path, wrong, status):
    edit_json(result / "run.json", lambda facts: facts.update(status=status))
    content = (made.parent / "s.tif").read_bytes()
    other = tmp_path / ("t.tif" if wrong == "renamed" else "s.tif")
    other.write_bytes({"another": content + b"0", "renamed": content, "none": b"no slide"}[wrong])
    found = failed(result, slide=other)
    assert set(found) - {"run"} == {"slide"}
    assert {"another": "bytes", "renamed": "file t.tif", "none": "is not a readable slide"}[wrong] in found["slide"].why
    assert found["slide"].remedy == (
        "give the slide that was run (s.tif, 1000 × 700 px, 0.25 µm a pixel), or leave --slide out"
    )
    (tissue,) = [f for check in check_results([result], slide=other) for f in check.findings if f.what == "tissue"]
    assert (tissue.status, tissue.why) == ("not checked", "--slide is not the slide of this result")


def test_the_slide_that_slides_csv_names_has_the_remedy_of_the_result(result, made, tmp_path):
    other = tmp_path / "s.tif"
    other.write_bytes((made.parent / "s.tif").read_bytes() + b"0")
    csv = result.parent / "slides.csv"
    csv.write_text(csv.read_text().replace(str(made.parent / "s.tif"), str(other)))
    found = failed(result)
    assert set(found) == {"slide"}
    assert found["slide"].remedy == "run infer-slide on this slide with --overwrite"


@pytest.mark.parametrize("where", ["nosuch.tif", "memory://nosuch.tif"])
def test_a_slide_that_is_given_and_not_there_is_refused(result, tmp_path, where):
    slide = where if "://" in where else tmp_path / where
    said = CliRunner().invoke(group, ["check", str(result), "--slide", str(slide)])
    assert said.exit_code == 2, said.output
    assert said.stdout == ""
    assert said.stderr == f"error: no such slide; got {slide}; check the path\n"


def test_a_slide_that_is_gone_is_no_failure_but_said(result):
    csv = result.parent / "slides.csv"
    csv.write_text(csv.read_text().replace("s.tif", "gone.tif"))
    (check,) = check_results([result])
    assert check.good
    missing = [finding for finding in check.findings if finding.status == "not checked"]
    assert [finding.what for finding in missing] == ["slide", "tissue"]
    assert "--slide names it" in missing[0].why


def test_the_command_prints_checks_and_remedies_and_returns_0_1_or_2(result, tmp_path):
    good = CliRunner().invoke(group, ["check", str(result)])
    assert good.exit_code == 0, good.output
    assert "s: good" in good.stdout
    assert "registered  tissue          ok" in good.stdout
    (result / "tiles.parquet").unlink()
    bad = CliRunner().invoke(group, ["check", str(result.parent), "--quiet"])
    assert bad.exit_code == 1
    first, *lines = bad.stdout.splitlines()
    assert first == "s: FAILED"
    assert [line.split()[:2] for line in lines[::2]] == [["whole", "files"], ["whole", "table"]]
    assert all(line.split() == ["remedy", *line.split()[1:]] for line in lines[1::2])
    assert CliRunner().invoke(group, ["check", str(tmp_path / "none")]).exit_code == 2


def test_two_results_of_slides_of_one_name_are_told_apart_by_their_folders(result, tmp_path):
    again = shutil.copytree(result.parent, tmp_path / "again")
    said = CliRunner().invoke(group, ["check", str(result), str(again), str(again / "s"), "--quiet"])
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines() == [f"{result}: good", f"{again / 's'}: good"]


def test_a_slide_without_tissue_has_no_tiles_and_nothing_covered(tmp_path, tiny_model, make_pyramid, write_pyramid):
    slide = write_pyramid(tmp_path / "glass.tif", make_pyramid(np.full((300, 400, 3), 243, np.uint8), 2))
    settings = InferSettings(model=str(tiny_model), engine="torch", precision="fp32")
    infer_slide([slide], tmp_path / "out", settings=settings)
    (check,) = check_results([tmp_path / "out"])
    assert check.good
    (coverage,) = [finding for finding in check.findings if finding.what == "coverage"]
    assert (coverage.status, coverage.why) == ("ok", "nothing is covered: it has no tiles")
    store(tmp_path / "out" / "glass")["0"][-1, 0, 0] = 255
    assert failed(tmp_path / "out" / "glass")["coverage"].why == "there are values, but no tiles"


def test_one_slide_cannot_be_that_of_several_results(result):
    shutil.copytree(result, result.parent / "t")
    with pytest.raises(InputError, match="one slide for several results"):
        check_results([result.parent], slide="s.tif")


def lose_mask(maps):
    (maps.path / "mask" / "c" / "0" / "0" / "0" / "0").unlink()


def lose_logits(maps):
    (maps.path / "logits" / "c" / "0" / "0").unlink()


def cut_logits(maps):
    chunk = maps.path / "logits" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])


def flip_logits(maps):
    maps.logits[:] = np.asarray(maps.logits[:])[:, ::-1]


def blank_a_mask(maps):
    maps.mask[1] = 0


@pytest.mark.parametrize("change", [lose_mask, lose_logits, cut_logits, flip_logits, blank_a_mask])
@pytest.mark.parametrize("earlier_version", [False, True])
def test_lost_and_changed_tile_maps_are_found_and_not_stitched(result, tmp_path, change, earlier_version):
    """Of a chunk that is not there zarr says that it is all zeros."""
    if earlier_version:
        edit_json(result / "tilemaps.zarr" / "zarr.json", lambda v: v["attributes"].pop("every_chunk_stored"))
    change(TileMaps(result / "tilemaps.zarr"))
    found = failed(result)
    assert set(found) == {"tile maps"}
    assert found["tile maps"].remedy == "run infer-slide on this slide with --overwrite"
    (outcome,) = stitch_results([result], tmp_path / "again").outcomes
    assert outcome.status == "failed"
    assert outcome.why.startswith("the tile maps are damaged; got ")
    assert outcome.why.endswith("run infer-slide on this slide with --overwrite")
    (outcome,) = export_results([result], ["csv"], out=tmp_path / "csv").outcomes
    assert outcome.status == ("done" if change is blank_a_mask else "failed")
