"""Translates names of weights between systems, by rules that read as a table."""

import functools
import re
from collections.abc import Sequence

Rule = tuple[str, str]
"""A name in this library and its name there: `("layer{i}.conv", "res{i+1}.conv")`.

A field in braces stands for a number, which may be shifted as in `{i+1}`. The field
`{rest}` stands for any text. The fields of both names have the same values.
"""

_FIELD = re.compile(r"\{(\w+)([+-]\d+)?\}")


def rename(name: str, rules: Sequence[Rule]) -> str | None:
    """Translates a name by the first rule that matches it.

    Args:
        name: complete name, which has to match the left side of a rule.
        rules: rules in the order in which they are tried.

    Returns:
        The right side of the rule, filled in; None if no rule matches.

    >>> rename("layer1.0", [("layer{i}.{block}", "res{i+1}.{block}")])
    'res2.0'
    """
    for pattern, template in rules:
        if found := _expression(pattern).fullmatch(name):
            # The left side may have shifts too, if the rule is reversed. They are taken
            # off, so that a value is that of the field without a shift.
            values = found.groupdict()
            for field, shift in _FIELD.findall(pattern):
                if shift:
                    values[field] = str(int(values[field]) - int(shift))
            return _FIELD.sub(functools.partial(_fill, values), template)
    return None


def reverse(rules: Sequence[Rule]) -> list[Rule]:
    """The rules with their sides exchanged, from names there to names here."""
    return [(there, here) for here, there in rules]


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a side of a rule, with a group for every field."""
    parts = _FIELD.split(pattern)  # text, field, shift, text, field, shift, ..., text
    expression = re.escape(parts[0])
    for field, text in zip(parts[1::3], parts[3::3], strict=True):
        kind = ".+" if field == "rest" else r"\d+"
        expression += f"(?P<{field}>{kind}){re.escape(text)}"
    return re.compile(expression)


def _fill(values: dict[str, str], field: re.Match[str]) -> str:
    """The value of a field of a template, shifted if the template says so."""
    name, shift = field.groups()
    return str(int(values[name]) + int(shift)) if shift else values[name]
