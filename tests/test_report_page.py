"""Reports in a real Chromium, from a file and without a network."""

import pytest

from tests import reporting
from tests.browsing import browser, until  # noqa: F401
from wsi_maxmin.pipelines.report import write_report

WIDE = {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def heatmaps(finished_run, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return write_report(reporting.hostile_run(finished_run, tiny_model, folder), viewer_url="http://127.0.0.1:8765/")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return write_report(reporting.training(tmp_path_factory.mktemp("stopped") / "run", status="stopped"))


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


def column(page, index, table=0):
    return page.locator("table").nth(table).locator(f"tbody tr td:nth-child({index + 1})").all_inner_texts()


def header(page, name):
    return page.get_by_role("button", name=name).first


def test_a_page_has_its_headings_and_its_pictures_and_asks_for_nothing(visit, heatmaps):
    page = visit(heatmaps)
    assert page.title() == "run – wsi-maxmin"
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").all_inner_texts() == ["run"]
    assert page.locator("h2").all_inner_texts()[:4] == ["Summary", "What went wrong", "Slides", "Maps"]
    assert page.locator("h3").all_inner_texts() == [reporting.HOSTILE, "a", "bad"]
    pictures = page.locator("img")
    assert pictures.count() == 2
    for index in range(2):
        pictures.nth(index).scroll_into_view_if_needed()
        until(page, f"document.images[{index}].complete && document.images[{index}].naturalWidth > 0")
        assert "tumour map" in pictures.nth(index).get_attribute("alt")


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

    def press(name):
        if way == "click":
            header(page, name).click()
        else:
            header(page, name).focus()
            page.keyboard.press("Enter")

    highest = page.locator("table").nth(1).locator("th", has_text="Highest value")
    before = column(page, 2, table=1)
    assert before[-1] == "–"
    press("Highest value")
    assert highest.get_attribute("aria-sort") == "descending"
    assert column(page, 2, table=1) == before
    press("Highest value")
    assert highest.get_attribute("aria-sort") == "ascending"
    assert column(page, 2, table=1)[-1] == "–"  # what has no value comes last either way
    assert [*map(float, column(page, 2, table=1)[:2])] == sorted(map(float, before[:2]))
    page.locator("table").nth(1).get_by_role("button", name="Slide").focus()
    page.keyboard.press("Space")
    assert column(page, 0, table=1) == [reporting.HOSTILE, "a", "bad"]
    assert highest.get_attribute("aria-sort") is None


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


def test_the_page_reads_without_its_script_and_prints_in_light_colours(visit, heatmaps):
    page = visit(heatmaps, java_script_enabled=False, color_scheme="dark")
    assert page.locator("th button").count() == 0
    assert page.locator("tbody tr").count() >= 4
    ground = "el => getComputedStyle(el).backgroundColor"
    assert page.locator("body").evaluate(ground) == "rgb(21, 23, 26)"
    page.emulate_media(media="print")
    assert page.locator("body").evaluate(ground) == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
