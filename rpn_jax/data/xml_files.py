"""Parses XML files of strangers: in any encoding, with any namespace and case.

XML entities are not expanded, so a file cannot grow in memory or read other files.
"""

import codecs
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import defusedxml
import defusedxml.ElementTree

from .lfs import is_lfs_pointer
from .problems import Problem

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>\s*")
_DECLARED = re.compile(rb"^[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._:-]+)[\"']")
# Codecs that hold every character of an older one that tools declare instead.
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}
# Codecs of Python that no file is written in, and that are slow or interpret the text.
_NO_ENCODINGS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "utf_7")


def parse_xml(path: pathlib.Path) -> tuple[ElementTree.Element | None, Problem | None]:
    """Parses a file.

    Args:
        path: the file.

    Returns:
        The root element, or None if the file is not usable; and the problem, or None if
        there is none. Tags are in lower case and without a namespace.
    """
    try:
        content = path.read_bytes()
        root, problem = _parse(content)
    except (OSError, ValueError, LookupError, RecursionError):
        root, problem = None, Problem.BAD_XML
    if root is None:
        return None, Problem.LFS_POINTER if is_lfs_pointer(path) else problem
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2].lower()
    return root, problem


def _parse(content: bytes) -> tuple[ElementTree.Element | None, Problem | None]:
    """The root element by the first encoding that gives well-formed XML."""
    try:
        return defusedxml.ElementTree.fromstring(content), None
    except defusedxml.DefusedXmlException:
        return None, Problem.BAD_XML
    except (ElementTree.ParseError, ValueError, LookupError):
        pass
    # Expat knows few encodings, and some files are in another one than they declare.
    for text in _decoded(content):
        try:
            return defusedxml.ElementTree.fromstring(text), None
        except defusedxml.DefusedXmlException:
            return None, Problem.BAD_XML
        except (ElementTree.ParseError, ValueError):
            continue
    return _parse_as_latin1(content)


def _parse_as_latin1(
    content: bytes,
) -> tuple[ElementTree.Element | None, Problem | None]:
    """The root element with every byte as a character, which keeps tags and numbers."""
    try:
        text = _DECLARATION.sub("", content.decode("latin-1"))
        root = defusedxml.ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None, Problem.BAD_XML
    return root, Problem.UNKNOWN_ENCODING


def _decoded(content: bytes) -> Iterator[str]:
    """The text by the declared encoding and by UTF-8, without its declaration.

    Raises:
        LookupError: there is no such encoding.
    """
    declared = _DECLARED.match(content)
    names: list[str] = []
    if declared:
        names.append(declared.group(1).decode().lower())
    for name in [*names, "utf-8-sig"]:
        codec = codecs.lookup(_SUPERSETS.get(name, name)).name
        if codec.replace("-", "_") in _NO_ENCODINGS:
            raise LookupError(codec)
        try:
            text = content.decode(codec)
        except (UnicodeError, LookupError):
            continue
        yield _DECLARATION.sub("", text.removeprefix("\ufeff"))
