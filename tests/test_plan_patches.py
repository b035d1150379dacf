"""A dry run foresees what the real one does, and writes nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_extract_options import Listener
from tests.test_extract_p512 import P512, cohort
from tests.test_extract_patches import SMALL, TISSUE, TUMOUR, extract, outline, table
from wsi_maxmin.errors import InputError
from wsi_maxmin.extract_inputs import ExtractInputs, JobMaker
from wsi_maxmin.extraction import ExtractSettings, SlideJob
from wsi_maxmin.pipelines import plan_patches as module
from wsi_maxmin.pipelines._dry_run import DryRun, Expected
from wsi_maxmin.pipelines.plan_patches import plan_patches

__all__ = ["cohort"]

MakeSlide = Callable[..., Path]


@pytest.fixture
def slides(make_slide: MakeSlide, tmp_path: Path) -> list[Path]:
    """Return a slide with tissue, one that is none, one of glass, and one with little tissue."""
    (tmp_path / "broken.tif").write_text("not a slide")
    found = [make_slide("much", TISSUE), tmp_path / "broken.tif", make_slide("glass")]
    return [*found, make_slide("little", (192, 128, 130, 70))]


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, stride_px=32, format="jpeg")], ids=["grid", "overlap"])
@pytest.mark.parametrize("workers", [1, 2])
def test_counts_and_failures_are_those_of_the_real_run(
    slides: list[Path], tmp_path: Path, settings: ExtractSettings, workers: int
) -> None:
    inputs = ExtractInputs(slides=slides, annotations=tmp_path)
    outline(tmp_path / "much.xml", *TUMOUR)
    foreseen = plan_patches(inputs, settings=settings, workers=workers)
    result = extract(slides, tmp_path / "out", settings=settings, annotations=tmp_path)
    counts = table(tmp_path / "out").rows["slide_id"].value_counts()
    assert [slide.slide_id for slide in foreseen.slides] == ["much", "broken", "glass", "little"]
    for slide, outcome in zip(foreseen.slides, result.outcomes, strict=True):
        assert slide.number == counts.get(slide.slide_id, 0)
        assert slide.fails == (outcome.status == "failed")
        assert (slide.remark == f"fails: {outcome.why}") == slide.fails
    assert foreseen.failed
    assert not replace(foreseen, slides=foreseen.slides[:1]).failed


def test_disk_is_foreseen_within_a_tenth(slides: list[Path], tmp_path: Path) -> None:
    foreseen = plan_patches(ExtractInputs(slides=slides[:1]), settings=SMALL, workers=1)
    extract(slides[:1], tmp_path / "out")
    assert foreseen.slides[0].disk_bytes == pytest.approx(table(tmp_path / "out").rows["image_bytes"].sum(), rel=0.1)
    without = plan_patches(ExtractInputs(slides=slides[:1]), settings=replace(SMALL, format="none"), workers=1)
    assert without.slides[0].disk_bytes == 0


def test_nothing_is_written(slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    plan_patches(ExtractInputs(slides=slides), settings=replace(SMALL, store="shard"), workers=1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))} == before


def test_an_error_of_any_kind_is_its_slides_and_shows_no_hidden_name(
    slides: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = module.plan_slide

    def plan_slide(job: SlideJob, settings: ExtractSettings) -> object:
        if job.path.stem == "glass":
            raise PermissionError(13, "Permission denied", str(job.path))
        return plain(job, settings)

    monkeypatch.setattr(module, "plan_slide", plan_slide)
    for settings in (SMALL, replace(SMALL, hash_slide_ids=True)):
        foreseen = plan_patches(ExtractInputs(slides=slides), settings=settings, workers=1)
        assert foreseen.slides[0].number == 12
        assert foreseen.slides[2].remark.startswith("fails: PermissionError: [Errno 13] Permission denied")
        assert ("glass" in foreseen.table()) != settings.hash_slide_ids


def test_what_does_not_fit_is_said_and_what_cannot_be_attempted_raised(slides: list[Path], tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("slide,split\nmuch,train\ngone,train\n")
    listener = Listener()
    inputs = ExtractInputs(slides=slides[:1], splits=tmp_path / "splits.csv")
    plan_patches(inputs, settings=SMALL, workers=1, progress=listener)
    assert listener.said == JobMaker(inputs, SMALL, {}).notes != []
    with pytest.raises(InputError, match="no slide given"):
        plan_patches(ExtractInputs(slides=[]), settings=SMALL, workers=1)


def test_slides_without_tumour_share_what_those_with_tumour_give(cohort: Path) -> None:
    slides = [cohort / f"{name}.tif" for name in ("n1", "n2", "n3", "t1", "t2")]
    inputs = ExtractInputs(slides=slides, annotations=cohort / "xml")
    *normal, one, two = plan_patches(inputs, settings=P512, workers=1).slides
    for slide in normal:
        assert slide.number == round((one.number + two.number) / 3) > 0
        assert slide.disk_bytes == pytest.approx((one.disk_bytes + two.disk_bytes) / 3)
        assert "share" in slide.remark


def test_the_table_has_a_line_a_slide_and_their_sum_divides_the_time_among_workers() -> None:
    slides = (Expected("a", 1000, 2e6, 30.0, "why"), Expected("much_longer_id", 234, 1e6, 10.0, ""))
    lines = DryRun(slides=slides, unit="patches", where="with 4 workers", at_once=4).table().splitlines()
    assert [line.split() for line in lines] == [
        ["slide", "patches", "disk", "time"],
        ["a", "1,000", "2", "MB", "30", "s", "why"],
        ["much_longer_id", "234", "1", "MB", "10", "s"],
        ["together", "1,234", "3", "MB", "10", "s", "with", "4", "workers"],
    ]
    assert len({line.index("MB") for line in lines[1:]}) == 1
