"""What is installed: the version, the promised names, and what importing them costs."""

import ast
import collections
import importlib.metadata
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import rpn_jax

PROMISED = (
    "AnchorConfig",
    "AnchorGrid",
    "CascadeConfig",
    "CascadeHead",
    "LossConfig",
    "Matches",
    "NMSResult",
    "Proposals",
    "ProposalConfig",
    "RPNConfig",
    "RPNHead",
    "RPNLosses",
    "RPNOutput",
    "TargetConfig",
    "Targets",
    "assign_targets",
    "cell_anchors",
    "clip_boxes",
    "decode_boxes",
    "encode_boxes",
    "make_anchors",
    "match_anchors",
    "nms",
    "pairwise_iou",
    "presets",
    "propose",
    "rpn_loss",
    "sample_anchors",
)
# What the edges import and the core must not, although it may be installed.
EDGES = (
    *("PIL", "faster_coco_eval", "grain", "jinja2", "matplotlib", "plotly"),
    *("torch", "tqdm", "tyro"),
)

PACKAGE = pathlib.Path(rpn_jax.__file__).parent
PUBLIC_FILES = ("label.py", "presets.py", "predict.py")


@pytest.fixture(scope="module")
def distribution():
    try:
        return importlib.metadata.distribution("rpn-jax")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('rpn_jax is not installed: pip install -e ".[test]"')


def names(lines):
    return {re.split(r"[^A-Za-z0-9-]", line)[0] for line in lines}


def test_version_is_that_of_the_distribution(distribution):
    assert rpn_jax.__version__ == distribution.version
    assert re.fullmatch(r"\d+\.\d+\.\d+", rpn_jax.__version__)


def test_citation_has_the_same_version():
    citation = pathlib.Path(__file__).parents[1] / "CITATION.cff"
    if not citation.exists():
        pytest.skip("CITATION.cff lies in the checkout alone")
    (version,) = re.findall(r"(?m)^version: (.*)$", citation.read_text())
    assert version == rpn_jax.__version__


def test_core_needs_six_distributions_only(distribution):
    core = [line for line in distribution.requires if "extra ==" not in line]
    assert names(core) == {"jax", "jaxlib", "flax", "optax", "jaxtyping", "beartype"}


@pytest.mark.parametrize("extra", ["train", "test"])
def test_extra_exists_and_never_asks_for_torch(distribution, extra):
    wanted = [line for line in distribution.requires if f"extra == '{extra}'" in line]
    assert wanted
    assert "torch" not in names(wanted)


def test_metadata_names_the_license_and_the_python(distribution):
    assert distribution.metadata["License-Expression"] == "Apache-2.0"
    assert distribution.metadata["Requires-Python"] == ">=3.11"


def test_distribution_holds_one_package_and_its_license(distribution):
    files = distribution.files
    licenses = [file for file in files if file.name == "LICENSE"]
    assert "Apache License" in licenses[0].read_text()
    modules = {file.parts[0] for file in files if file.suffix == ".py"}
    modules = {name for name in modules if not name.startswith("_")}
    assert modules <= {"rpn_jax"}


@pytest.mark.parametrize("name", PROMISED)
def test_promised_name_exists_and_is_documented(name):
    assert inspect.getdoc(getattr(rpn_jax, name))


def test_every_public_name_is_documented():
    public = [name for name in vars(rpn_jax) if not name.startswith("_")]
    bare = [name for name in public if not inspect.getdoc(getattr(rpn_jax, name))]
    assert not bare


def public_functions():
    """The nodes of all public functions, by `(file, name)`; nothing is imported.

    A package offers what its `__init__` imports under the same name, and a file that is
    public itself what it defines.
    """
    defined = {
        (path, node.name): node
        for path in PACKAGE.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    offered = {
        (init.parents[node.level - 1].joinpath(*node.module.split(".")), alias.name)
        for init in PACKAGE.rglob("__init__.py")
        for node in ast.walk(ast.parse(init.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level and node.module
        for alias in node.names
        if alias.asname == alias.name
    }
    return {
        (path, name): node
        for (path, name), node in defined.items()
        if (path.with_suffix(""), name) in offered
        or (path.name in PUBLIC_FILES and not name.startswith("_"))
    }


def test_every_public_function_has_an_example():
    found = public_functions()
    assert len(found) > 130
    docs = {place: ast.get_docstring(node) or "" for place, node in found.items()}
    assert not [place for place, doc in docs.items() if ">>> " not in doc]


def test_import_touches_no_edge_and_no_device_and_checks_shapes():
    code = (
        "import sys, rpn_jax; from jax._src import xla_bridge; "
        f"print([name for name in {EDGES} if name in sys.modules]); "
        "print(xla_bridge.backends_are_initialized()); "
        "import numpy; from rpn_jax.core.boxes import area; "
        "area(numpy.zeros((2, 5), numpy.float32))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout.split() == ["[]", "False"]
    assert done.returncode != 0
    assert "boxes" in done.stderr


def test_no_two_files_share_a_name():
    paths = pathlib.Path(rpn_jax.__file__).parent.rglob("*.py")
    count = collections.Counter(path.name for path in paths)
    assert [name for name, n in count.items() if n > 1] == ["__init__.py"]


def test_source_has_no_suppression():
    pattern = re.compile(r"type: ignore|pyright: ignore|# noqa")
    sources = pathlib.Path(rpn_jax.__file__).parent.rglob("*.py")
    assert not [path for path in sources if pattern.search(path.read_text())]
