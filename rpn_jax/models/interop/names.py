"""Names of one system as names of another, by rules that read as a table."""

import functools
import re
from collections.abc import Sequence

Rule = tuple[str, str]
"""A name here and the same there: `("layer{i}.{block}", "res{i+1}.{block}")`.

A field in braces stands for a number, in both names the same but for what is added to
it; `{rest}` stands for anything.
"""

_FIELD = re.compile(r"\{(\w+)([+-]\d+)?\}")


def rename(name: str, rules: Sequence[Rule]) -> str | None:
    """What the first rule with this name on its left has on its right.

    Args:
        name: the whole of it.
        rules: in the order in which they are tried.

    Returns:
        The other name; None if no rule has this one.

    >>> rename("layer1.0", [("layer{i}.{block}", "res{i+1}.{block}")])
    'res2.0'
    """
    for pattern, template in rules:
        if found := _expression(pattern).fullmatch(name):
            values = found.groupdict()
            for field, shift in _FIELD.findall(pattern):
                if shift:
                    values[field] = str(int(values[field]) - int(shift))
            return _FIELD.sub(functools.partial(_fill, values), template)
    return None


def reverse(rules: Sequence[Rule]) -> list[Rule]:
    """The rules from there to here."""
    return [(there, here) for here, there in rules]


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts = _FIELD.split(pattern)  # text, field, shift, text, field, shift, ..., text
    expression = re.escape(parts[0])
    for field, text in zip(parts[1::3], parts[3::3], strict=True):
        kind = ".+" if field == "rest" else r"\d+"
        expression += f"(?P<{field}>{kind}){re.escape(text)}"
    return re.compile(expression)


def _fill(values: dict[str, str], field: re.Match[str]) -> str:
    name, shift = field.groups()
    return str(int(values[name]) + int(shift)) if shift else values[name]
