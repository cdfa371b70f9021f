"""Lets long names in tables break where their words end, and nowhere else.

A browser breaks a name such as `BalancedPositiveNegativeSampler` nowhere, or anywhere.
A `<wbr>` marks the places where it may: after `_` and `.`, and before a capital letter
between two small ones. It adds no character, so a copied name is whole.
"""

import re
from typing import Any

from sphinx.application import Sphinx

_TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
_NAME = re.compile(r'(?<=<span class="pre">)[^<]+(?=</span>)')
_END_OF_WORD = re.compile(r"(?<=[_.])(?=\w)|(?<=[a-z])(?=[A-Z][a-z])")


def mark_breaks(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Marks the ends of words in the names of a page's tables."""
    if "body" in context:
        context["body"] = _TABLE.sub(_with_breaks, context["body"])


def _with_breaks(table: re.Match[str]) -> str:
    return _NAME.sub(lambda name: _END_OF_WORD.sub("<wbr>", name[0]), table[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Marks the names when a page is written."""
    app.connect("html-page-context", mark_breaks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
