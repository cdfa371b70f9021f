"""What a page consists of: sections with text, tables, charts, pictures and code."""

from collections.abc import Sequence
from typing import NamedTuple

from .charts import Chart
from .gallery import Gallery
from .page_parts import Picture, Table


class Section(NamedTuple):
    """A part of a page; what is empty is left out.

    Attributes:
        name: identifier of the section.
        title: its heading.
        texts: paragraphs.
        tables: tables.
        charts: charts.
        gallery: images with their proposals.
        picture: a picture.
        items: a list.
        code: titles and texts of blocks that keep their line breaks.
    """

    name: str
    title: str
    texts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    gallery: Gallery | None = None
    picture: Picture | None = None
    items: Sequence[str] = ()
    code: Sequence[tuple[str, str]] = ()
