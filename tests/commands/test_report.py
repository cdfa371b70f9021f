"""`rpn-jax report`: runs beside each other, from the files in their folders."""

import json
import re

import pytest
from support.evaluated import guesses, objects_on, run_folder

from rpn_jax import cli

pytest.importorskip("jinja2", reason="pages need jinja2: pip install rpn-jax[train]")
pytest.importorskip("plotly", reason="pages need plotly: pip install rpn-jax[train]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, the second of which has no proposals for one image."""
    folder = tmp_path_factory.mktemp("runs")
    source = objects_on(folder / "set")
    first = guesses(source)
    second = dict(first)
    del second[2]
    data = folder / "set" / "set.json"
    return [
        run_folder(folder / "first", data, first, seed=1),
        run_folder(folder / "second", data, second, seed=2),
    ]


def compare(*arguments):
    return cli.main(["report", *map(str, arguments)])


def data_of(path, name):
    pattern = rf'<script id="{name}" type="application/json">(.*?)</script>'
    return json.loads(re.findall(pattern, path.read_text("utf-8"))[0])


def test_runs_lie_beside_each_other(runs, tmp_path, capsys):
    path = tmp_path / "new" / "page.html"
    assert compare(*runs, "--out", path) == 0
    assert str(path) in capsys.readouterr().out
    gallery = data_of(path, "gallery-data")
    assert [image["name"] for image in gallery["images"]] == ["2.png"]
    assert [run["name"] for run in gallery["runs"]] == ["first", "second"]
    # Without scores, the counts are those of each `recall.json`.
    row, total = gallery["limits"].index(100), gallery["runs"][0]["total"][0]
    for folder, run in zip(runs, gallery["runs"], strict=True):
        recall = json.loads((folder / "recall.json").read_text())
        share = recall["coco"]["recall_0.50@100"]["all"]
        assert run["found"][0][row][0] / total == pytest.approx(share, abs=1e-6)
    figures = {x["name"]: x["data"] for x in data_of(path, "figure-data")}
    assert [line["name"] for line in figures["over-limits"]] == ["first", "second"]
    assert [x["name"] for x in figures["lr"]] == ["first", "second"]
    html = path.read_text("utf-8")
    assert '<th scope="row">seed</th><td>1</td><td>2</td>' in html
    assert '<th scope="row">lr</th>' not in html  # it does not differ


def test_equal_runs_and_lost_images_leave_the_numbers(runs, tmp_path, caplog):
    path = tmp_path / "page.html"
    same = tmp_path / "same"
    same.mkdir()
    for file in runs[0].iterdir():
        (same / file.name).write_bytes(file.read_bytes())
    assert compare(runs[0], same, "--out", path) == 0
    assert "find the same number of objects in every image" in path.read_text("utf-8")
    (same / "proposals.json").unlink()
    assert compare(same, runs[1], "--out", path) == 0
    assert "No images are shown: " in path.read_text("utf-8")
    assert data_of(path, "gallery-data") is None


def test_too_few_runs_and_folders_without_a_run_are_errors(runs, tmp_path, capsys):
    for arguments, message in (
        ([runs[0]], "two to 6 different runs"),
        ([runs[0], runs[0]], "two to 6 different runs"),
        ([runs[0], tmp_path], "folders of runs that were evaluated"),
    ):
        assert compare(*arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
