"""A page in headless Chromium: sliders, counts, errors and requests."""

import pathlib
import re
import shutil

import pytest
from support.evaluated import BAD_NAME, guesses, objects_on, recall_of

from rpn_jax.report import (
    PageFacts,
    RunProposals,
    evaluation_page,
    make_gallery,
    write_page,
)

pytest.importorskip("jinja2", reason="pages need jinja2: pip install rpn-jax[train]")
pytest.importorskip("plotly", reason="pages need plotly: pip install rpn-jax[train]")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="the test in a browser needs playwright"
)
# How systems call Chromium.
NAMES = ("chromium", "chromium-browser", "google-chrome")
LOG = [{"step": i, "loss": 1.0 / i, "lr": 0.1, "data_wait": 0.2} for i in range(1, 50)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page, and the recall that it shows."""
    folder = tmp_path_factory.mktemp("run")
    source = objects_on(folder / "set")
    proposals = guesses(source, per_object=30)
    report = recall_of(source, proposals)
    facts = PageFacts(
        title=BAD_NAME,
        command="rpn-jax evaluate",
        config={"test_categories": [BAD_NAME, "</script>"]},
        metrics=LOG,
        problems=[BAD_NAME],
    )
    gallery = make_gallery(source, [RunProposals("run", proposals)])
    write_page(evaluation_page(report, gallery, facts), folder / "report.html")
    return folder / "report.html", report.as_dict()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        try:
            # Playwright's own browser, or that of the system.
            own = pathlib.Path(started.chromium.executable_path)
            path = (
                own
                if own.exists()
                else next(filter(None, map(shutil.which, NAMES)), None)
            )
            if path is None:
                pytest.skip("no Chromium: playwright install chromium")
            found = started.chromium.launch(
                executable_path=str(path), args=["--no-sandbox"]
            )
        except playwright.Error as error:
            pytest.skip(f"Chromium does not start: {error.message.splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def seen(browser, written):
    """The opened page, and all errors, dialogs and requests so far."""
    path, _ = written
    page = browser.new_page(
        viewport={"width": 390, "height": 800}, reduced_motion="reduce"
    )
    wrong = []
    page.on("console", lambda x: wrong.append(f"{x.type}: {x.text}"))
    page.on("pageerror", lambda x: wrong.append(f"error: {x}"))
    page.on("dialog", lambda x: (wrong.append(f"dialog: {x.message}"), x.dismiss()))
    page.on("request", lambda x: None if allowed(x.url) else wrong.append(x.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#chart-loss .main-svg")
    return page, wrong


def allowed(url):
    return url.startswith(("file:", "data:", "blob:"))


def set_slider(page, name, value):
    page.eval_on_selector(
        f"#{name}",
        """(slider, value) => {
            slider.value = value;
            slider.dispatchEvent(new Event("input"));
            slider.dispatchEvent(new Event("change"));
        }""",
        str(value),
    )


def counted(page):
    line = page.locator("#counts .count")
    return [int(line.get_attribute(f"data-{x}")) for x in ("found", "total")]


def counted_in_captions(page):
    """The sums of the numbers below all images that are shown."""
    texts = page.locator("#gallery li:not([hidden]) figcaption").all_inner_texts()
    pairs = [map(int, re.findall(r"\d+", text)) for text in texts]
    return [sum(column) for column in zip(*pairs, strict=True)]


def test_counts_agree_with_the_recall_at_every_limit_and_size(seen, written):
    (page, _), (_, recall) = seen, written
    for size in ("all", "small", "medium", "large"):
        page.select_option("#size", label=size)
        for position, limit in ((0, 1), (3, 10), (8, 100), (10, 300), (13, 1000)):
            set_slider(page, "limit", position)
            assert page.inner_text("#limit-value") == f"{limit:,}"
            found, total = counted(page)
            assert total == recall["num_objects"][size]
            share = recall["coco"][f"recall_0.50@{limit}"][size]
            assert found == pytest.approx(share * total, abs=1e-3)
            assert counted_in_captions(page) == [found, total]  # all images are shown
            boxes = page.locator("#gallery li:not([hidden]) .object")
            assert boxes.count() == total
            of_class = page.locator("#gallery li:not([hidden]) .object.found")
            assert of_class.count() == found


def test_a_higher_lowest_score_finds_less_and_arrow_keys_move_sliders(seen):
    page, _ = seen
    page.select_option("#size", label="all")
    set_slider(page, "limit", 13)
    set_slider(page, "score", 0)
    before = counted(page)
    page.focus("#score")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#score-value") == "0.01"
    assert page.get_attribute("#score", "aria-valuetext") == "0.01"
    set_slider(page, "score", 100)
    found, total = counted(page)
    assert found < before[0]
    assert total == before[1]
    assert counted_in_captions(page) == [found, total]
    shares = [
        int(a) / int(b)
        for a, b in (
            re.findall(r"\d+", text)
            for text in page.locator("#gallery figcaption").all_inner_texts()
        )
    ]
    assert shares == sorted(shares)  # the worst image comes first
    set_slider(page, "score", 0)
    assert counted(page) == before


def test_a_checkbox_hides_the_proposals(seen):
    page, _ = seen
    path = page.locator("#gallery .proposals").first
    assert path.get_attribute("d").count("M") == 120
    page.uncheck("#boxes")
    assert path.get_attribute("d") == ""
    page.check("#boxes")


def test_names_are_text_and_the_page_fits_a_telephone(seen):
    page, _ = seen
    assert BAD_NAME in page.locator("#gallery h3").all_inner_texts()
    assert page.inner_text("h1") == BAD_NAME
    assert page.locator("img[src=x]").count() == 0
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390


def test_controls_are_reached_by_tab_and_have_names(seen):
    page, _ = seen
    names = page.eval_on_selector_all(
        "input, select", "all => all.map(x => x.labels[0].textContent.trim())"
    )
    assert [re.split(":", name)[0] for name in names] == [
        *("Proposals per image", "Lowest score", "Size of objects", "Show proposals")
    ]
    page.focus("#limit")
    for name in ("score", "size", "boxes"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name


def test_a_chart_zooms_by_mouse_and_by_keyboard(seen):
    page, _ = seen
    area = page.locator("#chart-loss .nsewdrag")
    area.scroll_into_view_if_needed()
    chart, before = area.bounding_box(), axis_range(page)
    x, y = chart["x"] + chart["width"] / 4, chart["y"] + chart["height"] / 4
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + chart["width"] / 2, y + chart["height"] / 2, steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)
    low, high = axis_range(page)
    assert high - low == pytest.approx((before[1] - before[0]) / 2, rel=0.1)
    area.dblclick()
    page.wait_for_timeout(500)
    assert axis_range(page) == pytest.approx(before)
    page.focus("#chart-loss .modebar-btn >> nth=0")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    low, high = axis_range(page)
    assert high - low == pytest.approx((before[1] - before[0]) / 2, rel=0.1)


def axis_range(page):
    script = "document.querySelector('#chart-loss')._fullLayout.xaxis.range"
    return page.evaluate(script)


def test_no_error_no_dialog_and_no_request_at_the_end(seen, written):
    _, wrong = seen
    assert wrong == []
    path, _ = written
    assert path.stat().st_size < 15e6
