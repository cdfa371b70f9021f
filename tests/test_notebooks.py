"""The notebooks as committed: run in order, complete, and with the numbers they claim.

`pytest --nbmake notebooks` runs them again. The last cell of each notebook then
compares its results with the same numbers.
"""

import ast
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 2_000_000  # bytes per file
WIDEST = 110  # characters that a browser shows on one line

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="only a checkout has the notebooks"
)


@pytest.fixture(params=PATHS, ids=lambda path: path.stem[:2])
def cells(request):
    return json.loads(request.param.read_text())["cells"]


def code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def printed(cell):
    outputs = [x for x in cell["outputs"] if x["output_type"] == "stream"]
    return "".join("".join(x["text"]) for x in outputs)


def expected_numbers(cell):
    """The dictionary that the last cell compares its numbers with."""
    for statement in ast.parse(source(cell)).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="expected")], value=value):
                return ast.literal_eval(value)
    return {}


def test_all_notebooks_begin_with_the_same_cell():
    first = [json.loads(path.read_text())["cells"][0]["source"] for path in PATHS]
    assert first == first[:1] * len(PATHS)


def test_the_first_cell_installs_and_the_second_is_a_title(cells):
    assert cells[0]["cell_type"] == "code"
    assert '%pip install -q "{package}[train]" "{with_device}"' in source(cells[0])
    assert cells[1]["cell_type"] == "markdown"
    assert source(cells[1]).startswith("# ")


def nvidia_smi(driver):
    """A `subprocess.run` that answers as `nvidia-smi` does when asked for drivers."""

    def run(command, **options):
        assert command[0] == "nvidia-smi"
        assert "--query-gpu=driver_version" in command
        assert options == {"capture_output": True, "text": True, "check": False}
        return subprocess.CompletedProcess(command, 0, stdout=driver, stderr="")

    return run


@pytest.mark.parametrize(
    ("driver", "modules", "with_device"),
    [
        (None, [], "jax"),
        ("580.65.06\n", [], "jax[cuda13]"),
        ("590.10\n590.10\n", ["libtpu"], "jax[cuda13]"),
        ("579.99\n", [], "jax[cuda12]"),
        ("NVIDIA-SMI has failed because it found no driver.\n", [], "jax[cuda12]"),
        ("", [], "jax[cuda12]"),
        (None, ["libtpu"], "jax[tpu]"),
    ],
)
@pytest.mark.parametrize("wheels", [[], ["rpn_jax-9.9.9-py3-none-any.whl"]])
def test_the_first_cell_asks_for_the_jax_of_the_device(
    cells, driver, modules, with_device, wheels, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for wheel in wheels:
        (tmp_path / wheel).touch()
    monkeypatch.setattr(
        shutil, "which", lambda name: name if driver is not None else None
    )
    monkeypatch.setattr(subprocess, "run", nvidia_smi(driver))
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name if name in modules else None
    )
    names = {}
    exec(source(cells[0]).replace("%pip", "pass  #"), names)
    assert names["package"] == (wheels or ["rpn-jax"])[0]
    assert names["with_device"] == with_device


def test_every_cell_ran_in_order(cells):
    order = [cell["execution_count"] for cell in code(cells)]
    assert order == list(range(1, len(order) + 1))


def test_there_are_pictures_and_no_errors_or_warnings(cells):
    outputs = [output for cell in code(cells) for output in cell["outputs"]]
    assert {x["output_type"] for x in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert {x["name"] for x in outputs if x["output_type"] == "stream"} == {"stdout"}
    pictures = [kind for x in outputs for kind in x.get("data", {}) if "image/" in kind]
    assert pictures


def test_no_printed_line_is_too_wide_to_read(cells):
    lines = [line for cell in code(cells)[:-1] for line in printed(cell).splitlines()]
    assert max(map(len, lines)) <= WIDEST


def test_the_committed_numbers_are_those_that_a_run_is_compared_with(cells):
    last = code(cells)[-1]
    expected = expected_numbers(last)
    assert expected
    assert json.loads(printed(last))["headline"] == pytest.approx(expected, rel=0.01)
    assert "assert_allclose(headline[name], value" in source(last)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem[:2])
def test_a_notebook_is_small_enough_to_commit(path):
    assert path.stat().st_size < LARGEST
