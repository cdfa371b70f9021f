"""How docstrings are read: single backticks are code, and a link to what they name."""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LINK = PyXRefRole()


def name_role(role, rawtext, text, lineno, inliner, options=None, content=()):
    """Links a name of the package, and sets anything else as code."""
    if _NAME.fullmatch(text):
        return _LINK("py:obj", rawtext, text, lineno, inliner, options or {}, content)
    return [nodes.literal(rawtext, text)], []


def skip_field(app, what, name, member, skip, options):
    """Leaves out the fields of a `NamedTuple`, which its docstring lists already."""
    return True if type(member).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the role `name`, the default one, and which members are left out."""
    app.add_role("name", name_role)
    app.connect("autodoc-skip-member", skip_field)
    return {"parallel_read_safe": True}
