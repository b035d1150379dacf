"""Reports in a real Chromium, from a file and without a network."""

import json

import pytest

from tests import reporting
from tests.browsing import browser, until  # noqa: F401
from wsi_maxmin.pipelines.report import write_report

WIDE = {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def heatmaps(finished_run, tiny_model, tmp_path_factory):
    run = reporting.hostile_run(finished_run, tiny_model, tmp_path_factory.mktemp("page"))
    facts = json.loads((run / "a" / "run.json").read_text())
    (run / "a" / "run.json").write_text(json.dumps(facts | {"tiles": 1234}))
    return write_report(run, viewer_url="http://127.0.0.1:8765/")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    run = reporting.training(tmp_path_factory.mktemp("stopped") / "run", status="stopped")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    near_one = {"learning_rate": 0.001, "loss_background": 1.0003}
    epochs = [json.loads(line) | near_one for line in lines]
    epochs[-1]["loss_background"] = 1.00125
    (run / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    return write_report(run)


@pytest.fixture
def visit(browser):  # noqa: F811
    """Return a function that opens a file; the test fails on any error, dialog, or request but that for the file."""
    wrong, pages = [], []

    def go(path, **options):
        page = browser.new_page(**{"viewport": WIDE, "offline": True, "reduced_motion": "reduce", **options})
        pages.append(page)
        url = path.as_uri()
        page.on("console", lambda said: wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda asked: asked.url.startswith(("data:image/jpeg", url)) or wrong.append(asked.url))
        page.goto(url)
        return page

    yield go
    for page in pages:
        page.close()
    assert not wrong


def column(page, index):
    """Return a column of the table of slides."""
    return page.locator("#slides table").locator(f"tbody tr td:nth-child({index + 1})").all_inner_texts()


def test_a_page_has_its_headings_and_its_pictures_and_asks_for_nothing(visit, heatmaps):
    page = visit(heatmaps, viewport={"width": 1200, "height": 200})
    assert page.title() == "run – wsi-maxmin"
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").all_inner_texts() == ["run"]
    assert page.locator("h2").all_inner_texts()[:4] == ["Summary", "What went wrong", "Slides", "Maps"]
    assert page.locator("h3").all_text_contents() == [reporting.HOSTILE, "a", "bad"]
    # Also those that are out of sight: what waits for its turn is not printed.
    until(page, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    pictures = page.locator("img")
    assert pictures.count() == 2
    assert all("tumour map" in picture.get_attribute("alt") for picture in pictures.all())


def test_each_entry_of_the_contents_leads_to_its_section(visit, heatmaps):
    page = visit(heatmaps)
    links = page.locator("nav a")
    targets = [link.get_attribute("href") for link in links.all()]
    assert len(targets) == page.locator("h2").count()
    for target in targets:
        assert page.locator(target).locator("h2").count() == 1
    links.last.click()
    assert page.url.endswith("#settings")


@pytest.mark.parametrize("way", ["click", "keyboard"])
def test_tables_sort_by_their_headers(visit, heatmaps, way):
    page = visit(heatmaps)
    slides = page.locator("#slides table")
    tiles = slides.locator("th").nth(6)

    def press(name):
        button = slides.get_by_role("button", name=name).first
        if way == "click":
            button.click()
        else:
            button.focus()
            page.keyboard.press("Enter")

    few = column(page, 6)[0]
    assert column(page, 6) == [few, "1,234", "–"]
    press("Tiles")
    assert (tiles.get_attribute("aria-sort"), column(page, 6)) == ("descending", ["1,234", few, "–"])
    press("Tiles")  # what has no value comes last either way
    assert (tiles.get_attribute("aria-sort"), column(page, 6)) == ("ascending", [few, "1,234", "–"])
    press("Status")
    assert column(page, 1) == ["done", "done", "failed"]
    press("Status")
    assert column(page, 1) == ["failed", "done", "done"]
    assert tiles.get_attribute("aria-sort") is None
    assert slides.locator("[aria-sort]").count() == 1


@pytest.mark.parametrize("width", [600, 320])
@pytest.mark.parametrize("which", ["heatmaps", "stopped"])
def test_a_page_at_twice_its_size_or_on_a_phone_does_not_scroll_sideways(visit, request, which, width):
    """Zoom of 200 % on a screen of 1200 px leaves 600 CSS px at two device pixels each."""
    page = visit(
        request.getfixturevalue(which), viewport={"width": width, "height": 450}, device_scale_factor=1200 / 600
    )
    across = page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert across[0] <= across[1]
    outside = page.evaluate("""() => [...document.querySelectorAll("h1, h2, h3, p, dd, figure, img, .scroll")].filter(
        (part) => part.getBoundingClientRect().right > innerWidth).map((part) => part.outerHTML.slice(0, 80))""")
    assert outside == []


def test_a_command_is_copied_or_selected(visit, heatmaps):
    page = visit(heatmaps)
    page.locator("#maps .command button").first.click()
    until(page, "['Copied', 'Selected'].includes(document.querySelector('#maps .command button').textContent)")
    assert page.locator("#maps .command code").nth(1).inner_text() == f"wsi-maxmin view {heatmaps.parent}/a"


def test_a_stopped_training_says_so_and_its_charts_are_drawn(visit, stopped):
    page = visit(stopped)
    warning = page.locator(".warning")
    assert "Stopped at its time limit: 2 of 4 epochs are done." in warning.inner_text()
    for line in page.locator(".chart > svg").all():
        assert line.bounding_box()["height"] > 100
        assert line.locator("polyline").count() >= 1
    names = page.evaluate(
        """() => [...document.querySelectorAll("svg[role=img]")].map(
        (svg) => document.getElementById(svg.getAttribute("aria-labelledby")).textContent)"""
    )
    assert names[0].startswith("Loss, total: loss, total against epoch.")


def test_no_label_of_a_chart_is_cut(visit, stopped):
    page = visit(stopped)
    labels = page.evaluate("""() => [...document.querySelectorAll(".chart text")].map((text) => {
        const own = text.getBoundingClientRect(), chart = text.closest("svg").getBoundingClientRect();
        return [text.textContent, Math.min(own.left - chart.left, chart.right - own.right)];
    })""")
    assert {"1.0002", "0.00105"} <= {text for text, _ in labels}
    assert [text for text, room in labels if room < 0] == []


def test_the_page_reads_without_its_script_and_prints_in_light_colours(visit, heatmaps):
    page = visit(heatmaps, java_script_enabled=False, color_scheme="dark")
    assert page.locator("th button").count() == 0
    assert page.locator("tbody tr").count() >= 4
    ground = "el => getComputedStyle(el).backgroundColor"
    assert page.locator("body").evaluate(ground) == "rgb(21, 23, 26)"
    page.emulate_media(media="print")
    assert page.locator("body").evaluate(ground) == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
