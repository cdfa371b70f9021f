"""Writes the pages that follow from the package, so that they cannot drift.

The folder `api` gets a page for each public module, `generated` the tables that pages
include, and `notebooks` a copy of the notebooks. Git ignores all three.
"""

import importlib
import inspect
import json
import pathlib
import types

from sphinx.application import Sphinx
from tables_of_settings import preset_settings

from rpn_jax.data import Problem

MODULES = {
    "rpn_jax": "The network: anchors, targets, losses, proposals",
    "rpn_jax.core.rule_configs": "Settings of single rules of assignment",
    "rpn_jax.presets": "Reference systems as settings",
    "rpn_jax.models": "Backbones and the whole network",
    "rpn_jax.models.interop": "Weights of other systems",
    "rpn_jax.data": "Data sets and batches",
    "rpn_jax.train": "Training",
    "rpn_jax.distributed": "Many processes",
    "rpn_jax.predict": "A model and images to proposals",
    "rpn_jax.label": "A model and images to labels of anchors",
    "rpn_jax.evaluate": "Recall, and files of proposals",
    "rpn_jax.anchor_report": "Do anchors fit a data set?",
    "rpn_jax.plot": "Pictures",
    "rpn_jax.report": "Reports for a browser",
    "rpn_jax.export": "Files for other runtimes",
}


def public_names(module: types.ModuleType) -> list[str]:
    """Lists what a package offers, or what a file defines, modules aside."""
    names = [name for name in vars(module) if not name.startswith("_")]
    values = {name: getattr(module, name) for name in names}
    return [
        name
        for name, value in values.items()
        if not inspect.ismodule(value)
        and (hasattr(module, "__path__") or inspect.getmodule(value) is module)
    ]


def api_page(name: str) -> str:
    """The text of the page of one module."""
    module = importlib.import_module(name)
    names = public_names(module)
    # What a module inside it offers too is on the page of that one alone.
    moved = {
        public: f"~{other.removeprefix(name + '.')}.{public}"
        for other in MODULES
        if other.startswith(f"{name}.")
        for public in public_names(importlib.import_module(other))
    }
    described = [x for x in names if callable(getattr(module, x))]
    return "\n".join(
        [name, "=" * len(name), ""]
        + [f".. automodule:: {name}", "   :no-members:", ""]
        + [".. autosummary::", "", *(f"   {moved.get(x, x)}" for x in described), ""]
        + [_directive(module, x) for x in names if x not in moved]
    )


def _directive(module: types.ModuleType, name: str) -> str:
    value = getattr(module, name)
    if inspect.isclass(value):
        return f".. autoclass:: {name}\n"
    if inspect.isroutine(value):
        return f".. autofunction:: {name}\n"
    return f".. autodata:: {name}\n   :no-value:\n"


def api_index() -> str:
    """The text of the page that lists the modules."""
    rows = [f"| [`{name}`]({name}.rst) | {title} |" for name, title in MODULES.items()]
    pages = ["```{toctree}", ":hidden:", "", *MODULES, "```"]
    head = ["# API", "", "Every public name has its docstring here, by module.", ""]
    return "\n".join(
        [*head, "| module | content |", "|---|---|", *rows, "", *pages, ""]
    )


def repairs() -> str:
    """A table of the problems that data can have, with the rule for each."""
    rows = [
        "| `{}` | {} | {} |".format(problem.name, *problem.value.split(": ", 1))
        for problem in Problem
    ]
    return "\n".join(["| name | problem | rule |", "|---|---|---|", *rows, ""])


def notebook(path: pathlib.Path) -> str:
    """A notebook without its first cell, which installs the package on Colab."""
    content = json.loads(path.read_text())
    return json.dumps(content | {"cells": content["cells"][1:]})


def write_pages(app: Sphinx) -> None:
    """Writes all pages into the source folder, touching only what changes."""
    docs = pathlib.Path(app.srcdir)
    for name in MODULES:
        _write(docs / "api" / f"{name}.rst", api_page(name))
    _write(docs / "api/index.md", api_index())
    _write(docs / "generated/presets.md", preset_settings())
    _write(docs / "generated/repairs.md", repairs())
    for path in (docs.parent / "notebooks").glob("*.ipynb"):
        _write(docs / "notebooks" / path.name, notebook(path))


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Writes the pages before Sphinx looks for them."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
