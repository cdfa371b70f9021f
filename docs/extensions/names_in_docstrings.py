"""How docstrings are read: single backticks are code, and a link to what they name."""

import inspect
import re

from docutils import nodes
from flax import nnx
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
    """Leaves out fields and their defaults, which signature and docstring list."""
    is_kept = inspect.isroutine(member) or isinstance(member, property)
    return None if is_kept else True


def signature_of_module(app, what, name, obj, options, signature, annotation):
    """The arguments of the constructor, which the metaclass of Flax hides."""
    if what == "class" and issubclass(obj, nnx.Module):
        own = list(inspect.signature(obj.__init__).parameters.values())[1:]
        bare = [x.replace(annotation=inspect.Parameter.empty) for x in own]
        return str(inspect.Signature(bare)), None
    return None


def drop_generated_text(app, what, name, obj, options, lines):
    """Leaves out what Python says about the type of a constant or of a `NamedTuple`."""
    is_constant = what == "data" and inspect.getdoc(obj) == inspect.getdoc(type(obj))
    lines[:] = [
        line
        for line in lines
        if not is_constant and not line.startswith("Create new instance of ")
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the role `name`, the default one, and what autodoc shows."""
    app.add_role("name", name_role)
    app.connect("autodoc-skip-member", skip_field)
    app.connect("autodoc-process-docstring", drop_generated_text)
    app.connect("autodoc-process-signature", signature_of_module)
    return {"parallel_read_safe": True}
