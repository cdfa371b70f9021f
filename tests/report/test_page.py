"""A page is one file in which every value is escaped."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from support.evaluated import BAD_NAME, guesses, objects_on, recall_of

from rpn_jax import AnchorConfig, TargetConfig
from rpn_jax.anchor_report import ImageBoxes, inspect_anchors
from rpn_jax.report import (
    Chart,
    Line,
    Page,
    PageFacts,
    Picture,
    RunProposals,
    Section,
    evaluation_page,
    inspection_page,
    make_gallery,
    render,
    write_page,
)
from rpn_jax.report.charts import training_charts

pytest.importorskip("jinja2", reason="pages need jinja2: pip install rpn-jax[train]")
pytest.importorskip("plotly", reason="pages need plotly: pip install rpn-jax[train]")

LOG = [{"step": i, "loss": 1.0 / i, "lr": 0.1, "box": 0.5} for i in range(1, 6)]
HOSTILE = "</script><script>alert(2)</script><img src=x onerror=alert(3)>"


class Elements(HTMLParser):
    """Collects elements, identifiers, and what the page would load."""

    def __init__(self, text):
        super().__init__()
        self.names, self.ids, self.loaded, self.events = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.names.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        loads = [given.get(key) or "#" for key in ("src", "href", "action")]
        self.loaded += [url for url in loads if not url.startswith(("#", "data:"))]
        self.events += [name for name in given if name.startswith("on")]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    source = objects_on(tmp_path_factory.mktemp("set"))
    proposals = guesses(source)
    gallery = make_gallery(source, [RunProposals("run", proposals)])
    facts = PageFacts(
        title=f"Run {HOSTILE}",
        command=f"rpn-jax train --test-categories '{HOSTILE}'",
        config={"test_categories": [HOSTILE]},
        metrics=LOG,
        labels=Picture("data:,", HOSTILE),
        problems=[f"1 x image file not found (first in {BAD_NAME})"],
    )
    return render(evaluation_page(recall_of(source, proposals), gallery, facts))


def without_plotly(html):
    """The page without the code of plotly, in which anything may stand."""
    scripts = re.findall(r"<script>.*?</script>", html, flags=re.S)
    return html.replace(max(scripts, key=len), "")


def test_nothing_is_loaded_and_no_name_becomes_markup(html):
    page = Elements(without_plotly(html))
    assert page.loaded == page.events == []
    assert page.names.count("img") == 1  # the labels; the script makes the others
    assert page.names.count("script") == 3
    assert HOSTILE not in html
    assert BAD_NAME not in html
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in html
    assert len(page.ids) == len(set(page.ids))
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


def test_the_data_of_the_script_is_json(html):
    data = re.findall(r'<script id="([a-z-]+)" type="application/json">(.*?)<', html)
    by_name = {name: json.loads(text) for name, text in data}
    names = [image["name"] for image in by_name["gallery-data"]["images"]]
    assert BAD_NAME in names
    figures = [figure["name"] for figure in by_name["figure-data"]]
    assert figures == ["loss", "lr", "over-iou", "over-limits"]


def test_every_section_has_a_heading_and_a_link(html):
    found = re.findall(r'<section id="(.*?)" aria-labelledby="(.*?)"', html)
    names = [name for name, _ in found]
    assert names == [
        *("summary", "training", "recall", "images", "labels", "problems", "settings")
    ]
    assert all(f'href="#{name}"' in html for name in names)
    assert all(f'<h2 id="{label}"' in html for _, label in found)


def test_every_control_has_a_label(html):
    for name in ("limit", "score", "size"):
        assert f'<label for="{name}">' in html


def test_the_page_of_an_inspection_has_the_tables_of_the_command():
    boxes = np.array([[4.0, 4, 20, 24], [30, 10, 60, 40]])
    report = inspect_anchors(
        [ImageBoxes(boxes, (48, 64), (48, 64))],
        anchors=AnchorConfig(sizes=(16,), strides=(8,)),
        targets=TargetConfig(),
    )
    facts = PageFacts("T", "rpn-jax inspect", {}, problems=[BAD_NAME])
    html = render(inspection_page(report, None, "--flag '<8>'", facts))
    assert html.count("<table>") == 4
    assert "2 objects in 1 images." in html
    assert "--flag &#39;&lt;8&gt;&#39;" in html
    assert "plotly" not in html  # it has no charts


def test_values_that_are_not_finite_leave_gaps():
    chart = Chart("a", "A", ("x", "y"), (Line("b", [1, 2, 3], [1, np.nan, np.inf]),))
    text = render(Page("P", "", (Section("s", "S", charts=[chart]),)))
    assert '"y":[1.0,null,null]' in text
    assert chart.table().rows == [("b", "1", "1", "1", "1")]


def test_metrics_that_were_not_logged_have_no_chart():
    assert [chart.name for chart in training_charts({"run": LOG})] == ["loss", "lr"]
    assert training_charts({"run": []}) == ()
    log = [{"step": 1, "loss": 1.0, "data_wait": 0.25}]
    *_, waiting = training_charts({"a": log, "b": log})
    assert [line.name for line in waiting.lines] == ["a", "b"]
    assert waiting.lines[0].y == [0.25]


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_page(Page("söt \udce9", "", ()), path)
    assert "<title>söt ?</title>" in path.read_text(encoding="utf-8")
    numbers: list = [object()]
    broken = Page("", "", (Section("s", "S", tables=numbers),))
    with pytest.raises(Exception, match="caption"):
        write_page(broken, path)
    assert [x.name for x in tmp_path.iterdir()] == ["report.html"]
