"""Writes a page: one HTML file with its style, its script, its numbers and images."""

import functools
import importlib
import importlib.resources
import os
from typing import Any, NamedTuple

from ..atomic_file import replace_file
from .sections import Section


class Page(NamedTuple):
    """A page.

    Attributes:
        title: its title.
        lead: what it is about, in a sentence.
        sections: its parts.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]


def write_page(page: Page, path: str | os.PathLike[str]) -> None:
    """Writes a page, whole or not at all.

    Args:
        page: the content.
        path: the HTML file.

    Raises:
        ModuleNotFoundError: plotly or jinja2 is not installed.

    >>> import pathlib, tempfile
    >>> from rpn_jax.report import Section
    >>> page = Page("Photos", "A run.", (Section("summary", "Summary", ["Good."]),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "page.html"
    ...     write_page(page, path)
    ...     path.read_text()[:15]
    '<!doctype html>'
    """
    # The name of a file may have bytes that are not UTF-8; they become a "?".
    content = render(page).encode("utf-8", errors="replace")
    with replace_file(path) as draft:
        draft.write_bytes(content)


def render(page: Page) -> str:
    """The HTML of a page. Every value is escaped, and no part of it needs a network.

    Args:
        page: the content.

    >>> from rpn_jax.report import Section
    >>> section = Section("summary", "Summary", ["A file is called <img>."])
    >>> "called &lt;img&gt;" in render(Page("Photos", "A run.", (section,)))
    True
    """
    charts = [chart for section in page.sections for chart in section.charts]
    galleries = [s.gallery.content for s in page.sections if s.gallery is not None]
    plotly = importlib.import_module("plotly.offline").get_plotlyjs() if charts else ""
    return _template().render(
        page=page,
        figures=[chart.figure() for chart in charts],
        gallery=galleries[0] if galleries else None,
        plotly=plotly,
        style=_resource("page.css"),
        script=_resource("page.js"),
    )


@functools.cache
def _template() -> Any:
    jinja2 = importlib.import_module("jinja2")
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    # Numbers that are not finite are no JSON; `tojson` also escapes `</script>`.
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return environment.from_string(_resource("page.html"))


def _resource(name: str) -> str:
    folder = importlib.resources.files(__package__ or __name__.rpartition(".")[0])
    return folder.joinpath(name).read_text(encoding="utf-8")
