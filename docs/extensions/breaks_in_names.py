"""Lets long names break where their words end, and nowhere else.

A browser breaks a name such as `BalancedPositiveNegativeSampler` nowhere, or anywhere.
A `<wbr>` marks the places where it may, in tables, headings and signatures:

* after `_` and `.`, if a word follows;
* in tables, also before a capital letter between two small ones;
* in signatures, also before the last name, and after `(`, `=` and a comma.

It adds no character, so a copied name is whole.
"""

import re
from typing import Any

from sphinx.application import Sphinx

_PLACE = re.compile(
    r"<table.*?</table>|<h[1-6]>.*?</h[1-6]>|<dt class=\"sig .*?</dt>", re.DOTALL
)
_NAME = re.compile(r'(?<=<span class="pre">)[^<]+(?=</span>)')
_TEXT = re.compile(r"(?<=>)[^<]+(?=<)")
_END_OF_WORD = re.compile(r"(?<=[_.])(?=\w)|(?<=[a-z])(?=[A-Z][a-z])")
_AFTER_MARK = re.compile(r"(?<=[_.])(?=[A-Za-z])")
_IN_SIGNATURE = re.compile(r"(?<=[_.])(?=[A-Za-z])|(?<=[(=])(?=\w)|(?<=, )(?=\w)")
_PART_OF_SIGNATURE = re.compile(
    r'<span class="sig-prename descclassname">.*?</span></span>'
    r'|<span class="sig-paren">\(</span>'
)


def mark_breaks(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Marks the ends of words in the names of a page."""
    if "body" in context:
        context["body"] = _PLACE.sub(_with_breaks, context["body"])


def _with_breaks(place: re.Match[str]) -> str:
    html = place[0]
    if html.startswith("<table"):
        return _NAME.sub(lambda name: _END_OF_WORD.sub("<wbr>", name[0]), html)
    if html.startswith("<dt"):
        html = _PART_OF_SIGNATURE.sub(r"\g<0><wbr>", html)
        return _TEXT.sub(lambda text: _IN_SIGNATURE.sub("<wbr>", text[0]), html)
    return _TEXT.sub(lambda text: _AFTER_MARK.sub("<wbr>", text[0]), html)


def setup(app: Sphinx) -> dict[str, bool]:
    """Marks the names when a page is written."""
    app.connect("html-page-context", mark_breaks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
