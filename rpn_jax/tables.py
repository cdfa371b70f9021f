"""Formats tables of text for reports and the command line."""

from collections.abc import Sequence


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Formats rows of text as a Markdown table with aligned columns.

    Args:
        rows: the cells of each row. The first row is the header.

    Returns:
        The lines of the table. The first column is aligned left, the others right.

    >>> print(format_table([["size", "boxes"], ["small", "7"]]))
    | size  | boxes |
    |:------|------:|
    | small |     7 |
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells):
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(w) for cell, w in others)]
        return f"| {' | '.join(padded)} |"

    rule = [f":{'-' * (widths[0] + 1)}", *(f"{'-' * (w + 1)}:" for w in widths[1:])]
    return "\n".join([line(rows[0]), f"|{'|'.join(rule)}|", *map(line, rows[1:])])
